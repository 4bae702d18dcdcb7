# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Dividing large images."""

from collections.abc import Iterator

from .pixels import Window


def tile_windows(height: int, width: int, size: int, overlap: int) -> Iterator[Window]:
    """Divide an image into windows of one size.

    Windows at the edges are shifted inwards, so that all are full unless the image
    itself is smaller.

    Args:
        height (int): Height of the image in pixels.
        width (int): Width of the image in pixels.
        size (int): Side of the windows in pixels.
        overlap (int): Pixels that neighbours share, 0 to ``size`` - 1.

    Yields:
        tuple[int, int, int, int]: Top, left, height and width, row by row.
    """
    for top in window_starts(height, size, overlap):
        for left in window_starts(width, size, overlap):
            yield top, left, min(size, height), min(size, width)


def window_starts(length: int, size: int, overlap: int) -> list[int]:
    """First pixels of the windows that cover a side of so many pixels."""
    last = max(length - size, 0)
    return [*range(0, last, size - overlap), last]
