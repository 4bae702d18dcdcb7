# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
from mmengine.registry import MODELS

from ..dependencies import registered_or_explained
from .backbones import (
    RVSAViT,
    RVSAViTAE,
    VisibleConvNeXt,
    VisibleHiera,
    VisibleResNet,
)
from .data_preprocessor import SelfSupViewPreprocessor, ViewPairPreprocessor
from .heads import (
    AssignmentHead,
    BYOLHead,
    CrossCorrelationHead,
    FeatureDistillationHead,
    MoCoHead,
    PatchSimilarityHead,
    ReconstructionHead,
    SpreadHead,
)
from .losses import FocalFrequencyLoss, FocalL1Loss, QueuedSwAVLoss
from .selfsup import (
    CMID,
    DataParallelSimCLR,
    FlexibleDenseCL,
    FlexibleMoCo,
    MaskedEncoder,
    SimMIMDecoder,
    VisibleEncoder,
)

with registered_or_explained(MODELS, 'BITHead', 'SiameseEncoderDecoder'):
    from . import change_detectors  # noqa: F401
with registered_or_explained(
    MODELS,
    'BitemporalPreprocessor',
    'MultiBandSegPreprocessor',
    'MultiBandSegDataPreProcessor',
):
    from . import segmentors  # noqa: F401
with registered_or_explained(MODELS, 'RotatedTTAModel'):
    from . import detectors  # noqa: F401

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
    'FeatureDistillationHead',
    'MoCoHead',
    'QueuedSwAVLoss',
    'PatchSimilarityHead',
    'ReconstructionHead',
    'RVSAViT',
    'RVSAViTAE',
    'SelfSupViewPreprocessor',
    'SimMIMDecoder',
    'SpreadHead',
    'ViewPairPreprocessor',
    'VisibleConvNeXt',
    'VisibleEncoder',
    'VisibleHiera',
    'VisibleResNet',
]
