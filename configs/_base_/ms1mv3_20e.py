"""MS1MV3 with IResNet-50, all but the head, which has 93,431 classes and 512 channels."""

from mmengine.config import read_base

with read_base():
    from .datasets.faces_112 import *
    from .default_runtime import *
    from .models.iresnet50_112 import *
    from .schedules.sgd_20e_faces import *
