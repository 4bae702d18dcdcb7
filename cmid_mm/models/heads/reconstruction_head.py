# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Reconstruction branch: local spatial perceptibility (docs/method.md, branch 1)."""

from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from ...ranges import Count, NonNegative, Share
from ..data_preprocessor import upsample_mask
from ..parts import build_part
from .branch_head import BranchHead, PairedViews


@MODELS.register_module()
class ReconstructionHead(BranchHead):
    """Predict the pixels of masked cells from the student's features.

    One 1x1 convolution and a pixel shuffle decode each position of the last
    feature map to a block of the image. The loss is the focal L1 distance of
    masked pixels plus the focal frequency distance of the spectra, averaged over
    the two views. For the spectra the prediction is first mixed, outside the
    mask, with a constant between prediction and target, so that the gradient
    reaches masked pixels almost alone.

    Args:
        in_channels (int): Width D of the feature map.
        stride (int): Pixels per position of the feature map, F. Defaults to 32.
        num_bands (int): Bands of the image. Defaults to 3.
        frequency_weight (float): Weight of the frequency term; 0 leaves it out.
            Defaults to 1.0.
        visible_weight (float): Weight of unmasked pixels in the frequency term's
            gradient. Defaults to 0.001.
        spatial_loss (dict): Defaults to ``dict(type='FocalL1Loss')``.
        frequency_loss (dict): Defaults to ``dict(type='FocalFrequencyLoss')``.
        hidden_channels: Width of a 3x3 convolution with BatchNorm and GELU before
            the 1x1, so that the features need not be pixels themselves; None
            leaves it out, as the method does.
        **kwargs: Arguments of :class:`BranchHead`.
    """

    uses_teacher = False
    measured = ('in_channels', 'stride', 'num_bands')

    def __init__(
        self,
        in_channels: Count,
        stride: Count = 32,
        num_bands: Count = 3,
        frequency_weight: NonNegative = 1.0,
        visible_weight: Share = 0.001,
        spatial_loss: dict | None = None,
        frequency_loss: dict | None = None,
        hidden_channels: Count | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        layers: list[nn.Module] = []
        if hidden_channels:
            layers = [
                nn.Conv2d(in_channels, hidden_channels, 3, padding=1),
                nn.BatchNorm2d(hidden_channels),
                nn.GELU(),
            ]
        self.decoder = nn.Sequential(
            *layers,
            nn.Conv2d(hidden_channels or in_channels, num_bands * stride**2, 1),
            nn.PixelShuffle(stride),
        )
        self.frequency_weight = frequency_weight
        self.visible_weight = visible_weight
        self.spatial_loss = build_part(spatial_loss or dict(type='FocalL1Loss'))
        self.frequency_loss = build_part(
            frequency_loss or dict(type='FocalFrequencyLoss')
        )

    def forward(self, features: Tensor) -> Tensor:
        """Decode features.

        Args:
            features (Tensor): (B, D, N, N).

        Returns:
            Tensor: Normalised image, (B, C, N F, N F).
        """
        return self.decoder(features)

    def loss(self, pair: PairedViews) -> dict[str, Tensor]:
        """Reconstruction losses, each averaged over the two views."""
        spatial, frequency = [], []
        views = zip(pair.student, pair.images, pair.masks, strict=True)
        for features, image, mask in views:
            pred = self(features).float()
            if pred.shape != image.shape:
                raise ValueError(
                    f'the decoder restores {tuple(pred.shape)}, the image is '
                    f'{tuple(image.shape)}: the image size must be a multiple of '
                    "the head's stride, which must be the backbone's, and num_bands "
                    "the images'; left out of the head's config, both are"
                )
            pixels = upsample_mask(mask, image.shape[-2:]).float()  # B 1 S S
            spatial.append(self.spatial_loss(pred, image, pixels))
            if self.frequency_weight:
                mixed = self.mix_visible(pred, image, pixels)
                frequency.append(self.frequency_loss(mixed, image))
        losses = {'loss_spatial': torch.stack(spatial).mean()}
        if frequency:
            losses['loss_frequency'] = (
                self.frequency_weight * torch.stack(frequency).mean()
            )
        return losses

    def mix_visible(self, pred: Tensor, target: Tensor, pixels: Tensor) -> Tensor:
        """Hold the prediction nearly constant outside the mask.

        Args:
            pred (Tensor): (B, C, S, S).
            target (Tensor): (B, C, S, S).
            pixels (Tensor): 1 on masked pixels, else 0, (B, 1, S, S).

        Returns:
            Tensor: ``pred`` on masked pixels; elsewhere ``visible_weight`` of it
            and for the rest the constant midway to the target, (B, C, S, S).
        """
        weight = pixels + self.visible_weight * (1 - pixels)
        midway = 0.5 * (pred.detach() + target)
        return torch.lerp(midway, pred, weight.expand_as(pred))
