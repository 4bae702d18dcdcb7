# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""A frozen network as the target of masked features: continued pre-training."""

from collections.abc import Sequence
from typing import Any
from zlib import crc32

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from ...ranges import Count, Deviations, Index, Means, NonNegative
from ..clock import in_a_run
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
    Distillation", 2022). The student's features are normalised likewise, and where
    both are equally wide and nothing is hidden between them the prediction begins as
    the student's features: a student that starts from the target's weights starts
    near the target.

    The target is not in checkpoints, for a run reads its weights at each start. Their
    checksum is, so that a resumed run does not go on with other weights.

    Args:
        in_channels: Width D of the student's feature map.
        target: Config of the frozen backbone, with an ``init_cfg`` that names its
            checkpoint: any that returns feature maps, those of timm included. None for
            the student's backbone as the run begins, its checkpoint included; of
            ``target_bands``, without the ``stem`` that was made for the others.
        target_stage: Index of its output.
        target_bands: Bands of the images, counted from 0, that it sees, in its order.
            None for all.
        target_mean: Mean of each of these bands, 0-255 scale, in its own
            pre-training; None for that of this run.
        target_std: Standard deviation, likewise.
        hidden_channels: Width of a 1x1 convolution with GELU before the last one; None
            leaves it out.
        beta: Distance from which on the loss is linear.
        backbone: Config of the student's backbone, filled in by :class:`CMID`.
        mean: Mean of each band in this run, likewise.
        std: Standard deviation, likewise.
        **kwargs: Arguments of :class:`BranchHead`.

    Raises:
        ValueError: If the target takes another number of bands than it is given.
    """

    uses_teacher = False
    measured = ('in_channels', 'backbone', 'mean', 'std')

    scale: Tensor
    shift: Tensor
    target_checksum: Tensor

    def __init__(
        self,
        in_channels: Count,
        mean: Means,
        std: Deviations,
        target: dict | None = None,
        backbone: dict | None = None,
        target_stage: int = -1,
        target_bands: Sequence[Index] | None = None,
        target_mean: Means | None = None,
        target_std: Deviations | None = None,
        hidden_channels: Count | None = None,
        beta: NonNegative = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        remedy = (
            "write init_cfg=dict(type='PretrainedBackbone', checkpoint=...) into the "
            'target (--backbone-checkpoint is of the student alone; a backbone that '
            'loads its weights by itself says so by is_init=True)'
        )
        if target is None:
            if backbone is None:
                raise ValueError(
                    'FeatureDistillationHead: target is left out and there is no '
                    "student's backbone to take in its place; give one of both"
                )
            target, remedy = backbone, 'start the run with --backbone-checkpoint FILE'
            if target_bands is not None:
                target = for_other_bands(backbone, len(target_bands))
        self.target = build_part(target).requires_grad_(False)
        self.target_stage = target_stage
        self.beta = beta
        # Backbones that load weights by themselves say so by is_init.
        named = target.get('init_cfg') or getattr(self.target, 'is_init', False)
        #: What to do about a target without weights; None if it has some.
        self._lacks_weights = None if named else remedy
        self.register_buffer('target_checksum', torch.zeros((), dtype=torch.int64))
        self._target_is_checked = False
        self._register_state_dict_hook(_leave_target_out)
        self._register_load_state_dict_pre_hook(_keep_target, with_module=True)
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
            raise ValueError(
                f'FeatureDistillationHead: target, target_stage={target_stage}: {error}'
            ) from error
        layers: list[nn.Module] = []
        if hidden_channels:
            layers = [nn.Conv2d(in_channels, hidden_channels, 1), nn.GELU()]
        last = nn.Conv2d(hidden_channels or in_channels, width, 1)
        if not hidden_channels and in_channels == width:
            weight, bias = last.parameters()
            nn.init.dirac_(weight)
            nn.init.zeros_(bias)
        self.predictor = nn.Sequential(*layers, last)

    def train(self, mode: bool = True) -> 'FeatureDistillationHead':
        """Set the mode of all but the target, whose statistics are frozen too."""
        super().train(mode)
        self.target.eval()
        return self

    def loss(self, pair: PairedViews) -> dict[str, Tensor]:
        """Smooth L1 distance to the target's features, and their mean cosine."""
        if not self._target_is_checked:
            self._check_target()
        distances, cosines = [], []
        for features, image in zip(pair.student, pair.images, strict=True):
            predicted = self.predict(features)
            target = self.target_features(image, predicted.shape[-2:])
            distances.append(F.smooth_l1_loss(predicted, target, beta=self.beta))
            with torch.no_grad():
                cosines.append(F.cosine_similarity(predicted, target).mean())
        return {
            'loss_distillation': torch.stack(distances).mean(),
            'target_similarity': torch.stack(cosines).mean(),
        }

    def predict(self, features: Tensor) -> Tensor:
        """What the student's features (B, D, h, w) say of the target's, float32."""
        return self.predictor(normalized(features)).float()

    @torch.no_grad()
    def target_features(self, image: Tensor, grid: Sequence[int]) -> Tensor:
        """The target's features of full views, normalised over channels.

        Args:
            image: Normalised views, (B, C, S, S).
            grid: Rows and columns of the student's cells; other grids are resized.

        Returns:
            float32 (B, D', rows, columns).

        Raises:
            ValueError: If the target refuses images of this size.
        """
        image = image[:, self.target_bands] * self.scale + self.shift
        try:
            outputs = self.target(image)
        except AssertionError as error:
            raise ValueError(
                'FeatureDistillationHead: the target does not take views of '
                f'{" x ".join(map(str, image.shape[-2:]))} pixels ({error}); give the '
                "views another size, or the target's config their img_size"
            ) from error
        features = normalized(feature_map(outputs, self.target_stage))
        if tuple(features.shape[-2:]) != tuple(grid):
            # A cell of the student gets the mean of the finer ones that it covers.
            features = F.interpolate(
                features, tuple(grid), mode='bilinear', antialias=True
            )
        return features

    def _check_target(self) -> None:
        """Refuse a target without weights of its own, or with others than before."""
        self._target_is_checked = True
        if not in_a_run():
            return
        if self._lacks_weights:
            raise ValueError(
                'FeatureDistillationHead: the target has random weights; '
                f'{self._lacks_weights}'
            )
        found = checksum(self.target)
        known = int(self.target_checksum)
        if known not in (0, found):
            raise ValueError(
                'FeatureDistillationHead: the weights of the target are not those that '
                'the resumed run began with (checksums '
                f'{found:08x} and {known:08x}); give the file that it was started with'
            )
        self.target_checksum.fill_(found)


