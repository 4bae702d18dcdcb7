# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Splits by space: blocks of ground for training, for validation, for testing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.warp import transform

from ...dependencies import vector_library
from ...images import ImageFile, Place, Window
from ...images.image_file import held_open
from ...labels.areas import Bounds, write_areas
from ...labels.errors import LabelError
from ...labels.vectors import placed
from .blocks import assign_blocks
from .grid import whole_pixels
from .scenes import LayersOfScenes

#: Labels are counted by windows of at most so many pixels a side.
_COUNTED_AT_ONCE = 2048


@dataclass(frozen=True)
class Length:
    """A length on the ground.

    Attributes:
        value: How long.
        unit: ``'m'``, or ``'px'`` for pixels of the first scene.
    """

    value: float
    unit: str

    def __post_init__(self) -> None:
        if self.unit not in ('m', 'px') or not self.value > 0:
            raise ValueError(
                f'found {self} for the length of a block or guard strip; expected more '
                'than 0, in m or px (pixels), such as 1px'
            )

    @classmethod
    def parse(cls, text: str) -> 'Length':
        """Read ``512``, ``512px`` or ``2000m``."""
        unit = 'm' if text.endswith('m') else 'px'
        return cls(float(text.removesuffix(unit)), unit)

    def __str__(self) -> str:
        return f'{self.value:g}{self.unit}'


@dataclass(frozen=True)
class GroundSplit:
    """Blocks of ground, shared out.

    Attributes:
        crs: Reference system of the blocks.
        blocks: Their rectangles, without the guard strip.
        counts: Labelled pixels by block and class.
        parts: Index of the part of each block, or -1.
        names: Names of the parts.
        classes: Names of the classes.
        window: Side in pixels of the first scene of the largest windows that fit.
    """

    crs: CRS
    blocks: Sequence[Bounds]
    counts: NDArray[np.int64]
    parts: NDArray[np.intp]
    names: Sequence[str]
    classes: Sequence[str]
    window: int

    def write(self, paths: Sequence[Path]) -> None:
        """Write the blocks of each part as a GeoPackage, as ``aoi`` takes it."""
        for part, path in enumerate(paths):
            chosen = np.flatnonzero(self.parts == part)
            write_areas(path, [self.blocks[i] for i in chosen], self.crs)

    def blocks_of_parts(self) -> list[int]:
        """How many blocks each part has."""
        return [int((self.parts == part).sum()) for part in range(len(self.names))]

    def report(self) -> str:
        """The share of each class in all labels and in those of each part."""
        sums = [
            self.counts[self.parts == i].sum(axis=0) for i in range(len(self.names))
        ]
        columns = {
            'all': self.counts.sum(axis=0),
            **dict(zip(self.names, sums, strict=True)),
        }
        width = max(len('class'), *map(len, self.classes))
        lines = [f'{"class":{width}}' + ''.join(f'{name:>9}' for name in columns)]
        for index, name in enumerate(self.classes):
            shares = [100 * c[index] / max(c.sum(), 1) for c in columns.values()]
            lines.append(f'{name:{width}}' + ''.join(f'{s:8.2f}%' for s in shares))
        total = max(int(self.counts.sum()), 1)
        lines.append(
            f'{"of all":{width}}'
            + ''.join(f'{100 * c.sum() / total:8.2f}%' for c in columns.values())
        )
        for part, held in zip(self.names, sums, strict=True):
            for index in np.flatnonzero(held == 0):
                blocks = int((self.counts[:, index] > 0).sum())
                lines.append(
                    f'{part} has no {self.classes[index]}: '
                    + (
                        f'only {blocks} of {len(self.blocks)} blocks have; smaller '
                        'blocks (--block) may help'
                        if blocks
                        else 'there is none within the blocks'
                    )
                )
        return '\n'.join(lines)


