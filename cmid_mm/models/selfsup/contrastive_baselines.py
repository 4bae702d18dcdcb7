# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""mmpretrain's contrastive algorithms, where they need a repair."""

from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.registry import MODELS
from mmpretrain.models.selfsup import DenseCL, MoCo, SimCLR
from torch import Tensor

from ..heads.contrastive_head import replace_oldest
from ..ranks import gather_keys


@MODELS.register_module()
class FlexibleMoCo(MoCo):
    """MoCo with a queue that need not be a multiple of the batch.

    The parent stops at an assertion if it is not.
    """

    @torch.no_grad()
    def _dequeue_and_enqueue(self, keys: Tensor) -> None:
        replace_oldest(self.queue, self.queue_ptr, gather_keys(keys))


@MODELS.register_module()
class FlexibleDenseCL(DenseCL):
    """DenseCL with queues that need not be a multiple of the batch, likewise."""

    @torch.no_grad()
    def _dequeue_and_enqueue(self, keys: Tensor) -> None:
        replace_oldest(self.queue, self.queue_ptr, gather_keys(keys))

    @torch.no_grad()
    def _dequeue_and_enqueue2(self, keys: Tensor) -> None:
        replace_oldest(self.queue2, self.queue2_ptr, gather_keys(keys))


@MODELS.register_module()
class DataParallelSimCLR(SimCLR):
    """SimCLR whose gradient is that of the whole batch.

    Each process computes the loss of all images but sends gradients through its own
    only, and data parallelism averages over the processes: without this, the
    gradient is divided by their number once too often.
    """

    def loss(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """The parent's loss; its gradient times the number of processes."""
        loss = super().loss(*args, **kwargs)['loss']
        return {'loss': loss + (get_world_size() - 1) * (loss - loss.detach())}
