# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Where points of an image lie on the ground, and how large regions of it are."""

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.warp import transform

from ..images import Place

#: A map that shows areas further off than that is not measured in.
_AREA_ERROR = 0.01


class Ground:
    """The ground that an image shows.

    Areas are those in the plane of the image's reference system, unless this is in
    degrees or shows areas more than 1 % too large or too small (as Web Mercator does
    away from the equator): then those on the ellipsoid.

    Args:
        place: Of the image; None if it has none.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
    """

    def __init__(self, place: Place | None, height: int, width: int) -> None:
        self.place = place
        self.crs: CRS | None = None if place is None else place.crs
        self._unit = 1.0
        self._equal_area: CRS | None = None
        corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float64)
        pixel = corners + (width // 2, height // 2)
        if self.crs is not None:
            if self.crs.is_projected:
                self._unit = self.crs.linear_units_factor[1]
            self._equal_area = self._better_plane(self.coordinates(pixel))
        #: Area of a pixel where it is the same for all.
        self.pixel_area: float | None = None
        if self.crs is None:
            self.pixel_area = 1.0
        elif self._equal_area is None and place is not None and place.transform:
            self.pixel_area = abs(place.transform.determinant) * self._unit**2

    def _better_plane(self, pixel: NDArray[np.float64]) -> CRS | None:
        """An equal-area projection, if the map is not one nearly; None if it is."""
        known = longitude_latitude(self.crs, pixel)
        if known is None:
            return None
        # Not cut by the 180th meridian, wherever the image lies.
        plane = CRS.from_proj4(f'+proj=cea +lon_0={known[0, 0]} +datum=WGS84')
        true = np.stack(transform(self.crs, plane, *pixel.T), 1)
        flat, true = polygon_areas(np.stack((pixel * self._unit, true)))
        return plane if abs(flat / true - 1) > _AREA_ERROR else None

    def coordinates(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map coordinates of points of the image, or themselves where there is no map.

        Args:
            points: Column and row, (N, 2).
        """
        return points if self.place is None else self.place.coordinates(points)

    def plane(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where points of the image lie in a plane that shows areas as they are.

        Args:
            points: Column and row, (N, 2).

        Returns:
            In metres, (N, 2); in pixels if the image has no reference system.
        """
        if self.crs is None or not len(points):
            return points
        points = self.coordinates(points)
        if self._equal_area is None:
            return points * self._unit
        return np.stack(transform(self.crs, self._equal_area, *points.T), 1)


def polygon_areas(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Areas of polygons of as many corners each, (N, corners, 2)."""
    # Relative to a corner: maps have large coordinates.
    x, y = np.moveaxis(corners - corners[:, :1], 2, 0)
    twice = x * np.roll(y, -1, axis=1) - y * np.roll(x, -1, axis=1)
    return np.abs(twice.sum(1)) / 2


def longitude_latitude(
    crs: CRS, points: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Points in EPSG:4326, (N, 2); None if one of them does not get there."""
    if not len(points):
        return points
    try:
        moved = np.stack(transform(crs, 'EPSG:4326', *points.T), -1)
    except Exception:  # GDAL's own, of no public class, if there is no way at all
        return None
    return moved if np.isfinite(moved).all() else None
