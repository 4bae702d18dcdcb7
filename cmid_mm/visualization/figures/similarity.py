# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Which parts of images a point is similar to."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from .source import FigureEncoder, Seen
from .style import (
    COLUMN,
    colour_bar,
    mark_point,
    name_panel,
    panels,
    show_cells,
    show_picture,
    title,
)


def feature_at(encoder: FigureEncoder, seen: Seen, point: NDArray[Any]) -> Tensor:
    """Feature of the cell at a column and row of an image, (D,).

    Raises:
        ValueError: If the cell holds no data.
    """
    column, row = (point // encoder.stride).astype(int)
    for part in encoder.blocks(seen.path):
        y, x = row - part.window[0], column - part.window[1]
        if not (0 <= y < part.window[2] and 0 <= x < part.window[3]):
            continue
        if part.mean is not None and part.covered[y, x]:
            return part.mean[:, y, x]
    raise ValueError(
        f'{seen.path} holds no data at pixel ({point[0]:.0f}, {point[1]:.0f})'
    )


def similarity_map(
    encoder: FigureEncoder, path: str | Path, feature: Tensor
) -> NDArray[np.float32]:
    """Cosine of the features of an image's cells and another feature.

    The image may be a raster of any size: only the map is kept.

    Args:
        encoder: The encoder.
        path: The image.
        feature: (D,).

    Returns:
        (h, w), NaN where the image holds no data.
    """
    with encoder.open(path) as image:
        rows, columns = encoder.shape(image.header.shape)
    found = np.full((rows, columns), np.nan, np.float32)
    for part in encoder.blocks(path):
        if part.mean is None:
            continue
        top, left, height, width = part.window
        cosine = F.cosine_similarity(part.mean, feature[:, None, None], dim=0)
        values = np.where(part.covered, cosine.cpu().numpy(), np.nan)
        there = found[top : top + height, left : left + width]
        there[:] = values[: there.shape[0], : there.shape[1]]
    return found


def similarity_figure(
    encoder: FigureEncoder,
    images: Sequence[str | Path],
    point: Sequence[float],
    crs: str | None = None,
    width: float = COLUMN,
) -> Figure:
    """Draw how similar all parts of images are to a point of the first one.

    Args:
        encoder: The encoder.
        images: Files; in the first one the point lies.
        point: As of :meth:`Seen.pixel`.
        crs: Coordinate system of the point. Defaults to None, pixels.
        width: Of the figure in inches.

    Returns:
        Images and maps of cosine similarity, on one scale.

    Raises:
        ValueError: If the point lies outside of the first image.
    """
    seen = [encoder.see(path) for path in images]
    place = seen[0].pixel(point, crs)
    feature = feature_at(encoder, seen[0], place)
    maps = [similarity_map(encoder, one.path, feature) for one in seen]
    least = min(np.nanmin(values) for values in maps)
    height, across = seen[0].size
    figure, axes = panels(len(seen), 2, height / across, width, bar=True)
    drawn: Any = None
    for (left, right), one, values in zip(axes, seen, maps, strict=True):
        show_picture(left, one.picture, one.size)
        drawn = show_cells(right, values, encoder.stride, one.size, vmin=least, vmax=1)
        name_panel(left, one.name, 2, width)
        title(right, 'similarity to the point')
    for ax in axes[0]:
        mark_point(ax, place)
    colour_bar(figure, drawn, axes, 'cosine similarity of features')
    return figure
