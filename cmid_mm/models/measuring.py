# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Widths and strides of a backbone's features, taken from the backbone itself."""

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..isolation import modes_unchanged, rng_unchanged

#: Side of the image with which a backbone is measured that names no ``img_size``.
_IMAGE_SIZE = 224


@dataclass(frozen=True)
class FeatureShape:
    """What a feature map looks like, whatever the size of the image.

    Attributes:
        channels: Its width.
        stride: Pixels of the image per position.
    """

    channels: int
    stride: int


def input_bands(backbone: nn.Module) -> int | None:
    """Bands that a backbone takes: those of its first convolution; None without one."""
    convolutions = (m for m in backbone.modules() if isinstance(m, nn.Conv2d))
    first = next(convolutions, None)
    return None if first is None else first.in_channels


def measure(
    backbone: nn.Module, layer: str | None = None, stage: int = -1
) -> FeatureShape:
    """Width and stride of what a backbone, or one of its layers, returns.

    One black image is passed through it; no weight, statistic, mode or random state
    changes.

    Args:
        backbone: Returns feature maps.
        layer: Name of a sub-module whose output is meant instead: a feature map
            (B, C, H, W), or tokens (B, H*W, C), alone or first in a tuple.
        stage: Index of the feature map that is meant.

    Raises:
        ValueError: If the backbone cannot be measured.
    """
    captured: list[Any] = []
    module = backbone if layer is None else backbone.get_submodule(layer)
    handle = module.register_forward_hook(lambda *call: captured.append(call[-1]))
    images = black_image(backbone)
    height, width = images.shape[2:]
    try:
        run_unchanged(backbone, images, unmasked)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f'{type(backbone).__name__} cannot be measured with an image of {height} x '
            f'{width} pixels ({error}); give channels and stride of the encoder, and '
            'in_channels and stride of the heads, in the config'
        ) from error
    finally:
        handle.remove()
    output = captured[-1]
    if layer is None:
        features = feature_map(output, stage)
    else:
        features = output[0] if isinstance(output, tuple) else output
    if features.ndim == 4:
        return FeatureShape(features.shape[1], height // features.shape[2])
    _, positions, channels = features.shape
    return FeatureShape(channels, math.isqrt(height * width // positions))


def black_image(backbone: nn.Module, side: int | None = None) -> Tensor:
    """An image of the bands and the size that a backbone takes, (1, C, H, W).

    Args:
        backbone: With a convolution, whose bands are meant.
        side: Another size than it is made for. Defaults to None.

    Raises:
        ValueError: If it has none.
    """
    bands = input_bands(backbone)
    if bands is None:
        raise ValueError(
            f'{type(backbone).__name__} has no convolution that tells how many bands '
            'it takes'
        )
    size: Any = side or getattr(backbone, 'img_size', _IMAGE_SIZE)
    height, width = (size, size) if isinstance(size, int) else size
    return next(backbone.parameters()).new_zeros(1, bands, height, width)


@torch.no_grad()
def run_unchanged(
    module: nn.Module,
    inputs: Any,
    call: Callable[[nn.Module, Any], Any] = nn.Module.__call__,
) -> Any:
    """What a module returns in evaluation mode; nothing of it changes.

    Args:
        module: It keeps its modes, and the generators their random states.
        inputs: The one argument that it is called with.
        call: Calls it. Defaults to a plain call.
    """
    with rng_unchanged(), modes_unchanged(module):
        module.eval()  # mmpretrain's return nothing
        return call(module, inputs)


def unmasked(backbone: nn.Module, images: Tensor) -> Any:
    """What a backbone returns for whole images.

    Those of masked modelling (mmpretrain's MAE, SimMIM, BEiT) would mask them, or take
    a mask that has no default.

    Args:
        backbone: The backbone; of masked modelling one that gives raw tokens gives a
            feature map here.
        images: (B, C, H, W).
    """
    network: Any = backbone
    if 'mask' not in inspect.signature(network.forward).parameters:
        return network(images)
    kind = getattr(network, 'out_type', None)
    if kind != 'raw':
        return network(images, mask=None)
    network.out_type = 'featmap'
    try:
        return network(images, mask=None)
    finally:
        network.out_type = kind


def feature_map(outputs: Tensor | Sequence[Tensor], stage: int = -1) -> Tensor:
    """A feature map of a backbone's output.

    Args:
        outputs: What the backbone returned.
        stage: Index of the output, ``-1`` for the last.

    Returns:
        (B, D, h, w).

    Raises:
        ValueError: If the backbone has no such output, pooled it, or returned bare
            tokens.
    """
    maps = [outputs] if isinstance(outputs, Tensor) else outputs
    if not -len(maps) <= stage < len(maps):
        raise ValueError(
            f'a head reads stage={stage}, but the backbone gives {len(maps)} feature '
            "map(s); name more stages in the backbone's out_indices"
        )
    features = maps[stage]
    if features.ndim != 4:
        raise ValueError(
            f'the backbone returned shape {tuple(features.shape)}, not a feature map '
            "(B, D, h, w); set out_type='featmap' (ViT) or "
            'gap_before_final_norm=False (ConvNeXt)'
        )
    return features
