"""Several benchmarks of pairs as one, evaluated in one loop."""

from __future__ import annotations

from mmarcface.registry import DATASETS

from .formats.pairs import Pairs
from .subsets import SubsettableDataset


@DATASETS.register_module()
class VerificationSets(SubsettableDataset):
    """Several sets of pairs, such as LFW, CFP-FP and AgeDB-30, for one :class:`VerificationMetric`.

    The metric gives figures of each by its name, such as ``verification/lfw/Accuracy``, and the
    mean accuracy, ``verification/Accuracy``.

    Args:
        sets: configs of data sets with pairs (:class:`LFW`, :class:`VerificationBin`), by name,
            without pipelines.
        **kwargs: see :class:`mmpretrain.datasets.BaseDataset`; ``pipeline`` prepares all samples.

    Raises:
        ValueError: if there are no sets, or one has no pairs; else as the sets.
    """

    def __init__(self, sets: dict[str, dict], **kwargs):
        if not sets:
            raise ValueError('sets must name data sets with pairs, got none')
        self.sets = sets
        super().__init__(ann_file='', **kwargs)

    def load_data_list(self) -> list[dict]:
        """The samples of all sets, one set after the other; labels are not shared."""
        samples, pairs, num_labels = [], {}, 0
        for name, config in self.sets.items():
            part = DATASETS.build(config)
            if not isinstance(part.metainfo.get('pairs'), Pairs):
                raise ValueError(
                    f'sets[{name!r}] must be a data set with pairs, such as VerificationBin or '
                    f'LFW; got {type(part).__name__}'
                )
            pairs[name] = part.metainfo['pairs'].shifted(len(samples))
            infos = list(map(part.get_data_info, range(len(part))))
            samples += [info | dict(gt_label=info['gt_label'] + num_labels) for info in infos]
            num_labels = 1 + max(sample['gt_label'] for sample in samples)
        self._metainfo['pairs'] = pairs
        return samples
