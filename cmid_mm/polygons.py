# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Areas of polygons and their parts."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.floating[Any]]


def clip_polygon(polygon: Floats, point: ArrayLike, normal: ArrayLike) -> Floats:
    """The part of a polygon on one side of a line (Sutherland and Hodgman, 1974).

    Args:
        polygon: Corners, (N, 2).
        point: A point of the line.
        normal: Points to the side that is kept.

    Returns:
        Corners, (M, 2), of the same type; none if nothing is on that side.
    """
    point, normal = (np.asarray(place, polygon.dtype) for place in (point, normal))
    side = (polygon - point) @ normal
    kept: list[Floats] = []
    for i in range(len(polygon)):
        j = (i + 1) % len(polygon)
        if side[i] >= 0:
            kept.append(polygon[i])
        if (side[i] >= 0) != (side[j] >= 0):
            share = side[i] / (side[i] - side[j])
            kept.append(polygon[i] + share * (polygon[j] - polygon[i]))
    return np.array(kept, polygon.dtype).reshape(-1, 2)


def polygon_area(polygon: Floats) -> float:
    """Area of a polygon with corners (N, 2) that does not cross itself."""
    x, y = polygon.T
    return abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2


def share_inside(quad: Floats, width: float, height: float) -> float:
    """Share of a quadrangle's area that lies in a window.

    Args:
        quad: Corners relative to the window's top left one, (4, 2).
        width: Of the window, in pixels.
        height: Of the window, in pixels.

    Returns:
        0 to 1; 1 exactly if all corners lie in the window.
    """
    low, high = quad.min(0), quad.max(0)
    if (low >= 0).all() and (high <= (width, height)).all():
        return 1.0
    if (high <= 0).any() or (low >= (width, height)).any():
        return 0.0
    corners = quad.astype(np.float64)
    part: Floats = corners
    for corner, normals in (((0, 0), _RIGHT_DOWN), ((width, height), -_RIGHT_DOWN)):
        for normal in normals:
            part = clip_polygon(part, corner, normal)
    return polygon_area(part) / max(polygon_area(corners), 1e-6)


_RIGHT_DOWN = np.eye(2)
