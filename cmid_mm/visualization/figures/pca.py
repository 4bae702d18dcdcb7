# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The first three principal components of dense features as red, green and blue."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from ...images import NoValidPixelError
from .source import FigureEncoder
from .style import COLUMN, name_panel, panels, show_cells, show_picture, title

#: Percentiles of a component that become its darkest and its brightest value.
_ENDS = (1, 99)


@dataclass(frozen=True)
class Basis:
    """Principal components of the cells of all images.

    Attributes:
        mean: (D,).
        components: Of unit length, (3, D).
        share: Share of the variance that each one explains, (3,).
    """

    mean: Tensor
    components: Tensor
    share: Tensor

    def project(self, features: Tensor) -> Tensor:
        """Components of features (D, ...), (3, ...)."""
        centred = features.double().cpu().movedim(0, -1) - self.mean
        return (centred @ self.components.T).movedim(-1, 0)


def shared_basis(features: Iterator[Tensor]) -> Basis:
    """Principal components of features that come in parts, of which none is kept.

    Args:
        features: (D, N) each.

    Returns:
        The basis; the largest entry of a component is positive.

    Raises:
        ValueError: If there are fewer than four features, or channels than three.
    """
    count, total, squares = 0, torch.zeros(1), torch.zeros(1)
    for part in features:
        part = part.double().cpu()
        count += part.shape[1]
        total = total + part.sum(1)
        squares = squares + part @ part.T
    if count < 4 or len(total) < 3:
        raise ValueError(
            f'{count} cells with data, of {len(total)} channels, have no three '
            'principal components; give more or larger images'
        )
    mean = total / count
    values, vectors = torch.linalg.eigh(squares / count - torch.outer(mean, mean))
    components = vectors.T.flip(0)[:3]
    largest = components.gather(1, components.abs().argmax(1, keepdim=True))
    share = values.flip(0)[:3] / values.clamp(min=0).sum().clamp(min=1e-12)
    return Basis(mean, components * largest.sign(), share)


def component_maps(
    encoder: FigureEncoder, images: Sequence[str | Path]
) -> tuple[list[NDArray[Any]], Basis]:
    """Components of the cells of images, of any size, in one basis.

    Every image is encoded twice, for the basis and for its map, so that no features
    are kept.

    Args:
        encoder: The encoder.
        images: Files.

    Returns:
        Maps (h, w, 3), NaN where an image holds no data, and the basis.
    """

    def covered(path: str | Path) -> Iterator[Tensor]:
        for part in encoder.blocks(path):
            if part.mean is not None:
                yield part.mean[:, torch.from_numpy(part.covered).to(part.mean.device)]

    basis = shared_basis(cells for path in images for cells in covered(path))
    maps: list[NDArray[Any]] = []
    for path in images:
        with encoder.open(path) as image:
            rows, columns = encoder.shape(image.header.shape)
        found = np.full((rows, columns, 3), np.nan, np.float32)
        for part in encoder.blocks(path):
            if part.mean is None:
                continue
            top, left, height, width = part.window
            values = basis.project(part.mean).movedim(0, -1).numpy()
            values = np.where(part.covered[..., None], values, np.nan)
            there = found[top : top + height, left : left + width]
            there[:] = values[: there.shape[0], : there.shape[1]]
        if np.isnan(found).all():
            raise NoValidPixelError(f'{path}: no valid pixel in the image')
        maps.append(found)
    return maps, basis


def pca_figure(
    encoder: FigureEncoder, images: Sequence[str | Path], width: float = COLUMN
) -> Figure:
    """Draw the principal components of dense features, all images in one basis.

    Equal colours are equal features in all images. Since colours of three components
    cannot be told apart with every kind of colour vision, the first component stands
    beside them by itself.

    Args:
        encoder: The encoder.
        images: Files.
        width: Of the figure in inches.
    """
    maps, basis = component_maps(encoder, images)
    cells = np.concatenate([values.reshape(-1, 3) for values in maps])
    low, high = np.nanpercentile(cells, _ENDS, axis=0)
    seen = [encoder.see(path) for path in images]
    height, across = seen[0].size
    figure, axes = panels(len(seen), 3, height / across, width)
    for row, one, values in zip(axes, seen, maps, strict=True):
        colours = np.clip((values - low) / np.maximum(high - low, 1e-12), 0, 1)
        # No data is white.
        colours = np.nan_to_num(colours, nan=1.0)
        show_picture(row[0], one.picture, one.size)
        show_cells(row[1], colours, encoder.stride, one.size)
        first: Any = dict(vmin=low[0], vmax=high[0])
        show_cells(row[2], values[..., 0], encoder.stride, one.size, **first)
        name_panel(row[0], one.name, 3, width)
    share = 100 * basis.share
    title(axes[0, 1], f'PCA 1-3: {share.sum():.0f} %')
    title(axes[0, 2], f'PCA 1: {share[0]:.0f} %')
    return figure
