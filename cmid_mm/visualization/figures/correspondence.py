# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Dense correspondence: cells of two images that are each other's most similar."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke
from numpy.typing import NDArray
from rasterio.warp import transform
from torch import Tensor

from ...models.heads.assignment_head import location_grid
from ..drawing import to_picture
from .source import FigureEncoder, Seen
from .style import COLUMN, VALUES, colour_bar, panels, show_picture, title

_MOST_CELLS = 16384
_UNIT = 32
#: Views of one image are so large a part of its sides.
_PART = 0.75
#: White between the pictures, as a share of the width of the first.
_GAP = 0.05


@dataclass(frozen=True)
class Matches:
    """Cells that are each other's most similar, the most similar ones first.

    Attributes:
        first: Indices of the cells of the first map, row by row, (M,).
        second: Of the second map, (M,).
        similarity: Cosine, (M,).
    """

    first: Tensor
    second: Tensor
    similarity: Tensor


def mutual_matches(first: Tensor, second: Tensor) -> Matches:
    """Match cells whose features are each other's nearest by cosine.

    Args:
        first: (D, N), cells without data zero: these are not matched.
        second: (D, M), likewise.
    """
    cosine = F.normalize(first, dim=0).T @ F.normalize(second, dim=0)
    cosine[(first == 0).all(0)] = -2
    cosine[:, (second == 0).all(0)] = -2
    best, forward = cosine.max(1)
    backward = cosine.argmax(0)
    cells = torch.arange(len(forward), device=forward.device)
    mutual = (backward[forward] == cells) & (best > -2)
    cells = cells[mutual][best[mutual].argsort(descending=True, stable=True)]
    return Matches(cells.cpu(), forward[cells].cpu(), best[cells].cpu())


@dataclass(frozen=True)
class Truth:
    """Where the cells of two images lie in one system.

    Attributes:
        first: x and y of the cells of the first image, (N, 2).
        second: Of the second one, (M, 2).
        tolerance: Distance along x and y up to which a match is right: a cell.
    """

    first: NDArray[Any]
    second: NDArray[Any]
    tolerance: NDArray[Any]

    def right(self, matches: Matches) -> NDArray[np.bool_]:
        """Which matches show the same ground within a cell, (M,)."""
        offsets = self.first[matches.first] - self.second[matches.second]
        return (np.abs(offsets) <= self.tolerance).all(-1)

    def chance(self) -> float:
        """Share right of random pairs of cells."""
        near = [
            (np.abs(point - self.second) <= self.tolerance).all(-1).mean()
            for point in self.first
        ]
        return float(np.mean(near))


def centres(shape: Sequence[int], stride: float) -> NDArray[np.float64]:
    """X and y of the centres of cells, row by row, in pixels, (N, 2)."""
    rows, columns = np.indices(shape) + 0.5
    return np.stack([columns.ravel(), rows.ravel()], -1) * stride


@dataclass(frozen=True)
class _Pair:
    """Two images, their maps, and where these show the same ground."""

    seen: tuple[Seen, Seen]
    maps: tuple[Tensor, Tensor]
    truth: Truth | None