def split_ground(
    scenes: Sequence[str],
    layers: LayersOfScenes,
    block: Length,
    guard: Length,
    shares: dict[str, float],
    seed: int = 0,
) -> GroundSplit:
    """Divide the ground of scenes into blocks, and share these out.

    The blocks are squares on the ground, or nearly so: they fill the rectangle around
    all scenes and are at least as large as said. So scenes that overlap are divided
    along the same lines.

    Args:
        scenes: Names of the scenes, each with a place.
        layers: Labels, which decide where blocks go.
        block: Side of the blocks.
        guard: Width of the strip between blocks that belongs to none.
        shares: Share of each part by its name, in all 1.
        seed: Decides between equals.

    Returns:
        The split.

    Raises:
        LabelError: If a scene has no place, there are not enough blocks with labels,
            or the guard strip leaves nothing of them.
    """
    places = [_place(held_open(scene), layers.path) for scene in scenes]
    crs = _metric_system(places[0], held_open(scenes[0]))
    outlines = np.array(
        [
            _bounds(_corners(held_open(scene)), place, crs)
            for scene, place in zip(scenes, places, strict=True)
        ]
    )
    first = held_open(scenes[0])
    pixel = math.sqrt(
        np.prod(outlines[0, 2:] - outlines[0, :2]) / (first.height * first.width)
    )
    sides = [
        length.value * pixel
        if length.unit == 'px'
        else length.value / crs.linear_units_factor[1]
        for length in (block, guard)
    ]
    if sides[1] >= sides[0]:
        raise LabelError(f'guard={guard} leaves nothing of blocks of {block}')
    blocks = _lay_out(outlines, *sides)
    counts = np.zeros((len(blocks), len(layers.classes)), np.int64)
    for scene, place in zip(scenes, places, strict=True):
        image = held_open(scene)
        for row, bounds in zip(counts, blocks, strict=True):
            window = _window(image, place, bounds, crs)
            if window is not None:
                row += _counts(layers, scene, image, window)
    labelled = int(counts.any(axis=1).sum())
    if labelled < len(shares):
        raise LabelError(
            f'{labelled} of {len(blocks)} blocks of {block} have labels of '
            f'{layers.path}, which cannot be divided into {", ".join(shares)}; take '
            'smaller blocks (--block), and check that scenes and labels overlap'
        )
    parts = assign_blocks(counts, list(shares.values()), seed)
    lengths = [[right - left, top - bottom] for left, bottom, right, top in blocks]
    return GroundSplit(
        crs,
        blocks,
        counts,
        parts,
        tuple(shares),
        layers.classes,
        int(np.min(lengths) / pixel + 1e-3),
    )


def _place(image: ImageFile, labels: str) -> Place:
    return placed(labels, image.place, image.path)


def _metric_system(place: Place, image: ImageFile) -> CRS:
    """The reference system of a place if it is a plane one, else the UTM zone."""
    if place.crs is not None and place.crs.is_projected:
        return place.crs
    geopandas = vector_library()
    x, y = place.coordinates(_corners(image)).T
    points = geopandas.GeoSeries.from_xy(x, y, crs=place.crs.to_wkt())  # type: ignore
    return CRS.from_user_input(points.estimate_utm_crs().to_wkt())


def _corners(image: ImageFile) -> NDArray[np.float64]:
    height, width = image.header.shape
    return np.array([[0, 0], [width, 0], [0, height], [width, height]], np.float64)


def _bounds(points: NDArray[np.float64], place: Place, crs: CRS) -> NDArray[np.float64]:
    """Left, bottom, right and top of points of an image in a reference system."""
    x, y = transform(place.crs, crs, *place.coordinates(points).T)
    return np.array([min(x), min(y), max(x), max(y)])


def _lay_out(outlines: NDArray[np.float64], side: float, guard: float) -> list[Bounds]:
    """Blocks that fill the rectangle around all, less the strip between them."""
    low, high = outlines[:, :2].min(axis=0), outlines[:, 2:].max(axis=0)
    edges = [
        np.linspace(low[axis], high[axis], max(1, int(extent / side + 1e-6)) + 1)
        for axis, extent in enumerate(high - low)
    ]
    spans = []
    for along in edges:
        inset = np.full(len(along), guard / 2)
        inset[[0, -1]] = 0
        spans.append(
            list(zip(along[:-1] + inset[:-1], along[1:] - inset[1:], strict=True))
        )
    return [
        (float(left), float(bottom), float(right), float(top))
        for bottom, top in reversed(spans[1])
        for left, right in spans[0]
    ]


def _window(image: ImageFile, place: Place, bounds: Bounds, crs: CRS) -> Window | None:
    """The pixels of a block."""
    left, bottom, right, top = bounds
    x, y = transform(
        crs, place.crs, [left, right, left, right], [bottom, bottom, top, top]
    )
    pixels = place.pixels(np.array([x, y]).T)
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    first_column, last_column = whole_pixels(low[0], high[0], image.width)
    first_row, last_row = whole_pixels(low[1], high[1], image.height)
    if last_row <= first_row or last_column <= first_column:
        return None
    return first_row, first_column, last_row - first_row, last_column - first_column


def _counts(
    layers: LayersOfScenes, scene: str, image: ImageFile, window: Window
) -> Any:
    layer = layers.of(scene)
    top, left, height, width = window
    return sum(
        layer.counts(image, (top + row, left + column, rows, columns))
        for row in range(0, height, _COUNTED_AT_ONCE)
        for column in range(0, width, _COUNTED_AT_ONCE)
        for rows in [min(_COUNTED_AT_ONCE, height - row)]
        for columns in [min(_COUNTED_AT_ONCE, width - column)]
    )
