"""Probes, gallery and distractors as one data set, each image embedded once."""

from __future__ import annotations

from mmpretrain.datasets import BaseDataset

from mmarcface.registry import DATASETS

from .subsets import SubsettableDataset


@DATASETS.register_module()
class ProbesAndGallery(SubsettableDataset):
    """Probes, a gallery and distractors as one data set, for :class:`IdentificationMetric`.

    Samples of the probes have the role 'query', all others the role 'gallery';
    ``metainfo['roles']`` lists both. Probes and gallery share an identity where it has the same
    name, such as the folder of :class:`IdentityFolder` or the number in :class:`IdentityRecords`;
    distractors share theirs with nobody.

    Args:
        probes: config of the data set of probes, without pipeline.
        gallery: config of the data set of the gallery; may be left out where probes are searched
            among distractors, with each other as mates (MegaFace).
        distractors: config of the data set of distractors; may be left out.
        **kwargs: see :class:`mmpretrain.datasets.BaseDataset`; ``pipeline`` prepares all samples.

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
        self._metainfo['roles'] = 'query', 'gallery'

    def load_data_list(self) -> list[dict]:
        """The samples of probes, gallery and distractors, in this order, with their ``role``."""
        samples, labels = [], {}
        for name, config in self.parts.items():
            if config is None:
                continue
            part = DATASETS.build(config)
            role = 'query' if name == 'probes' else 'gallery'
            for sample in map(part.get_data_info, range(len(part))):
                identity = _identity_name(sample, part)
                if identity is None and name != 'distractors':
                    raise ValueError(
                        f'{name} must be a data set that names identities, such as IdentityFolder '
                        f'or IdentityRecords; got {type(part).__name__}'
                    )
                key = (name == 'distractors', identity or sample['gt_label'])
                label = labels.setdefault(key, len(labels))
                samples.append(sample | dict(gt_label=label, role=role))
        return samples


def _identity_name(sample: dict, dataset: BaseDataset) -> str | None:
    """The name of a sample's identity, by which other data sets may know it too.

    It is that of its class, to which a keep-list may have moved it, else its ``identity``; None
    where there is neither.
    """
    classes = dataset.CLASSES
    return classes[sample['gt_label']] if classes else sample.get('identity')
