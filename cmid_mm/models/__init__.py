# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
from .backbones import RVSAViT, RVSAViTAE
from .data_preprocessor import SelfSupViewPreprocessor, ViewPairPreprocessor
from .heads import (
    AssignmentHead,
    BYOLHead,
    CrossCorrelationHead,
    MoCoHead,
    ReconstructionHead,
)
from .losses import FocalFrequencyLoss, FocalL1Loss, QueuedSwAVLoss
from .selfsup import (
    CMID,
    DataParallelSimCLR,
    FlexibleDenseCL,
    FlexibleMoCo,
    MaskedEncoder,
    SimMIMDecoder,
)

__all__ = [
    'AssignmentHead',
    'BYOLHead',
    'CMID',
    'CrossCorrelationHead',
    'DataParallelSimCLR',
    'FlexibleDenseCL',
    'FlexibleMoCo',
    'FocalFrequencyLoss',
    'FocalL1Loss',
    'MaskedEncoder',
    'MoCoHead',
    'QueuedSwAVLoss',
    'ReconstructionHead',
    'RVSAViT',
    'RVSAViTAE',
    'SelfSupViewPreprocessor',
    'SimMIMDecoder',
    'ViewPairPreprocessor',
]
