"""A folder of folders, one for each identity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmarcface.registry import DATASETS

from .formats.image_files import find_images, log_left_out
from .identity_dataset import IdentityDataset

# A file that is in a folder while it is being written.
UNFINISHED = '.unfinished'


@DATASETS.register_module()
class IdentityFolder(IdentityDataset):
    """Images in one folder for each identity.

    Layout, as of CASIA-WebFace, VGGFace2 or your own data::

        data_root/
            identity_a/
                any_name.jpg
                deeper/folders/too.png
            identity_b/
                ...

    Labels count the identities from 0, in the order of ``identities``. All files that OpenCV reads
    are images: the endings of their names tell, and the content of files with other names. A line
    in the log counts the other files. Files and folders whose names start with a dot, which
    programs leave behind, are passed over.

    Args:
        data_root: the folder of folders.
        identities: names of the folders to use; all, sorted by name, by default.
        extensions: endings of image files, such as '.jpg', to use only files with these; see above
            for the default.
        **kwargs: see :class:`IdentityDataset`.

    Raises:
        FileNotFoundError: if ``data_root`` or one of ``identities`` does not exist.
        ValueError: if there are no identities, one has no image, the folder is being written, or
            ``extensions`` are not endings.
    """

    def __init__(
        self,
        data_root: str,
        identities: Sequence[str] | None = None,
        extensions: Sequence[str] | None = None,
        **kwargs,
    ):
        if extensions is not None:
            if isinstance(extensions, str) or not all(e.startswith('.') for e in extensions):
                raise ValueError(
                    "extensions must be a list of endings with their dots, such as ['.jpg'], got "
                    f'{extensions!r}'
                )
            extensions = tuple(extension.lower() for extension in extensions)
        if identities is not None:
            _check_identities(identities)
        self.identities = identities
        self.extensions = extensions
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
        samples, left_out = [], []
        for label, name in enumerate(names):
            folder = root / name
            if not folder.is_dir():
                raise FileNotFoundError(f'identity {name!r} has no folder in {root}')
            images, others = find_images(str(folder), self.extensions)
            if not images:
                which = f' with the extensions {self.extensions}' if self.extensions else ''
                raise ValueError(
                    f'identity folder {folder} has no image{which} among its {len(others)} files: '
                    'remove it, or name the identities to use'
                )
            samples += [dict(img_path=path, gt_label=label, identity=name) for path in images]
            left_out += others
        if self.extensions is None:
            self._log_left_out(root, left_out)
        self._metainfo['classes'] = tuple(names)
        return samples

    def _log_left_out(self, root: Path, left_out: list[str]) -> None:
        """Count the files that are not used and that no argument leaves out."""
        if self.identities is None:
            left_out = left_out + sorted(
                str(path)
                for path in root.iterdir()
                if not path.is_dir() and not path.name.startswith('.')
            )
        log_left_out(str(root), left_out, 'no image, or not in the folder of an identity', self)


def _check_identities(identities: Sequence[str]) -> None:
    if isinstance(identities, str) or not all(isinstance(name, str) for name in identities):
        raise ValueError(f'identities must be a list of names of folders, got {identities!r}')
    seen = set()
    for name in identities:
        if name in ('', '.', '..') or Path(name).name != name:
            raise ValueError(f'identities must be folders of data_root itself, got {name!r}')
        if name in seen:
            raise ValueError(f'identities must differ, as each is a class, got {name!r} twice')
        seen.add(name)
