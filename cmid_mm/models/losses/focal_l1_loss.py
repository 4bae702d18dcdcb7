# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Focal L1 loss of the reconstruction branch (spatial term)."""

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from ...ranges import NonNegative, Positive


def focal_l1(pred: Tensor, target: Tensor, beta: float, gamma: float) -> Tensor:
    """Elementwise focal L1 distance.

    ``d * (2 * sigmoid(beta * d) - 1) ** gamma``, where ``d = abs(pred - target)``.

    Errors far below ``1 / beta`` are damped, so that training attends to the
    pixels that are still wrong (CMID paper, Sec. III-B).

    Args:
        pred (Tensor): Any shape.
        target (Tensor): Same shape as ``pred``.
        beta (float): Slope of the focal weight, > 0.
        gamma (float): Exponent of the focal weight; 0 gives plain L1.

    Returns:
        Tensor: Same shape as ``pred``.
    """
    distance = (pred - target).abs()
    # 2 sigmoid(x) - 1 = tanh(x / 2)
    return distance * torch.tanh(0.5 * beta * distance) ** gamma


@MODELS.register_module()
class FocalL1Loss(nn.Module):
    """Focal L1, summed over masked pixels and averaged over them and the bands.

    The sum over all bands of the masked pixels is divided by the number of
    masked pixels (plus 1e-5) and by the number of bands.

    Args:
        beta (float): Slope of the focal weight. Defaults to 0.2.
        gamma (float): Exponent of the focal weight. Defaults to 1.0.

    Example:
        >>> loss = FocalL1Loss()(pred, target, mask)  # (B,C,H,W) x2, (B,1,H,W)
    """

    def __init__(self, beta: Positive = 0.2, gamma: NonNegative = 1.0) -> None:
        super().__init__()
        self.beta = beta
        self.gamma = gamma

    def forward(self, pred: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            pred (Tensor): Reconstruction, (B, C, H, W).
            target (Tensor): Normalised image, (B, C, H, W).
            mask (Tensor): 1 on masked pixels, else 0, (B, 1, H, W).

        Returns:
            Tensor: Scalar.
        """
        loss = focal_l1(pred, target, self.beta, self.gamma) * mask
        return loss.sum() / (mask.sum() + 1e-5) / pred.shape[1]
