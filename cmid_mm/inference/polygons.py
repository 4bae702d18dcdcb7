# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Polygons of a class raster of any size: strip by strip, joined across the strips."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.features import shapes

#: Some rows of a raster: class indices, uint8 (h, W), and their scores, if known.
Rows = tuple[NDArray[np.uint8], NDArray[Any] | None]


class ClassPolygon(NamedTuple):
    """A region of pixels of one class that share edges.

    Attributes:
        value: Class index.
        pixels: Number of its pixels.
        score: Mean of their scores; NaN where there are none.
        geometry: Shapely's polygon, with holes; column and row of its corners.
    """

    value: int
    pixels: int
    score: float
    geometry: Any


@dataclass
class _Region:
    """What is known of a region while it may go on in the next strip."""

    value: int
    pixels: int
    score: float
    pieces: list[Any] = field(default_factory=list)
    holes: list[NDArray[Any]] = field(default_factory=list)
    larger: '_Region | None' = None

    def add(self, rings: Sequence[Any], top: int, bottom: int) -> None:
        """Add a piece: its outline and holes in a strip of rows."""
        outline, *holes = (np.asarray(ring, np.int32) for ring in rings)
        reaching: list[NDArray[Any]] = []
        for hole in holes:
            rows = hole[:, 1]
            within = top < rows.min() and rows.max() < bottom
            (self.holes if within else reaching).append(hole)
        self.pieces.append(shapely.Polygon(outline, reaching))

    def root(self) -> '_Region':
        """The region that this one turned out to be a part of, or itself."""
        region = self
        while region.larger is not None:
            region = region.larger
        return region

    def join(self, other: '_Region') -> None:
        """Make one of two regions."""
        larger, smaller = self.root(), other.root()
        if larger is smaller:
            return
        if len(larger.pieces) < len(smaller.pieces):
            larger, smaller = smaller, larger
        larger.pixels += smaller.pixels
        larger.score += smaller.score
        larger.pieces += smaller.pieces
        larger.holes += smaller.holes
        smaller.pieces, smaller.holes, smaller.larger = [], [], larger

    def polygon(self) -> ClassPolygon:
        """The region, which is complete."""
        if len(self.pieces) == 1:
            rings = _rings(self.pieces[0])
        else:
            rings = [_corners(ring) for ring in _rings(shapely.union_all(self.pieces))]
        geometry = shapely.Polygon(rings[0], [*rings[1:], *self.holes])
        score = self.score / self.pixels
        return ClassPolygon(self.value, self.pixels, score, geometry)


def class_polygons(
    strips: Iterable[Rows], left_out: Iterable[int], least_pixels: float = 0
) -> Iterator[ClassPolygon]:
    """Find the regions of one class, each as soon as its last row is read.

    Memory holds a strip, and the outlines of the regions that reach its lower edge: it
    does not grow with the raster, but with the longest outline, which has to be whole.

    Args:
        strips: The raster from top to bottom, any number of rows at a time, on which
            the regions do not depend.
        left_out: Indices of which no polygons are made.
        least_pixels: Smaller regions are left out. Defaults to 0.

    Yields:
        The regions, in the order in which they end.
    """
    wanted = np.ones(256, bool)
    wanted[list(left_out)] = False
    open_regions: list[_Region] = []
    above: tuple[NDArray[np.int32], list[_Region]] | None = None
    top = 0
    for values, scores in strips:
        count = len(values)
        labels, regions = _label(values, wanted, scores)
        first, last = labels[0].copy(), labels[-1].copy()
        _drop_specks(labels, regions, least_pixels)
        for outline, label in shapes(
            labels, labels > 0, connectivity=4, transform=Affine.translation(0, top)
        ):
            regions[int(label)].add(outline['coordinates'], top, top + count)
        if above is not None:
            _join(*above, first, regions)
        going_on = _roots(regions[label] for label in np.unique(last) if label)
        for key, region in _roots((*open_regions, *regions[1:])).items():
            if key not in going_on and region.pixels >= max(least_pixels, 1):
                yield region.polygon()
        open_regions = list(going_on.values())
        above, top = (last, regions), top + count
    for region in open_regions:
        if region.pixels >= least_pixels:
            yield region.polygon()


def _label(
    values: NDArray[np.uint8],
    wanted: NDArray[np.bool_],
    scores: NDArray[Any] | None,
) -> tuple[NDArray[np.int32], list[_Region]]:
    """Number the regions of a strip from 1; the first of those returned is nothing."""
    labels = np.zeros(values.shape, np.int32)
    kinds = [0]
    for value in np.flatnonzero(np.bincount(values.ravel(), minlength=256) * wanted):
        inside = values == value
        count, found = cv2.connectedComponents(
            inside.view(np.uint8), connectivity=4, ltype=cv2.CV_32S
        )
        labels[inside] = found[inside] + (len(kinds) - 1)
        kinds += [int(value)] * (count - 1)
    flat = labels.ravel()
    pixels = np.bincount(flat, minlength=len(kinds))
    sums = (
        np.full(len(kinds), np.nan)
        if scores is None
        else np.bincount(flat, scores.ravel(), len(kinds))
    )
    known = zip(kinds, pixels.tolist(), sums.tolist(), strict=True)
    return labels, [_Region(*region) for region in known]


def _drop_specks(
    labels: NDArray[np.int32], regions: list[_Region], least_pixels: float
) -> None:
    """Forget what is too small, unless it may be a part of something larger."""
    small = np.array([region.pixels < least_pixels for region in regions])
    small[labels[0]] = small[labels[-1]] = False
    if small.any():
        labels[small[labels]] = 0


def _join(
    last: NDArray[np.int32],
    above: list[_Region],
    first: NDArray[np.int32],
    below: list[_Region],
) -> None:
    """Join the regions of a strip's last row with those of the next one's first."""
    pairs = np.unique(np.stack((last, first), 1)[(last > 0) & (first > 0)], axis=0)
    for upper, lower in pairs.tolist():
        if above[upper].value == below[lower].value:
            above[upper].join(below[lower])


def _roots(regions: Iterable[_Region]) -> dict[int, _Region]:
    """The whole regions that these belong to, each once."""
    return {id(region.root()): region.root() for region in regions}


def _rings(polygon: Any) -> list[NDArray[np.float64]]:
    """Corners of the outline and of the holes; the first one is also the last."""
    return [shapely.get_coordinates(ring) for ring in shapely.get_rings(polygon)]


def _corners(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points of a ring but those on straight edges, where pieces met."""
    points = ring[:-1]
    before, after = points - np.roll(points, 1, 0), np.roll(points, -1, 0) - points
    corners = points[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]
    return np.concatenate((corners, corners[:1]))
