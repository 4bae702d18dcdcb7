# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Windows of images as polygons in longitude and latitude."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..images import Place
from ..inference.ground import longitude_latitude

#: Most pieces into which a window's edge is divided, where it is bent on the map.
_MOST_PIECES = 64
#: How far, in pixels, the middle of a piece may lie beside the line that is drawn.
_TOLERANCE = 0.5


def outlines(windows: NDArray[np.int64], place: Place) -> NDArray[Any]:
    """Polygons of windows in longitude (-180 to 180) and latitude.

    One that lies across the 180th meridian is cut there, as GeoJSON and GeoParquet
    ask for, and one around a pole reaches up to it. Edges that are straight in the
    image and bent on this map get more points.

    Args:
        windows: Top, left, height and width in pixels, (N, 4).
        place: Where the image lies.

    Returns:
        Polygons and multi-polygons of shapely, (N,).

    Raises:
        ValueError: If a window does not lie on the Earth.
        ImportError: If shapely is missing.
    """
    import shapely

    rings = _rings(windows, place)
    longitude, latitude = rings[..., 0], rings[..., 1]
    is_plain = (
        (np.ptp(longitude, axis=1) < 180)
        & (np.abs(longitude).max(1) <= 180)
        & (np.abs(latitude).max(1) < 90)
    )
    found = np.empty(len(rings), object)
    found[is_plain] = shapely.polygons(rings[is_plain])
    for number in np.flatnonzero(~is_plain):
        found[number] = _cut(_unrolled(rings[number]))
    return found


def _rings(windows: NDArray[np.int64], place: Place) -> NDArray[np.float64]:
    """Points around each window in longitude and latitude, (N, points, 2)."""
    pieces = 1
    while True:
        around = _moved(_around(windows, 2 * pieces), place)
        ends = np.roll(around[:, ::2], -1, axis=1)
        drawn = around[:, ::2] + _apart(ends, around[:, ::2]) / 2
        beside = np.abs(_apart(around[:, 1::2], drawn))
        # A pixel in degrees, by the edges of the windows, whichever way they run.
        edges = np.abs(_apart(ends, around[:, ::2])).sum((1, 2)) / 4
        pixel = edges / windows[:, 2:].sum(1) * 2
        if pieces == _MOST_PIECES or (beside.max((1, 2)) <= _TOLERANCE * pixel).all():
            return around[:, ::2]
        pieces *= 2


def _around(windows: NDArray[np.int64], pieces: int) -> NDArray[np.float64]:
    """Column and row of points around each window, (N, 4 pieces, 2)."""
    along, still = np.arange(pieces) / pieces, np.zeros(pieces)
    x = np.concatenate([along, still + 1, 1 - along, still])
    y = np.concatenate([still, along, still + 1, 1 - along])
    top, left, height, width = windows.astype(np.float64).T[..., None]
    return np.stack([left + x * width, top + y * height], -1)


def _moved(points: NDArray[np.float64], place: Place) -> NDArray[np.float64]:
    assert place.crs is not None
    flat = place.coordinates(points.reshape(-1, 2))
    moved = longitude_latitude(place.crs, flat)
    if moved is None:
        raise ValueError(
            f'a window at {place} does not lie on the Earth; its reference system is '
            'wrong, mend it (gdal_edit.py -a_srs EPSG:CODE FILE)'
        )
    return moved.reshape(points.shape)


def _apart(ends: NDArray[np.float64], starts: NDArray[np.float64]) -> NDArray[Any]:
    """Differences, of longitudes the shorter way around."""
    apart = ends - starts
    apart[..., 0] = (apart[..., 0] + 180) % 360 - 180
    return apart


def _unrolled(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """A closed ring without jumps of longitude, by way of a pole if it holds one."""
    points: list[tuple[float, float]] = []
    for number, (longitude, latitude) in enumerate(ring):
        if abs(latitude) < 90 - 1e-9:
            points.append((longitude, latitude))
        else:  # any longitude is right there: those of both neighbours
            neighbours = ring[number - 1, 0], ring[(number + 1) % len(ring), 0]
            points += [(neighbour, latitude) for neighbour in neighbours]
    closed = np.array([*points, points[0]])
    steps = _apart(closed[1:], closed[:-1])
    closed = np.concatenate([closed[:1], closed[:1] + steps.cumsum(0)])
    if abs(closed[-1, 0] - closed[0, 0]) < 180:
        return closed
    pole = np.copysign(90, closed[:, 1].mean())
    return np.concatenate([closed, [(x, pole) for x in (closed[-1, 0], closed[0, 0])]])


def _cut(ring: NDArray[np.float64]) -> Any:
    """The polygon of a ring of any longitudes, in -180 to 180."""
    import shapely

    whole = shapely.buffer(shapely.polygons(ring), 0)
    west, _, east, _ = whole.bounds
    parts = []
    for turn in range(int((west + 180) // 360), int(-((180 - east) // 360)) + 1):
        inside = shapely.intersection(
            whole, shapely.box(360 * turn - 180, -90, 360 * turn + 180, 90)
        )
        parts.append(shapely.transform(inside, lambda xy, x=360 * turn: xy - (x, 0)))
    # Around a pole the parts share an edge.
    return shapely.union_all(parts)