def views_of(encoder: FigureEncoder, path: str | Path) -> _Pair:
    """Two overlapping parts of one image, the second one mirrored."""
    seen = encoder.see(path)
    side = int(_PART * min(*seen.size, encoder.window / _PART)) // _UNIT * _UNIT
    if side < 2 * _UNIT:
        raise ValueError(
            f'{path} has {seen.size[1]} x {seen.size[0]} pixels, too few for two '
            'views; name two images'
        )
    # Opposite corners of what is a little larger than the views.
    offset = min(min(seen.size) - side, side // 2)
    top, left = (length - side - offset for length in seen.size)
    first = np.array([top // 2, left // 2])
    boxes = [(*first, False), (*(first + offset), True)]
    views, maps, places = [], [], []
    with encoder.open(path) as image:
        for row, column, mirrored in boxes:
            pixels = encoder.load(image, (row, column, side, side))
            pixels = pixels.flip(2) if mirrored else pixels
            picture = to_picture(pixels.permute(1, 2, 0).numpy(), encoder.show_bands)
            views.append(replace(seen, picture=picture, size=(side, side)))
            maps.append(encoder.encode(pixels))
            box = torch.tensor([[row, column, side, side, mirrored]]).float()
            grid = maps[-1].shape[-2], maps[-1].shape[-1]
            places.append(location_grid(box, grid)[0].numpy()[:, ::-1])
    truth = Truth(places[0], places[1], np.full(2, encoder.stride))
    return _Pair((views[0], views[1]), (maps[0], maps[1]), truth)


def pair_of(
    encoder: FigureEncoder, paths: Sequence[str | Path], aligned: bool = False
) -> _Pair:
    """Two images, and where they show the same ground, if that is known.

    Args:
        encoder: The encoder.
        paths: Two files.
        aligned: Whether equal pixels show the same ground. Defaults to False: where
            both are georeferenced, their places are taken, else nothing is known.
    """
    first, second = (encoder.see(path) for path in paths)
    maps = tuple(encoder.map_of(path, _MOST_CELLS) for path in paths)
    stride = encoder.stride
    one, other = (centres(m.shape[-2:], stride) for m in maps)
    truth = None
    if aligned:
        scale = np.array(second.size[::-1]) / np.array(first.size[::-1])
        truth = Truth(one * scale, other, stride * np.maximum(scale, 1))
    elif first.place and second.place and first.place.crs and second.place.crs:
        moved = _on(first, second, one)
        step = np.abs(_on(first, second, one + stride) - moved)
        truth = Truth(moved, other, np.maximum(np.median(step, 0), stride))
    return _Pair((first, second), (maps[0], maps[1]), truth)


def _on(first: Seen, second: Seen, points: NDArray[Any]) -> NDArray[Any]:
    """Points of one georeferenced image in pixels of another, (N, 2)."""
    assert first.place is not None and second.place is not None
    x, y = first.place.coordinates(points).T
    x, y = transform(first.place.crs, second.place.crs, x, y)[:2]
    return second.place.pixels(np.stack([x, y], -1))


def correspondence_figure(
    encoder: FigureEncoder,
    images: Sequence[str | Path],
    aligned: bool = False,
    most: int = 40,
    width: float = COLUMN,
) -> Figure:
    """Draw which cells of two images are each other's most similar.

    Lines are coloured by similarity. Where the truth is known, that is for views of
    one image, georeferenced images and aligned ones, the share of all matches that
    lie within a cell of it is written above, beside that of random pairs of cells, and
    wrong matches are dotted.

    Args:
        encoder: The encoder.
        images: Two files, or one, of which two overlapping views are taken, one of
            them mirrored.
        aligned: Whether equal pixels of both files show the same ground.
        most: Matches drawn, the most similar ones.
        width: Of the figure in inches.

    Raises:
        ValueError: If there are not one or two images, or too many cells.
    """
    if len(images) not in (1, 2):
        raise ValueError(
            f'a correspondence is of two images, or of two views of one, got '
            f'{len(images)} images'
        )
    if len(images) == 1:
        pair = views_of(encoder, images[0])
    else:
        pair = pair_of(encoder, images, aligned)
    matches = mutual_matches(*(m.flatten(1) for m in pair.maps))
    if not len(matches.first):
        raise ValueError(f'{images[0]} and {images[-1]} have no matching cell')
    return _draw(pair, matches, encoder.stride, most, width)


def _draw(
    pair: _Pair, matches: Matches, stride: float, most: int, width: float
) -> Figure:
    (high, wide), second = pair.seen[0].size, pair.seen[1].size
    # The second picture, as high as the first, stands to its right.
    scale, shift = high / second[0], wide * (1 + _GAP)
    total = shift + second[1] * scale
    figure, axes = panels(1, 1, high / total, width, bar=True)
    ax = axes[0, 0]
    show_picture(ax, pair.seen[0].picture, (high, wide))
    ax.imshow(pair.seen[1].picture, extent=(shift, total, high, 0))
    ax.set_xlim(0, total)
    ax.set_ylim(high, 0)
    starts, ends = (
        centres(m.shape[-2:], stride)[cells]
        for m, cells in zip(pair.maps, (matches.first, matches.second), strict=True)
    )
    ends = ends * scale + np.array([shift, 0])
    right = None if pair.truth is None else pair.truth.right(matches)
    segments = np.stack([starts, ends], 1)[:most]
    styles: Any = 'solid'
    if right is not None:
        styles = ['solid' if good else (0, (1, 1.5)) for good in right[:most]]
    values = matches.similarity.numpy()[:most]
    lines = LineCollection(
        list(segments), cmap=VALUES, linewidths=1.0, linestyles=styles
    )
    lines.set_array(values)
    lines.set_path_effects([Stroke(linewidth=2, foreground='black'), Normal()])
    ax.add_collection(lines)
    dots: Any = dict(c=values, cmap=VALUES, s=5, lw=0.5, edgecolors='black', zorder=3)
    for side in (0, 1):
        ax.scatter(*segments[:, side].T, **dots)
    text = f'{len(matches.first)} mutual best matches'
    if len(values) < len(matches.first):
        text += f', {len(values)} drawn'
    if right is not None and pair.truth is not None:
        chance = 100 * pair.truth.chance()
        text += f'; {100 * right.mean():.0f} % right (chance {chance:.1f} %)'
    title(ax, text)
    colour_bar(figure, lines, ax, 'cosine similarity of features')
    return figure
