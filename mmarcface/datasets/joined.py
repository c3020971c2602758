"""Several data sets evaluated as one, so that each image is embedded once and in one loop."""

from __future__ import annotations

from mmpretrain.datasets import BaseDataset

from mmarcface.registry import DATASETS

from .pairs import Pairs
from .subsets import SubsettableDataset


@DATASETS.register_module()
class VerificationSets(SubsettableDataset):
    """Several sets of pairs, such as LFW, CFP-FP and AgeDB-30, for one :class:`VerificationMetric`.

    The metric gives figures of each by its name, such as ``verification/lfw/Accuracy``, and the
    mean accuracy, ``verification/Accuracy``.

    Args:
        sets: by name, configs of data sets with pairs (:class:`LFW`, :class:`VerificationBin`),
            without pipelines.
        **kwargs: see :class:`mmpretrain.datasets.BaseDataset`; ``pipeline`` is for all sets.

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


@DATASETS.register_module()
class ProbesAndGallery(SubsettableDataset):
    """Probes, a gallery and distractors as one data set, for :class:`IdentificationMetric`.

    Samples of the probes have the role 'query', all others the role 'gallery'. Probes and gallery
    share an identity where it has the same name, such as the folder of :class:`IdentityFolder`
    or the number in :class:`IdentityRecords`; distractors share it with none.

    Args:
        probes: config of a data set, without pipeline.
        gallery: the same; may be left out where probes are searched among distractors, with each
            other as mates (MegaFace).
        distractors: the same; may be left out.
        **kwargs: see :class:`mmpretrain.datasets.BaseDataset`; ``pipeline`` is for all of them.

    Raises:
        ValueError: if there is neither gallery nor distractors, or probes or gallery do not name
            identities; else as the data sets.
    """

    def __init__(
        self,
        probes: dict,
        gallery: dict | None = None,
        distractors: dict | None = None,
        **kwargs,
    ):
        if gallery is None and distractors is None:
            raise ValueError('gallery or distractors must be given, to search the probes among')
        self.parts = dict(probes=probes, gallery=gallery, distractors=distractors)
        super().__init__(ann_file='', **kwargs)

    def load_data_list(self) -> list[dict]:
        """The samples of probes, gallery and distractors, in this order, with their ``role``."""
        samples, labels = [], {}
        for name, config in self.parts.items():
            if config is None:
                continue
            part = DATASETS.build(config)
            role = 'query' if name == 'probes' else 'gallery'
            for sample in map(part.get_data_info, range(len(part))):
                identity = identity_of(sample, part)
                if identity is None and name != 'distractors':
                    raise ValueError(
                        f'{name} must be a data set that names identities, such as IdentityFolder '
                        f'or IdentityRecords; got {type(part).__name__}'
                    )
                key = (name == 'distractors', identity or sample['gt_label'])
                label = labels.setdefault(key, len(labels))
                samples.append(sample | dict(gt_label=label, role=role))
        return samples


def identity_of(sample: dict, dataset: BaseDataset) -> str | None:
    """The name of a sample's identity, by which other data sets may know it too.

    Args:
        sample: from ``get_data_info``.
        dataset: the data set.

    Returns:
        The sample's ``identity``, else the name of its class; None where there is neither.
    """
    classes = dataset.CLASSES
    return sample.get('identity', classes[sample['gt_label']] if classes else None)
