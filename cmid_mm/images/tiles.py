# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Dividing large images."""

from collections.abc import Iterator

from .pixels import Window

#: Windows into which one image is divided at most: the square of 1,000,000 pixels into
#: those of 224. A header can say anything.
MAX_WINDOWS = 20_000_000


def tile_windows(
    height: int, width: int, size: int, overlap: int, name: object = 'an image'
) -> Iterator[Window]:
    """Divide an image into windows of one size.

    Windows at the edges are shifted inwards, so that all are full unless the image
    itself is smaller.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        size: Side of the windows in pixels.
        overlap: Pixels that neighbours share, 0 to ``size`` - 1.
        name: Of the image, for the error.

    Yields:
        Top, left, height and width, row by row.

    Raises:
        ValueError: If there are more than :data:`MAX_WINDOWS`.
    """
    rows, columns = (
        -(-max(side - size, 0) // (size - overlap)) + 1 for side in (height, width)
    )
    if rows * columns > MAX_WINDOWS:
        raise ValueError(
            f'{name}: {width} x {height} pixels are {rows * columns:,} windows of '
            f'{size} pixels, more than the {MAX_WINDOWS:,} that are permitted; take '
            'larger windows, or remove the image if its header is wrong'
        )
    for top in window_starts(height, size, overlap):
        for left in window_starts(width, size, overlap):
            yield top, left, min(size, height), min(size, width)


def window_starts(length: int, size: int, overlap: int) -> list[int]:
    """First pixels of the windows that cover a side of so many pixels."""
    last = max(length - size, 0)
    return [*range(0, last, size - overlap), last]
