# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
from .focal_frequency_loss import FocalFrequencyLoss, mean_over_ranks
from .focal_l1_loss import FocalL1Loss, focal_l1

__all__ = ['FocalFrequencyLoss', 'FocalL1Loss', 'focal_l1', 'mean_over_ranks']
