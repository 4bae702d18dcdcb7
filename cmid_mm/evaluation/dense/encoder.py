# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Feature maps of a frozen backbone, and the classes of their cells."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...datasets.statistics import BandMoments
from ...labels.masks import IGNORED
from ...models.measuring import measure, unmasked

#: By whose statistics images are normalised.
NORMALIZATIONS = ('pretraining', 'target')
#: Side in pixels of cells that the strides of most backbones divide.
_CELL = 32


@dataclass(frozen=True)
class DenseEncoder:
    """The feature maps of some stages of a frozen backbone, as one map.

    Args:
        model: CMID, or one of mmpretrain's algorithms with a preprocessor of ours.
        stages: Which stages, as ``out_indices`` of the backbone counts them; None for
            those that it gives. What would only normalise the output of a stage for
            later layers, and is not there, is left out.
        band_mean: Mean of each band of the images by which they are normalised, (C,);
            None for that of the pre-training.
        band_std: Likewise.
        reduction: Side of the squares of pixels whose mean the network gets as one.
    """

    model: nn.Module
    stages: Sequence[int] | None = None
    band_mean: Tensor | None = None
    band_std: Tensor | None = None
    reduction: int = 1

    @property
    def backbone(self) -> Any:
        """The network that gives the maps."""
        return getattr(self.model, 'student', self.model).backbone

    @cached_property
    def cell(self) -> int:
        """Side of the cells that images are padded to; all strides divide it."""
        try:
            stride = measure(self.backbone).stride
        except ValueError:  # it gives no maps, which is said of its outputs
            stride = _CELL
        return self.reduction * (_CELL if _CELL % stride == 0 else stride)

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Tensor:
        """Features of an image.

        Coarser maps are enlarged bilinearly to the finest one's grid; the image is
        padded by its edge to whole cells (:attr:`cell`).

        Args:
            image: On the 0-255 scale, (C, H, W).

        Returns:
            (D, h, w), of cells as large as ``H_padded / h`` pixels.

        Raises:
            ValueError: If the backbone has not the stages, or gives no maps.
        """
        preprocessor: Any = self.model.data_preprocessor
        pixels = image[None].to(preprocessor.mean.device).float()
        if self.band_mean is not None and self.band_std is not None:
            shape = 1, -1, 1, 1
            mean, std = self.band_mean.to(pixels), self.band_std.to(pixels)
            pixels = (pixels - mean.view(shape)) / std.view(shape)
            pixels = pixels * preprocessor.std + preprocessor.mean
        pixels = F.avg_pool2d(pad_to_cells(pixels, self.cell), self.reduction)
        pixels = preprocessor.normalize(pixels)
        maps = self._maps(pixels)
        sizes = [m.shape[-2:] for m in maps]
        maps = [F.interpolate(m, max(sizes), mode='bilinear') for m in maps]
        return torch.cat(maps, 1)[0].float()

    def _maps(self, pixels: Tensor) -> list[Tensor]:
        with _putting_out(self.backbone, self.stages):
            outputs = unmasked(self.backbone, pixels)
        maps = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        wanted = len(maps) if self.stages is None else len(self.stages)
        if len(maps) != wanted or any(m.ndim != 4 for m in maps):
            name = type(self.backbone).__name__
            shapes = ', '.join(str(tuple(m.shape)) for m in maps)
            raise ValueError(
                f'{name} gives outputs of shapes {shapes}; expected a map (B, D, h, w) '
                f'of each of the stages {self.stages or "of its out_indices"}. Stages '
                'count from 0 as its out_indices do; transformers give maps by '
                "out_type='featmap'"
            )
        return maps


@contextmanager
def _putting_out(backbone: Any, stages: Sequence[int] | None) -> Iterator[None]:
    """Let a backbone give the outputs of other stages than it was made for."""
    if stages is None:
        yield
        return
    before = getattr(backbone, 'out_indices', None)
    if before is None:
        raise ValueError(
            f'{type(backbone).__name__} has no out_indices, so its stages cannot be '
            'chosen; leave out stages'
        )
    # Swin and ConvNeXt have a normalisation only for the outputs that they shall give.
    lacking = [f'norm{i}' for i in stages if not hasattr(backbone, f'norm{i}')]
    backbone.out_indices = tuple(stages)
    for name in lacking:
        setattr(backbone, name, nn.Identity())
    try:
        yield
    finally:
        backbone.out_indices = before
        for name in lacking:
            delattr(backbone, name)


def pad_to_cells(values: Tensor, cell: int) -> Tensor:
    """Images, (B, C, H, W), padded by their edge to whole cells of so many pixels."""
    height, width = values.shape[-2:]
    return F.pad(values, (0, -width % cell, 0, -height % cell), mode='replicate')


def cell_labels(
    mask: Tensor, grid: Sequence[int], num_classes: int, cell: int
) -> Tensor:
    """Class of most pixels of each position of a feature map.

    Args:
        mask: Classes, 255 ignored, (H, W).
        grid: Rows and columns of the map of the padded image.
        num_classes: Number of classes.
        cell: What the image is padded to multiples of.

    Returns:
        int64 (rows, columns); 255 where no class has half of the pixels.
    """
    padding = -mask.shape[0] % cell, -mask.shape[1] % cell
    mask = F.pad(mask, (0, padding[1], 0, padding[0]), value=IGNORED).long()
    classes = F.one_hot(mask.clamp(max=num_classes), num_classes + 1)
    size = mask.shape[0] // grid[0], mask.shape[1] // grid[1]
    share = F.avg_pool2d(classes.permute(2, 0, 1)[None].float(), size)[0, :-1]
    largest, label = share.max(0)
    return torch.where(largest >= 0.5, label, IGNORED)


def pixel_scores(scores: Tensor, height: int, width: int, cell: int) -> Tensor:
    """Scores of a map, (K, h, w), on the pixels of the window, (K, height, width).

    Args:
        scores: Of each position.
        height: Of the window in pixels.
        width: Likewise.
        cell: What it was padded to multiples of.
    """
    padded = [side + -side % cell for side in (height, width)]
    enlarged = F.interpolate(scores[None], padded, mode='bilinear')[0]
    return enlarged[:, :height, :width]


def band_statistics(
    windows: Iterable[tuple[int, Tensor, Tensor]],
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each band over all pixels of windows, (C,)."""
    total: BandMoments | None = None
    for _, image, _ in windows:
        moments = BandMoments.of_image(image.permute(1, 2, 0).numpy())
        if total is None:
            total = moments
        else:
            total.add(moments)
    if total is None:
        raise ValueError('there are no windows to measure')
    mean, std = torch.from_numpy(total.mean), torch.from_numpy(total.std)
    return mean.float(), std.clamp(min=1e-3).float()
