"""Reading images, with errors that name the file."""

from __future__ import annotations

import cv2
import mmcv

from mmarcface.datasets.formats.packed import read_packed_image
from mmarcface.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadImageFromFile(mmcv.transforms.LoadImageFromFile):
    """Read ``img_path`` into ``img``, (H, W, 3), uint8 in [0, 255], BGR.

    Arguments are those of mmcv's transform of the same name. OpenCV decides what is read, see
    :mod:`mmarcface.datasets.formats.image_files`: the upper 8 of 16 bits, the first image of an
    animation or of several pages, and no transparency. Images inside ``.rec`` and ``.bin`` files
    are read by their URI, see :mod:`mmarcface.datasets.formats.packed`. A sample that has its image
    already, as inferencers give it, is left as it is.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not an image that can be read.
    """

    def transform(self, results: dict) -> dict | None:
        """Add ``img``, ``img_shape`` and ``ori_shape`` to a sample."""
        if 'img' in results:
            return results
        path = results['img_path']
        content = read_packed_image(path)
        try:
            if content is None:
                return super().transform(results)
            # As mmcv does, without looking for a file backend each time.
            image = mmcv.imfrombytes(content, self.color_type, backend=self.imdecode_backend)
            shape = image.shape[:2]
        except FileNotFoundError as error:
            raise FileNotFoundError(f'image {path} does not exist') from error
        except (AssertionError, AttributeError, cv2.error, OSError) as error:
            if self.ignore_empty:
                return None
            raise ValueError(
                f'image {path} cannot be read: it is empty, cut short or not an image that OpenCV '
                'reads; replace it or remove it from the data set'
            ) from error
        image = image.astype('float32') if self.to_float32 else image
        return results | dict(img=image, img_shape=shape, ori_shape=shape)
