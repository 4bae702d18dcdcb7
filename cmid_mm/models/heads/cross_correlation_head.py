# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Barlow Twins' loss under mixed precision."""

import torch
from mmengine.registry import MODELS
from mmpretrain.models.heads import LatentCrossCorrelationHead
from torch import Tensor


@MODELS.register_module()
class CrossCorrelationHead(LatentCrossCorrelationHead):
    """mmpretrain's cross-correlation head, computed in float32.

    The parent sums up a matrix of millions of squared entries in the precision of
    the surrounding autocast, which on a CPU is that of bfloat16: two to three
    digits. Same arguments and, in float32, same values.
    """

    def loss(self, input: Tensor, target: Tensor) -> Tensor:
        """Loss of two batches of embeddings, (B, D) each."""
        with torch.autocast(input.device.type, enabled=False):
            return super().loss(input.float(), target.float())
