"""A folder of folders, one for each identity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmarcface.registry import DATASETS

from .labelled import LabelledDataset

# In a folder that is being written.
UNFINISHED = '.unfinished'


@DATASETS.register_module()
class IdentityFolder(LabelledDataset):
    """Images in one folder for each identity.

    Layout, as of CASIA-WebFace, VGGFace2 or your own data::

        data_root/
            identity_a/
                any_name.jpg
                deeper/folders/too.png
            identity_b/
                ...

    Labels count the identities from 0, in the order of ``identities``. Files and folders whose
    names start with a dot, which programs leave behind, are no images and no identities.

    Args:
        data_root: the folder of folders.
        identities: names of the folders to use; all, sorted by name, by default.
        extensions: endings of image files, in lower case; other files are not images.
        **kwargs: see :class:`LabelledDataset`.

    Raises:
        FileNotFoundError: if ``data_root`` or one of ``identities`` does not exist.
        ValueError: if there are no identities, one has no image, or the folder is being written.
    """

    def __init__(
        self,
        data_root: str,
        identities: Sequence[str] | None = None,
        extensions: Sequence[str] = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif'),
        **kwargs,
    ):
        self.identities = identities
        self.extensions = tuple(extensions)
        super().__init__(ann_file='', data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        """One dict for each image: ``img_path``, ``gt_label`` and the ``identity``'s name."""
        root = Path(self.data_root)
        if not root.is_dir():
            raise FileNotFoundError(
                f'data_root {root} is not a folder: it must hold one folder of images for each '
                'identity (data_root/identity/image.jpg)'
            )
        if (root / UNFINISHED).exists():
            raise ValueError(
                f'{root} is not complete: run the tools/convert.py again that was to write it'
            )
        names = self.identities
        if names is None:
            names = sorted(
                folder.name
                for folder in root.iterdir()
                if folder.is_dir() and not folder.name.startswith('.')
            )
        if not names:
            raise ValueError(f'data_root {root} holds no folders: one for each identity is needed')
        samples = []
        for label, name in enumerate(names):
            folder = root / name
            if not folder.is_dir():
                raise FileNotFoundError(f'identity {name!r} has no folder in {root}')
            images = sorted(
                path
                for path in folder.rglob('*')
                if path.suffix.lower() in self.extensions
                and not any(part.startswith('.') for part in path.relative_to(folder).parts)
            )
            if not images:
                raise ValueError(
                    f'identity folder {folder} has no image ({" ".join(self.extensions)}): remove '
                    'it, or name the identities to use'
                )
            samples += [dict(img_path=str(path), gt_label=label, identity=name) for path in images]
        self._metainfo['classes'] = tuple(names)
        return samples
