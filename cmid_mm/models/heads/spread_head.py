# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Spread of the global features over the sphere."""

from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor

from .branch_head import BranchHead, PairedViews
from .contrastive_head import cosines, unit


def koleo(vectors: Tensor) -> Tensor:
    """Negative mean logarithm of the distance to the nearest other vector.

    Equation: Sablayrolles et al., "Spreading vectors for similarity search", ICLR 2019.

    Args:
        vectors: Unit vectors, (B, D), of at least two images.

    Returns:
        Scalar; the lower, the more evenly the vectors are spread.
    """
    with torch.no_grad():
        nearest = cosines(vectors, vectors).fill_diagonal_(-torch.inf).argmax(1)
    distance = (vectors - vectors[nearest]).norm(dim=1)
    return -distance.clamp(min=1e-6).log().mean()


@MODELS.register_module()
class SpreadHead(BranchHead):
    """Keep pooled features of a batch's images apart.

    Of each view by itself, as two views of one image shall be alike: :func:`koleo` of
    the student's pooled features, without a projector, over the batch of one process.

    Args:
        loss_weight: Factor of the loss.
        **kwargs: Arguments of :class:`BranchHead`.
    """

    uses_teacher = False

    def __init__(self, loss_weight: float = 0.1, **kwargs: Any) -> None:
        super().__init__(loss_weight=loss_weight, **kwargs)

    def loss(self, pair: PairedViews) -> dict[str, Tensor]:
        """The loss of both views, averaged.

        Raises:
            ValueError: If the batch of this process is one image.
        """
        pooled = [features.mean((2, 3)) for features in pair.student]
        if len(pooled[0]) < 2:
            raise ValueError(
                'SpreadHead keeps the images of a batch apart, but the batch of this '
                'process is one image; set batch_size=2 or more'
            )
        losses = [koleo(unit(vectors)) for vectors in pooled]
        return {'loss_spread': torch.stack(losses).mean()}
