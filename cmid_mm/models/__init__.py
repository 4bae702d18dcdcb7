# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
from .data_preprocessor import ViewPairPreprocessor
from .heads import AssignmentHead, BYOLHead, MoCoHead, ReconstructionHead
from .losses import FocalFrequencyLoss, FocalL1Loss
from .selfsup import CMID, MaskedEncoder

__all__ = [
    'AssignmentHead',
    'BYOLHead',
    'CMID',
    'FocalFrequencyLoss',
    'FocalL1Loss',
    'MaskedEncoder',
    'MoCoHead',
    'ReconstructionHead',
    'ViewPairPreprocessor',
]
