"""DeepFashion In-Shop Clothes Retrieval."""

from __future__ import annotations

from pathlib import Path

from mmarcface.registry import DATASETS

from .formats.text_lists import read_lines, split_fields
from .identity_dataset import IdentityDataset

STATUSES = ('train', 'query', 'gallery')
SPLITS = {status: (status,) for status in STATUSES} | {'test': ('query', 'gallery')}
HOMEPAGE = 'https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/InShopRetrieval.html'


@DATASETS.register_module()
class InShop(IdentityDataset):
    """In-shop clothes, each item photographed several times.

    Layout, after unpacking what the
    `homepage <https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/InShopRetrieval.html>`_ gives::

        data_root/
            Eval/list_eval_partition.txt
            Img/img/WOMEN/...

    The list starts with the number of images and the names of the columns; each line after them is
    ``image_name item_id status``, with status train, query or gallery. 25,882 images of 3,997 items
    are for training; 14,218 queries are searched among 12,612 images, of 3,985 other items.

    Args:
        data_root: the folder shown above.
        split: 'train', 'query', 'gallery', or 'test' for query and gallery in one data set.
            Labels count the items of train, or those of query and gallery, in order of appearance.
            Outside train, ``metainfo['roles']`` lists the roles of the samples.
        **kwargs: see :class:`IdentityDataset`.

    Raises:
        FileNotFoundError: if the list or an image is missing; it says what to fetch from where.
        ValueError: if the split is unknown, or a line breaks the format or names a query without
            an image of its item in the gallery.
    """

    def __init__(self, data_root: str, split: str = 'train', **kwargs):
        if split not in SPLITS:
            raise ValueError(f'split must be one of {list(SPLITS)}, got {split!r}')
        self.split = split
        super().__init__(
            ann_file='Eval/list_eval_partition.txt',
            data_root=data_root,
            data_prefix='Img',
            **kwargs,
        )
        if split != 'train':
            self._metainfo['roles'] = SPLITS[split]

    def load_data_list(self) -> list[dict]:
        """One dict for each image: ``img_path``, ``gt_label`` and, outside train, ``role``."""
        if not Path(self.ann_file).is_file():
            raise FileNotFoundError(
                f'{self.ann_file} does not exist. Fetch the In-shop Clothes Retrieval Benchmark '
                f'(img.zip and list_eval_partition.txt) from {HOMEPAGE} and unpack it as '
                f'{self.data_root}/Eval/list_eval_partition.txt and {self.data_root}/Img/img/...'
            )
        rows = self._read()
        in_gallery = {item for _, _, item, status in rows if status == 'gallery'}
        labels, samples = {'train': {}, 'test': {}}, []
        for number, name, item, status in rows:
            if status == 'query' and item not in in_gallery:
                raise ValueError(
                    f'{self.ann_file}:{number}: a query needs an image of its item in the gallery, '
                    f'item {item} has none'
                )
            items = labels['train' if status == 'train' else 'test']
            label = items.setdefault(item, len(items))
            if status not in SPLITS[self.split]:
                continue
            path = Path(self.img_prefix, name)
            if not path.is_file():
                raise FileNotFoundError(
                    f'{self.ann_file}:{number}: image {path} does not exist: is img.zip of '
                    f'{HOMEPAGE} unpacked in {self.img_prefix}?'
                )
            sample = dict(img_path=str(path), gt_label=label)
            samples.append(sample if status == 'train' else sample | dict(role=status))
        if not samples:
            raise ValueError(f'{self.ann_file} lists no image with status {self.split!r}')
        self._metainfo['classes'] = tuple(labels['train' if self.split == 'train' else 'test'])
        return samples

    def _read(self) -> list[tuple[int, str, str, str]]:
        """Line number, image, item and status of every line."""
        lines = read_lines(self.ann_file)
        rows = []
        if len(lines) > 1 and split_fields(lines[1], 3)[-1:] in ([s] for s in STATUSES):
            raise ValueError(
                f'{self.ann_file}:2: the second line must name the columns, "image_name item_id '
                f'evaluation_status"; got {lines[1]!r}'
            )
        for number, line in enumerate(lines[2:], 3):
            fields = split_fields(line, 3)
            if len(fields) != 3 or fields[2] not in STATUSES:
                raise ValueError(
                    f'{self.ann_file}:{number}: a line must be "image_name item_id status" with '
                    f'status one of {", ".join(STATUSES)}; got {line!r}'
                )
            rows.append((number, *fields))
        announced = lines[0].strip() if lines else ''
        if announced != str(len(rows)):
            raise ValueError(
                f'{self.ann_file}:1: the first line must be the number of images, {len(rows)} '
                f'here; got {announced!r}. Is the file cut short?'
            )
        return rows
