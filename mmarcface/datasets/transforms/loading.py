"""Reading images, with errors that name the file."""

from __future__ import annotations

import cv2
import mmcv

from mmarcface.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadImageFromFile(mmcv.transforms.LoadImageFromFile):
    """Read ``img_path`` into ``img``, (H, W, 3), uint8 in [0, 255], BGR.

    Arguments as mmcv's transform of the same name, which it specialises.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not an image that can be read.
    """

    def transform(self, results: dict) -> dict | None:
        """Add ``img``, ``img_shape`` and ``ori_shape`` to a sample."""
        path = results['img_path']
        try:
            return super().transform(results)
        except FileNotFoundError as error:
            raise FileNotFoundError(f'image {path} does not exist') from error
        except (AssertionError, cv2.error, OSError) as error:
            raise ValueError(
                f'image {path} cannot be read: it is empty, cut short or not an image; replace it '
                'or remove it from the data set'
            ) from error
