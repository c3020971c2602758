"""ORL people s21..s40: fifteen enrolled with two photographs each, and five strangers; add a pipeline that packs roles."""

from mmengine.dataset import DefaultSampler

from mmarcface.evaluation import IdentificationMetric

# Photographs 1 and 2 of s21..s35 are enrolled; all others of s21..s40 are probes.
people = list(range(21, 41))
enrolled = [10 * person + number for person in range(15) for number in range(2)]
# Data sets are named, not imported: mmpretrain.get_model looks them up by their names.
test_dataloader = dict(
    batch_size=50,
    num_workers=0,
    dataset=dict(
        type='mmarcface.ProbesAndGallery',
        probes=dict(type='mmarcface.ORLFaces', people=people, indices=[i for i in range(200) if i not in enrolled]),
        gallery=dict(type='mmarcface.ORLFaces', people=people, indices=enrolled),
    ),
    sampler=dict(type=DefaultSampler, shuffle=False),
)
test_evaluator = dict(type=IdentificationMetric, rank_at=(1, 5))
test_cfg = dict()
