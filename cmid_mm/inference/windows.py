# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Large images in overlapping windows."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from io import BufferedRandom
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..images import Window, tile_windows
from ..images.tiles import window_starts
from ..visualization.drawing import IGNORED

Item = TypeVar('Item')
Scores = NDArray[np.float32]

#: A window, its scores (C, h, w), and which pixels hold no data, (h, w), or None.
Scored = tuple[Window, Tensor, NDArray[np.bool_] | None]


@dataclass(frozen=True)
class WindowGrid:
    """The overlapping windows of an image, as :func:`tile_windows` divides it.

    A row of windows settles a strip of the image: from its top to that of the next
    row. Strips are the units in which large images are predicted: each depends on
    nothing but the windows that reach into it.

    Attributes:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        size: Side of the windows in pixels.
        overlap: Pixels that neighbouring windows share.
    """

    height: int
    width: int
    size: int
    overlap: int

    @cached_property
    def tops(self) -> list[int]:
        """First pixel of each row of windows."""
        return window_starts(self.height, self.size, self.overlap)

    @cached_property
    def lefts(self) -> list[int]:
        """First pixel of each column of windows."""
        return window_starts(self.width, self.size, self.overlap)

    @cached_property
    def windows(self) -> list[Window]:
        """All windows, row by row."""
        return list(tile_windows(self.height, self.width, self.size, self.overlap))

    @property
    def strips(self) -> range:
        """Numbers of the rows of windows, and of the strips that they settle."""
        return range(len(self.tops))

    def rows_of_strip(self, strip: int) -> tuple[int, int]:
        """First row of pixels of a strip, and the first one below it."""
        return self.tops[strip], [*self.tops[1:], self.height][strip]

    def reaching(self, strips: range) -> range:
        """Rows of windows that reach into strips: some above them, and their own."""
        height = min(self.size, self.height)
        top = self.tops[strips.start]
        first = next(i for i in self.strips if self.tops[i] + height > top)
        return range(first, strips.stop)


class Cell(NamedTuple):
    """A part of an image that is settled: no further window reaches it.

    Attributes:
        window: Where.
        mean: Weighted mean of the windows' scores, (C, h, w); None if no window
            holds data.
        covered: Pixels that hold data in a window, bool (h, w).
    """

    window: Window
    mean: Tensor | None
    covered: NDArray[np.bool_]

    @property
    def scores(self) -> Scores | None:
        """The mean as an array."""
        return None if self.mean is None else self.mean.cpu().numpy()

    def decided(self, decide: Callable[[Tensor], Tensor]) -> NDArray[np.uint8]:
        """What is decided by the scores, (h, w); 255 where there is no data.

        Args:
            decide: From scores (C, h, w) to classes (h, w).
        """
        if self.mean is None:
            return np.full(self.covered.shape, IGNORED, np.uint8)
        classes = decide(self.mean).to(torch.uint8).cpu().numpy()
        classes[~self.covered] = IGNORED
        return classes


def blend(
    scores: Iterable[Scored],
    grid: WindowGrid,
    strips: range,
    folder: Path | None = None,
) -> Iterator[Cell]:
    """Average the scores of overlapping windows.

    Weights fall linearly towards a window's edges, where a network sees least of the
    surroundings: no seams. What a row of windows leaves unsettled for the next one
    waits in a temporary file; memory grows with neither side of the image. All is done
    on the device where the scores are.

    Args:
        scores: Those of the rows of windows that reach into the strips, in their
            order; windows without data may be left out.
        grid: All windows.
        strips: Those to settle.
        folder: Where the temporary file is. Defaults to None, the system's choice.

    Yields:
        The cells of the strips, row by row.
    """
    upcoming = iter(scores)
    scored: Scored | None = None
    height, width = min(grid.size, grid.height), min(grid.size, grid.width)
    share = torch.outer(_tent(height), _tent(width))
    # Scores times weights, then the weights, from the left of the current window on.
    total: Tensor | None = None
    filled = 0  # columns of it that may hold something
    with tempfile.TemporaryFile(dir=folder) as file:
        carried = _Carried(file, height)
        for row in grid.reaching(strips):
            top, below = grid.rows_of_strip(row)
            for left, right in zip(
                grid.lefts, [*grid.lefts[1:], grid.width], strict=True
            ):
                if scored is None:  # not before it is needed: it may take a while
                    scored = next(upcoming, None)
                if scored is not None and scored[0][:2] == (top, left):
                    _, values, absent = scored
                    if total is None:
                        share = share.to(values)
                        total = values.new_zeros(len(values) + 1, height, width)
                    weight = share
                    if absent is not None:
                        weight = share * values.new_tensor(~absent)
                    total[:-1].addcmul_(values, weight)
                    total[-1] += weight
                    filled, scored = width, None
                ready, done = right - left, below - top
                slab = carried.take(left)
                if total is not None and filled:
                    slab = _sum(total[..., :ready], slab)
                    total[..., : width - ready] = total[..., ready:].clone()
                    total[..., width - ready :] = 0
                    filled = max(filled - ready, 0)
                if row in strips:
                    yield _cell((top, left, done, ready), slab)
                if slab is not None and slab.shape[1] > done:
                    carried.put(left, slab[:, done:])


def _sum(slab: Tensor, carried: Tensor | None) -> Tensor:
    """A slab, with what rows above have carried into its upper part."""
    slab = slab.clone()
    if carried is not None:
        slab[:, : carried.shape[1]] += carried.to(slab)
    return slab


def _cell(window: Window, slab: Tensor | None) -> Cell:
    if slab is None:
        return Cell(window, None, np.zeros(window[2:], bool))
    # What was carried may end above the lower edge of the cell.
    missing = max(window[2] - slab.shape[1], 0)
    settled = F.pad(slab[:, : window[2]], (0, 0, 0, missing))
    covered = settled[-1] > 0
    mean = settled[:-1] / settled[-1].where(covered, 1)
    return Cell(window, mean, covered.cpu().numpy())


class _Carried:
    """What a row of windows leaves to the next one, by columns of pixels, in a file."""

    def __init__(self, file: BufferedRandom, height: int) -> None:
        self._file = file
        self._height = height
        self._shapes: dict[int, tuple[int, ...]] = {}

    def put(self, left: int, slab: Tensor) -> None:
        """Keep a part of the columns from ``left`` on, of at most the full height."""
        self._shapes[left] = slab.shape
        self._seek(left, slab.shape)
        self._file.write(slab.contiguous().cpu().numpy().data)

    def take(self, left: int) -> Tensor | None:
        """What was kept of the columns from ``left`` on."""
        if left not in self._shapes:
            return None
        shape = self._shapes.pop(left)
        self._seek(left, shape)
        slab = torch.empty(shape)
        self._file.readinto(slab.numpy().data)
        return slab

    def _seek(self, left: int, shape: tuple[int, ...]) -> None:
        self._file.seek(4 * left * shape[0] * self._height)


def _tent(length: int) -> Tensor:
    """Weights that rise from the edges to the middle, positive everywhere."""
    position = (torch.arange(length) + 0.5) / length
    return torch.minimum(position, 1 - position)


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Divide items into parts of at most ``size``."""
    remaining = iter(items)
    while part := list(islice(remaining, size)):
        yield part
