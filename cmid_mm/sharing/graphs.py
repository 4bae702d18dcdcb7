# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Models as functions of tensors that can be written down as a graph."""

import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


class Classifier(nn.Module):
    """Images to logits, (B, K).

    Args:
        model: A classifier of mmpretrain.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Logits of normalised images, (B, C, H, W)."""
        return self.model(images, mode='tensor')


class Segmentor(nn.Module):
    """Images, or pairs stacked on channels, to logits of each pixel, (B, K, H, W).

    Args:
        model: An encoder and decoder of mmseg.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, images: Tensor) -> Tensor:
        """Logits of normalised images, (B, C, H, W)."""
        return self.model.encode_decode(images, [dict(img_shape=images.shape[2:])])


class AdaptivePool(nn.Module):
    """``nn.AdaptiveAvgPool2d`` as two matrix products, for maps of any size.

    In a graph of its own operator the cells would stay those of one size.

    Args:
        cells: Rows and columns of the result.
    """

    def __init__(self, cells: tuple[int, int]) -> None:
        super().__init__()
        self.cells = cells

    def forward(self, features: Tensor) -> Tensor:
        """Means of the cells, (B, C, rows, columns), of a map (B, C, H, W)."""
        rows = _shares(features, -2, self.cells[0])
        columns = _shares(features, -1, self.cells[1])
        return rows @ features @ columns.mT


def _shares(features: Tensor, axis: int, cells: int) -> Tensor:
    """What each position along an axis counts in each cell, (cells, positions)."""
    length = features.shape[axis]
    cell = torch.arange(cells, device=features.device)[:, None]
    position = torch.arange(length, device=features.device)
    first = cell * length // cells
    behind = ((cell + 1) * length + cells - 1) // cells
    inside = (position >= first) & (position < behind)
    return inside.to(features.dtype) / (behind - first)


def traceable(network: nn.Module) -> nn.Module:
    """A copy of a network that computes the same, for batches and maps of any size.

    Adaptive pooling follows the size of the map, and Swin's windows that of the batch,
    which its own code makes a constant of.
    """
    network = copy.deepcopy(network)
    for module in list(network.modules()):
        if hasattr(module, 'window_reverse'):
            module.window_reverse = partial(_join_windows, module)  # type: ignore[assignment]
        for name, child in module.named_children():
            if isinstance(child, nn.AdaptiveAvgPool2d):
                size: Any = child.output_size
                cells = (size, size) if isinstance(size, int) else tuple(size)
                setattr(module, name, AdaptivePool(cells))
    return network


def _join_windows(
    module: Any, windows: Tensor, height: int, width: int, side: int | None = None
) -> Tensor:
    """Maps (B, H, W, C) of their windows, (B * windows, side, side, C)."""
    side = side or module.window_size
    parts = windows.view(-1, height // side, width // side, *windows.shape[1:])
    joined = parts.transpose(2, 3).contiguous()
    return joined.view(-1, height, width, windows.shape[-1])


def has_fixed_size(network: nn.Module) -> bool:
    """Whether a graph of a network holds for images of one size only.

    So it is of backbones with attention, whose windows and tables of positions are made
    for the size of the image; attention of a head, such as BIT's, follows it.
    """
    backbone = getattr(getattr(network, 'model', None), 'backbone', network)
    return any(hasattr(module, 'num_heads') for module in backbone.modules())
