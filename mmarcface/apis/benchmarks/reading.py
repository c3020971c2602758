"""Speed of reading images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from mmengine.dataset import default_collate
from mmpretrain.datasets import PackInputs
from torch.utils.data import DataLoader

from mmarcface.datasets import IdentityFolder, IdentityRecords, LoadImageFromFile, ORLFaces, convert

from .timing import best_times


def measure_reading(
    images: int = 2000,
    folder: str | Path | None = None,
    workers: Sequence[int] = (0, 1, 2),
    rounds: int = 15,
) -> list[dict]:
    """Reading images from a .rec file and from a folder, against cv2.imdecode of the same bytes.

    The limit decodes from memory; the files are in the page cache after the first round. The images
    are the ORL faces as JPEG files of 112 x 112 pixels, or those of a folder of identities. With
    workers a DataLoader packs the images into batches of 128.

    Args:
        images: number of images to write.
        folder: folder of identities to read instead.
        workers: numbers of DataLoader workers.
        rounds: number of rounds, of which the fastest counts.

    Returns:
        A row for each source.
    """
    with TemporaryDirectory() as scratch:
        root = Path(scratch)
        source = folder
        if source is None:
            source = root / 'orl'
            faces = ORLFaces(pipeline=[LoadImageFromFile()])
            for place in range(images):
                sample = faces[place % len(faces)]
                path = source / str(sample['gt_label']) / f'{place}.jpg'
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), cv2.resize(sample['img'], (112, 112)))
        convert.to_records(convert.open_source(source), root / 'faces.rec')
        load = [LoadImageFromFile()]
        of_folder = IdentityFolder(str(source), pipeline=load)
        records = IdentityRecords(str(root / 'faces.rec'), pipeline=load)
        contents = [Path(info['img_path']).read_bytes() for info in of_folder.load_data_list()]

        def decode() -> None:
            for content in contents:
                cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)

        def read(dataset: IdentityFolder | IdentityRecords) -> None:
            for place in range(len(dataset)):
                dataset[place]

        candidates = {
            'limit': decode,
            '.rec': lambda: read(records),
            'folder': lambda: read(of_folder),
        }
        pipeline = [*load, PackInputs()]
        for number in workers:
            packed = IdentityRecords(str(root / 'faces.rec'), pipeline=pipeline)
            loader = DataLoader(
                packed,
                128,
                num_workers=number,
                collate_fn=default_collate,
                persistent_workers=number > 0,
            )
            candidates[f'.rec, {number} workers, packed'] = lambda loader=loader: list(loader)
        for run in candidates.values():
            run()
        seconds = best_times(candidates, rounds)
    return [
        {
            'source': name,
            'images/s': len(contents) / seconds[name],
            'ratio': seconds['limit'] / seconds[name],
        }
        for name in candidates
    ]
