"""ArcFace on the ORL faces: 20 people to learn from, 20 others to be told apart.

    python tools/train.py configs/arcface/iresnet18-arcface_orl.py

A run takes about three minutes on 2 CPU cores. The median of three seeds, in percent, is Recall@1 100.00, AUC 95.66,
TAR@FAR=0.01 78.22; the pixels themselves give 97.50, 91.18 and 49.22. A seed moves the figures, and so does the number
of threads: six runs, of seeds 0 to 2 with one thread and with two, lie between 94.62 and 96.91 of AUC.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.orl_120e import *

from mmarcface.models import ArcFaceHead

model.update(head=dict(type=ArcFaceHead, num_classes=80, in_channels=128, scale=16.0, margin=0.2))
custom_hooks.append(results_table)
results_table.update(
    ranges={
        'six whole runs': {
            'retrieval/Recall@1': (99.5, 100.0),
            'retrieval/MAP@R': (78.87, 83.24),
            'verification/AUC': (94.62, 96.91),
            'verification/EER': (9.35, 11.67),
            'verification/TAR@FAR=0.01': (77.22, 81.33),
        }
    }
)
