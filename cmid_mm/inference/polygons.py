# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Polygons of a class raster of any size: strip by strip, from the regions' corners."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from .outlines import corners, outlined

#: Some rows of a raster: class indices, uint8 (h, W), and their scores, if known.
Rows = tuple[NDArray[np.uint8], NDArray[Any] | None]

#: Corners, at least, of regions whose outlines are made together.
_TOGETHER = 2**16


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


#: Class index, pixels and sum of the scores of each region, (3, N), by the numbers of
#: the regions; 0 is the number of no region.
_Regions = NDArray[np.float64]
#: Corners of each region, in parts.
_Corners = dict[int, list[NDArray[np.int64]]]

#: Where there are none.
_NO_REGIONS: _Regions = np.zeros((3, 1))


def class_polygons(
    strips: Iterable[Rows], left_out: Iterable[int], least_pixels: float = 0
) -> Iterator[ClassPolygon]:
    """Find the regions of one class, each as soon as its last row is read.

    Memory holds a strip, and the corners of the regions that reach its lower edge, 8
    bytes each: it does not grow with the raster, but with the longest outline, which
    has to be whole.

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
    sweep: _Sweep | None = None
    for values, scores in strips:
        sweep = sweep or _Sweep(values.shape[1], max(least_pixels, 1))
        yield from sweep.add(*_label(values, wanted, scores))
    if sweep is not None:
        yield from sweep.end()


class _Sweep:
    """The regions that reach the last row so far.

    Args:
        width: Of the raster.
        least_pixels: Smaller regions are left out.
    """

    def __init__(self, width: int, least_pixels: float) -> None:
        self._least_pixels = least_pixels
        self._open = _NO_REGIONS
        self._corners: _Corners = {0: []}
        self._last = np.zeros(width, np.intp)
        self._top = 0

    def add(self, labels: NDArray[np.int32], found: _Regions) -> Iterator[ClassPolygon]:
        """Go on by some rows.

        Args:
            labels: Number of each pixel's region in these rows, (h, W).
            found: The regions in these rows.

        Yields:
            The regions that do not reach the last of these rows.
        """
        above, below = self._numbers(labels[0], found)
        numbers = np.concatenate((above, below[1:]))
        regions = np.concatenate((self._open, found[:, 1:]), 1)
        for column in regions[1:]:
            column[:] = np.bincount(numbers, column, len(numbers))
        going_on = np.unique(np.append(below[labels[-1]], 0))
        kept = regions[1] >= self._least_pixels
        kept[going_on] = True

        rows = np.zeros((len(labels) + 1, labels.shape[1] + 2), np.int32)
        rows[0, 1:-1] = (above * kept[above])[self._last]
        rows[1:, 1:-1] = (below * kept[below])[labels]
        held = self._held(above, *corners(rows, self._top))
        kept[going_on] = False
        yield from _polygons(np.flatnonzero(kept), regions, held)

        self._open = regions[:, going_on]
        self._corners = {
            new: held.get(number, []) for new, number in enumerate(going_on.tolist())
        }
        self._last[:] = np.searchsorted(going_on, rows[-1, 1:-1])
        self._top += len(labels)

    def end(self) -> Iterator[ClassPolygon]:
        """Give the regions that reach the last row."""
        return self.add(np.zeros((1, len(self._last)), np.int32), _NO_REGIONS)

    def _numbers(
        self, first: NDArray[np.int32], found: _Regions
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Join regions with those above: numbers of what was open, and of the found."""
        count = self._open.shape[1]
        joined = (self._last > 0) & (first > 0)
        upper, lower = self._last[joined], first[joined]
        same = self._open[0, upper] == found[0, lower]
        pairs = upper[same], lower[same] + (count - 1)
        total = count - 1 + found.shape[1]
        graph = coo_array((np.ones(same.sum(), np.int8), pairs), (total, total))
        _, parts = connected_components(graph, directed=False)
        _, least, which = np.unique(parts, return_index=True, return_inverse=True)
        numbers = least[which]
        return numbers[:count], np.append(0, numbers[count:])

    def _held(
        self,
        above: NDArray[np.intp],
        owners: NDArray[np.int32],
        found: NDArray[np.int64],
    ) -> _Corners:
        """Corners of regions, of which some became one and some got more."""
        held: _Corners = {}
        for old, number in enumerate(above.tolist()):
            if number == old:
                held[number] = self._corners[old]
            else:
                held[number] += self._corners[old]
        numbers, counts = np.unique(owners, return_counts=True)
        ends = np.cumsum(counts)
        spans = np.stack((numbers, ends - counts, ends), 1)
        for number, start, end in spans.tolist():
            # A copy: a part of an array holds all of it.
            held.setdefault(number, []).append(found[start:end].copy())
        return held


def _polygons(
    which: NDArray[np.intp], regions: _Regions, held: _Corners
) -> Iterator[ClassPolygon]:
    """Make polygons of regions that are complete, and forget their corners."""
    if not len(which):
        return
    sizes = np.array([sum(map(len, held[number])) for number in which.tolist()])
    cuts = np.flatnonzero(np.diff(np.cumsum(sizes) // _TOGETHER)) + 1
    for numbers, counts in zip(
        np.split(which, cuts), np.split(sizes, cuts), strict=True
    ):
        geometries = outlined(
            np.repeat(np.arange(len(numbers), dtype=np.int32), counts),
            np.concatenate(
                [part for number in numbers.tolist() for part in held.pop(number)]
            ),
        )
        values, pixels, sums = regions[:, numbers]
        columns = values.astype(int), pixels.astype(int), sums / pixels
        yield from map(ClassPolygon, *(each.tolist() for each in columns), geometries)


def _label(
    values: NDArray[np.uint8],
    wanted: NDArray[np.bool_],
    scores: NDArray[Any] | None,
) -> tuple[NDArray[np.int32], _Regions]:
    """Number the regions of a strip from 1."""
    labels = np.zeros(values.shape, np.int32)
    kinds = [0]
    for value in np.flatnonzero(np.bincount(values.ravel(), minlength=256) * wanted):
        inside = values == value
        count, found = cv2.connectedComponents(
            inside.view(np.uint8), connectivity=4, ltype=cv2.CV_32S
        )
        np.add(found, len(kinds) - 1, out=labels, where=inside)
        kinds += [int(value)] * (count - 1)
    flat = labels.ravel()
    regions = np.full((3, len(kinds)), np.nan)
    regions[0] = kinds
    regions[1] = np.bincount(flat, minlength=len(kinds))
    if scores is not None:
        regions[2] = np.bincount(flat, scores.ravel(), len(kinds))
    regions[1, 0] = 0
    return labels, regions
