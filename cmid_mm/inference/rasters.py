# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Rasters of results of large images, strip by strip."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from typing import Any

from numpy.typing import NDArray

from ..images import Place, Window
from ..images.strips import Content, StripWriter, join_strips
from .unfinished import Unfinished
from .windows import WindowGrid

#: A part of the image, a piece of each raster, and whether the image holds data there.
Piece = tuple[Window, Sequence[NDArray[Any]], bool]


def write_pieces(
    pieces: Iterator[Piece],
    unfinished: Unfinished,
    grid: WindowGrid,
    strips: range,
    contents: Mapping[str, Content],
) -> None:
    """Write strips of rasters of an image.

    Args:
        pieces: Those of the strips, one for each column of windows.
        unfinished: Where they go.
        grid: What divides the image into strips.
        strips: Those to write.
        contents: What the rasters are, by the endings of their names.
    """
    for strip in strips:
        top, below = grid.rows_of_strip(strip)
        holds_data = False
        with ExitStack() as stack:
            writers = [
                stack.enter_context(
                    StripWriter(
                        unfinished.draft(strip, ending),
                        below - top,
                        grid.width,
                        content,
                    )
                )
                for ending, content in contents.items()
            ]
            for window, values, present in islice(pieces, len(grid.lefts)):
                holds_data |= present
                for writer, planes in zip(writers, values, strict=True):
                    writer.write(planes, 0, window[1])
        unfinished.settle(strip, list(contents), holds_data)


def join_pieces(
    unfinished: Unfinished,
    grid: WindowGrid,
    contents: Mapping[str, Content],
    place: Place | None,
) -> None:
    """Make the results of strips that are all done."""
    for ending, content in contents.items():
        join_strips(
            {
                top: unfinished.part(strip, ending)
                for strip, top in enumerate(grid.tops)
            },
            unfinished.result(ending),
            (grid.height, grid.width),
            content,
            place,
        )
