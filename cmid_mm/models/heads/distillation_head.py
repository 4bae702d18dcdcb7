# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""A frozen network as the target of masked features: continued pre-training."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from ...ranges import Count, Index, NonNegative, Positive
from ..measuring import feature_map, input_bands, measure
from ..parts import build_part
from .branch_head import BranchHead, PairedViews


@MODELS.register_module()
class FeatureDistillationHead(BranchHead):
    """Predict what a frozen network makes of the full views from the masked ones.

    So a backbone learns the imagery that it will be used on without forgetting what a
    strong network knows, which may be of another architecture. The targets are the
    network's features, normalised over channels without gain or bias, and the loss is
    the smooth L1 distance, averaged over all cells and both views (Wei et al.,
    "Contrastive Learning Rivals Masked Image Modeling in Fine-tuning via Feature
    Distillation", 2022).

    Args:
        in_channels: Width D of the student's feature map.
        target: Config of the frozen backbone, with an ``init_cfg`` that names its
            checkpoint: any that returns feature maps, those of timm included.
        target_stage: Index of its output.
        target_bands: Bands of the images, counted from 0, that it sees, in its order.
            None for all.
        target_mean: Mean of each of these bands, 0-255 scale, in its own
            pre-training; None for that of this run.
        target_std: Standard deviation, likewise.
        hidden_channels: Width of a 1x1 convolution with GELU before the last one; None
            leaves it out.
        beta: Distance from which on the loss is linear.
        mean: Mean of each band in this run, filled in by :class:`CMID`.
        std: Standard deviation, likewise.
        **kwargs: Arguments of :class:`BranchHead`.

    Raises:
        ValueError: If the target takes another number of bands than it is given.
    """

    uses_teacher = False
    measured = ('in_channels', 'mean', 'std')

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        in_channels: Count,
        target: dict,
        mean: Sequence[float],
        std: Sequence[Positive],
        target_stage: int = -1,
        target_bands: Sequence[Index] | None = None,
        target_mean: Sequence[float] | None = None,
        target_std: Sequence[Positive] | None = None,
        hidden_channels: Count | None = None,
        beta: NonNegative = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.target = build_part(target).requires_grad_(False)
        self.target_stage = target_stage
        self.beta = beta
        bands = list(range(len(mean)) if target_bands is None else target_bands)
        self.target_bands = bands
        taken = input_bands(self.target)
        if len(mean) != len(std) or not all(band < len(mean) for band in bands):
            raise ValueError(
                f'FeatureDistillationHead: target_bands={bands} of mean={mean} and '
                f'std={std}: expected numbers of bands of this run, counted from 0, '
                'and one mean and std for each band'
            )
        if taken not in (None, len(bands)):
            raise ValueError(
                f'FeatureDistillationHead: the target takes {taken} bands, but '
                f'target_bands={bands} (by default all that have a mean) are '
                f'{len(bands)}; name {taken} bands'
            )
        own_mean, own_std = (torch.tensor(values)[bands] for values in (mean, std))
        mean_there = own_mean if target_mean is None else torch.tensor(target_mean)
        std_there = own_std if target_std is None else torch.tensor(target_std)
        if not len(mean_there) == len(std_there) == len(bands):
            raise ValueError(
                f'FeatureDistillationHead: target_mean has {len(mean_there)} values '
                f'and target_std {len(std_there)} for {len(bands)} target_bands; give '
                'one of each for every band'
            )
        # From this run's normalisation to the target's: both are affine in a band.
        shape = 1, -1, 1, 1
        self.register_buffer('scale', (own_std / std_there).view(shape), False)
        shift = (own_mean - mean_there) / std_there
        self.register_buffer('shift', shift.view(shape), False)
        try:
            width = measure(self.target, stage=target_stage).channels
        except ValueError as error:
            raise ValueError(f'target_stage={target_stage}: {error}') from error
        layers: list[nn.Module] = []
        if hidden_channels:
            layers = [nn.Conv2d(in_channels, hidden_channels, 1), nn.GELU()]
        layers.append(nn.Conv2d(hidden_channels or in_channels, width, 1))
        self.predictor = nn.Sequential(*layers)

    def train(self, mode: bool = True) -> 'FeatureDistillationHead':
        """Set the mode of all but the target, whose statistics are frozen too."""
        super().train(mode)
        self.target.eval()
        return self

    def loss(self, pair: PairedViews) -> dict[str, Tensor]:
        """Smooth L1 distance to the target's normalised features."""
        distances = []
        for features, image in zip(pair.student, pair.images, strict=True):
            predicted = self.predictor(features).float()
            target = self.target_features(image, predicted.shape[-2:])
            distances.append(F.smooth_l1_loss(predicted, target, beta=self.beta))
        return {'loss_distillation': torch.stack(distances).mean()}

    @torch.no_grad()
    def target_features(self, image: Tensor, grid: Sequence[int]) -> Tensor:
        """The target's features of full views, normalised over channels.

        Args:
            image: Normalised views, (B, C, S, S).
            grid: Rows and columns of the student's cells; other grids are resized.

        Returns:
            float32 (B, D', rows, columns).
        """
        image = image[:, self.target_bands] * self.scale + self.shift
        features = feature_map(self.target(image), self.target_stage).float()
        features = F.layer_norm(features.permute(0, 2, 3, 1), features.shape[1:2])
        features = features.permute(0, 3, 1, 2)
        if tuple(features.shape[-2:]) != tuple(grid):
            features = F.interpolate(features, tuple(grid), mode='bilinear')
        return features
