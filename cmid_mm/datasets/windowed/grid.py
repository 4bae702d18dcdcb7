# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Windows of a scene, on a grid, within an area."""

import math
from collections.abc import Iterable, Iterator

from ...images import ImageFile, Place, Window, tile_windows
from ...images.notices import say_once
from ...labels.vectors import Area, placed

#: A strip at the edge of a polygon that is narrower than this share of a window gets
#: no window of its own: nearly all of it would be in its neighbour too.
_SLIVER = 1 / 8

#: Pixels by which an edge may miss a whole pixel and still be on it.
_ROUNDING = 1e-3


def grid_windows(
    image: ImageFile, size: int, overlap: int, area: Area | None = None
) -> Iterator[tuple[Window, Window]]:
    """Divide a scene, or what of it lies in an area, into windows of one size.

    Each polygon of the area has a grid of its own, in the rectangle around it, which
    no window leaves: so windows of polygons that lie apart do not touch, except those
    of polygons that are smaller than a window, which lie around their middles. Of a
    large polygon that the edge of the scene cuts to less than a window there is none,
    and a strip of less than an eighth of a window is left out.

    Args:
        image: The scene.
        size: Side of the windows in pixels; scenes that are smaller are one window.
        overlap: Pixels that neighbours share.
        area: Where windows shall lie. Defaults to None, everywhere.

    Yields:
        Window, and the rectangle in which it may be moved.
    """
    height, width = image.header.shape
    place = None if area is None else placed(area.path, image.place, image.path)
    for left, top, right, bottom in _rectangles(image, area, place):
        rows = _extent(top, bottom, height, size)
        columns = _extent(left, right, width, size)
        if rows is None or columns is None:
            continue
        if area is not None and min(right - left, bottom - top) < size - 1:
            say_once(
                f'polygons of {area.path}',
                f'{area.path}: polygons are smaller than a window of {size} pixels, '
                'which reaches beyond them; labels there are ignored',
            )
        bounds = rows[0], columns[0], rows[1], columns[1]
        sides = rows[1], columns[1]
        if area is not None:
            sides = (
                _trimmed(rows[1], size, overlap),
                _trimmed(columns[1], size, overlap),
            )
        for row, column, *shape in tile_windows(*sides, size, overlap):
            window = rows[0] + row, columns[0] + column, shape[0], shape[1]
            if area is None or place is None or area.touches(place, window):
                yield window, bounds


def _rectangles(
    image: ImageFile, area: Area | None, place: Place | None
) -> Iterable[tuple[float, float, float, float]]:
    """Left, top, right and bottom of each polygon in pixels of the scene."""
    if area is None or place is None:
        return [(0, 0, image.width, image.height)]
    outlines = area.outlines(place)
    return [piece.bounds for piece in getattr(outlines, 'geoms', [outlines])]


def _trimmed(length: int, size: int, overlap: int) -> int:
    """A side without the strip that is not worth a window."""
    strip = max(length - size, 0) % (size - overlap)
    return length - strip if strip < _SLIVER * size else length


def whole_pixels(low: float, high: float, length: int) -> tuple[int, int]:
    """The pixels of an image that lie between two edges, along one side.

    Args:
        low: The first edge.
        high: The second.
        length: Of the side.

    Returns:
        First pixel, and the one after the last.
    """
    first = max(0, math.ceil(low - _ROUNDING))
    return first, min(length, math.floor(high + _ROUNDING))


def _extent(low: float, high: float, length: int, size: int) -> tuple[int, int] | None:
    """First pixel and length of a rectangle along one side of the scene."""
    first, last = whole_pixels(low, high, length)
    side = min(size, length)
    if last - first >= side:
        return first, last - first
    if last <= first or high - low >= side:
        return None
    middle = round((low + high - side) / 2)
    return min(max(middle, 0), length - side), side