def normalized(features: Tensor) -> Tensor:
    """Feature maps (B, D, h, w) with mean 0 and deviation 1 in each cell, float32."""
    cells = features.float().permute(0, 2, 3, 1)
    return F.layer_norm(cells, cells.shape[-1:]).permute(0, 3, 1, 2)


def for_other_bands(backbone: dict, bands: int) -> dict:
    """Config of a backbone for a number of bands that its checkpoint has itself."""
    config = {**backbone, 'in_channels': bands}
    if isinstance(config.get('init_cfg'), dict):
        config['init_cfg'] = {**config['init_cfg']}
        config['init_cfg'].pop('stem', None)
    return config


def checksum(network: nn.Module) -> int:
    """Checksum of all weights and statistics of a network."""
    total = 0
    for value in network.state_dict().values():
        total = crc32(value.cpu().reshape(-1).view(torch.uint8).numpy(), total)
    return total


def _leave_target_out(
    head: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any
) -> None:
    for name in [name for name in state if name.startswith(f'{prefix}target.')]:
        del state[name]


def _keep_target(
    head: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any
) -> None:
    """Answer for weights that no checkpoint has with those that are there."""
    assert isinstance(head, FeatureDistillationHead)
    for name, value in head.target.state_dict().items():
        state[f'{prefix}target.{name}'] = value
