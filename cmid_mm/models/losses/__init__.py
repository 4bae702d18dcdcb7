# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
from ..ranks import mean_over_ranks
from .focal_frequency_loss import FocalFrequencyLoss
from .focal_l1_loss import FocalL1Loss, focal_l1
from .swav_loss import QueuedSwAVLoss, sinkhorn

__all__ = [
    'FocalFrequencyLoss',
    'FocalL1Loss',
    'QueuedSwAVLoss',
    'focal_l1',
    'mean_over_ranks',
    'sinkhorn',
]
