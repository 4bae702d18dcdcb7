# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""SwAV's loss, with its queue in the checkpoint and exact over processes."""

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather, all_reduce, get_dist_info
from mmengine.registry import MODELS
from mmpretrain.models.losses import SwAVLoss
from torch import Tensor

from ...ranges import Count, Index
from ..clock import finished_epochs


@torch.no_grad()
def sinkhorn(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Assign images to prototypes, each prototype the same share of all images.

    Sinkhorn-Knopp iterations (Cuturi 2013) on ``exp(scores / epsilon)``, over the
    images of all processes, on logarithms in float32: nothing overflows or vanishes.

    Args:
        scores (Tensor): Similarities to the prototypes of this process's images,
            (B, K); processes may have different B.
        epsilon (float): Temperature, > 0.
        iterations (int): Number of iterations.

    Returns:
        Tensor: Assignments, float32, (B, K); each row sums to 1.
    """
    log_codes = scores.float() / epsilon
    for _ in range(iterations):
        log_codes = log_codes - _logsumexp_over_images(log_codes)
        log_codes = log_codes - log_codes.logsumexp(1, keepdim=True)
    return log_codes.exp()


def _logsumexp_over_images(values: Tensor) -> Tensor:
    """Logarithm of the sum of ``exp(values)`` over the rows of all processes, (K,)."""
    peak = values.amax(0)
    all_reduce(peak, 'max')
    total = (values - peak).exp().sum(0)
    all_reduce(total)
    return peak + total.log()


@MODELS.register_module()
class QueuedSwAVLoss(SwAVLoss):
    """Swapped assignments of SwAV (Caron et al., NeurIPS 2020, section 3).

    The parent's arguments and, on one process in float32, its values. Other than
    there

    - the queue is part of the checkpoint and common to all processes, so that
      resumed runs continue exactly and need no ``SwAVHook``,
    - all processes together assign their images, as one would the whole batch (the
      parent equalises the prototypes of each process by itself),
    - all is computed in float32.

    Args:
        feat_dim (int): Size D of the features.
        queue_length (int): Number of earlier images, of all processes, that help to
            equalise the prototypes; 0 for none. Defaults to 0.
        queue_start_epoch (int): Epoch from which on the queue is filled; it is used
            once it is full. Defaults to 15.
        frozen_epochs (int): Number of first epochs in which the prototypes do not
            learn. Defaults to 0.
        **kwargs: Arguments of the parent. ``num_prototypes`` must be a number.
    """

    feature_queue: Tensor

    def __init__(
        self,
        feat_dim: Count,
        queue_length: Index = 0,
        queue_start_epoch: Index = 15,
        frozen_epochs: Index = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(feat_dim, **kwargs)
        self.queue_start_epoch = queue_start_epoch
        self.frozen_epochs = frozen_epochs
        queue = torch.zeros(len(self.crops_for_assign), queue_length, feat_dim)
        self.register_buffer('feature_queue', queue)

    def forward(self, x: Tensor) -> Tensor:
        """Loss of unit features, the views one after the other, (views * B, D)."""
        with torch.autocast(x.device.type, enabled=False):
            return self._loss(x.float())

    def _loss(self, features: Tensor) -> Tensor:
        weight = self.prototypes.weight
        with torch.no_grad():
            weight.copy_(F.normalize(weight, dim=1))
        if finished_epochs() < self.frozen_epochs:
            # A gradient of zero, not none: data parallelism waits for each one.
            weight = weight.detach() + 0 * weight
        scores = F.linear(features, weight)
        views = sum(self.num_crops)
        log_probs = (scores / self.temperature).log_softmax(1).chunk(views)
        losses = []
        for index, view in enumerate(self.crops_for_assign):
            codes = self._assign(
                index, features.detach().chunk(views)[view], scores.chunk(views)[view]
            )
            losses += [
                -(codes * log_prob).sum(1).mean()
                for other, log_prob in enumerate(log_probs)
                if other != view
            ]
        return torch.stack(losses).mean()

    @torch.no_grad()
    def _assign(self, index: int, features: Tensor, scores: Tensor) -> Tensor:
        """Codes of a view's images, (B, K); the images then enter the queue."""
        queue = self.feature_queue[index]
        own = len(scores)
        if len(queue) and finished_epochs() >= self.queue_start_epoch:
            if queue[-1].any():
                rank, world_size = get_dist_info()
                share = queue[rank::world_size]
                scores = torch.cat((F.linear(share, self.prototypes.weight), scores))
            recent = torch.cat(all_gather(features))
            queue.copy_(torch.cat((recent, queue))[: len(queue)])
        return sinkhorn(scores, self.epsilon, self.sinkhorn_iterations)[-own:]
