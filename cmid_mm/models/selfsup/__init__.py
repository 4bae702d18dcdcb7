# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
from .cmid import CMID
from .contrastive_baselines import DataParallelSimCLR, FlexibleDenseCL, FlexibleMoCo
from .masked_baselines import SimMIMDecoder
from .masked_encoder import MaskedEncoder, StudentEncoder, VisibleEncoder

__all__ = [
    'CMID',
    'DataParallelSimCLR',
    'FlexibleDenseCL',
    'FlexibleMoCo',
    'MaskedEncoder',
    'SimMIMDecoder',
    'StudentEncoder',
    'VisibleEncoder',
]
