# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Where the pixels of an image lie on the ground."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.transform import AffineTransformer, GCPTransformer
from rasterio.warp import transform as to_system

from .errors import PlaceMismatchError

#: Pixels by which two images of one place may be shifted against each other.
TOLERANCE = 0.5

#: Share by which two distances on the ground differ and still count as one.
NEARLY = 0.01
_LONGITUDE_LATITUDE = CRS.from_epsg(4326)
#: Semi-major axis in metres and squared eccentricity of WGS 84.
_RADIUS, _ECCENTRICITY = 6378137.0, 0.00669437999014


@dataclass(frozen=True)
class Place:
    """Where the pixels of an image lie: by a transform, or by control points.

    Attributes:
        crs: Coordinate reference system; None if the file names none.
        transform: From (column, row) to map coordinates; None if the file has ground
            control points instead.
        gcps: Ground control points; empty if the file has a transform.
    """

    crs: CRS | None
    transform: Affine | None
    gcps: tuple[GroundControlPoint, ...] = ()

    def coordinates(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map coordinates of points of the image.

        Args:
            points: Column and row, (N, 2), where (0, 0) is the outer corner of the
                first pixel.

        Returns:
            x and y, (N, 2).
        """
        if not len(points):
            return np.empty((0, 2))
        columns, rows = points.T
        with self._transformer() as transformer:
            return np.stack(transformer.xy(rows, columns, offset='ul'), -1)

    def pixels(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points of the image by their map coordinates.

        By ground control points this is a polynomial of its own, which is not exactly
        the inverse of that of :meth:`coordinates`.

        Args:
            points: x and y, (N, 2).

        Returns:
            Column and row, (N, 2), where (0, 0) is the outer corner of the first pixel.
        """
        if not len(points):
            return np.empty((0, 2))
        with self._transformer() as transformer:
            # Without a function that keeps fractions they are rounded down.
            rows, columns = transformer.rowcol(*points.T, op=np.positive)
        return np.stack([columns, rows], -1)

    def _transformer(self) -> AffineTransformer | GCPTransformer:
        if self.transform is not None:
            return AffineTransformer(self.transform)
        return GCPTransformer(self.gcps)

    def moved(self, top: int, left: int) -> 'Place':
        """The place of a part of the image that begins at some row and column."""
        if self.transform is not None:
            moved = self.transform @ Affine.translation(left, top)
            return Place(self.crs, moved)
        points = tuple(
            GroundControlPoint(p.row - top, p.col - left, p.x, p.y, p.z, p.id, p.info)
            for p in self.gcps
        )
        return Place(self.crs, None, points)

    def coarser(self, factor: int) -> 'Place':
        """The place of the same image with pixels so many times as long."""
        if self.transform is not None:
            return Place(self.crs, self.transform @ Affine.scale(factor))
        points = tuple(
            GroundControlPoint(
                p.row / factor, p.col / factor, p.x, p.y, p.z, p.id, p.info
            )
            for p in self.gcps
        )
        return Place(self.crs, None, points)

    def for_writing(self) -> dict[str, Any]:
        """What rasterio needs to write a file of the same place."""
        if self.transform is not None:
            return {'crs': self.crs, 'transform': self.transform}
        return {'crs': self.crs, 'gcps': list(self.gcps)}

    def __str__(self) -> str:
        """For messages."""
        crs = 'no CRS' if self.crs is None else self.crs.to_string()
        if self.transform is None:
            return f'{crs}, {len(self.gcps)} ground control points'
        a, b, c, d, e, f = self.transform[:6]
        turned = f', rotated ({b:g}, {d:g})' if b or d else ''
        return f'{crs}, origin ({c:.10g}, {f:.10g}), pixel ({a:g}, {e:g}){turned}'


def place_of(source: Any) -> Place | None:
    """The place that an open rasterio data set states, world files included.

    Args:
        source: The data set.

    Returns:
        Its transform if it has one, else its ground control points; None if neither.
    """
    if not source.transform.is_identity:
        return Place(source.crs, source.transform)
    points, crs = source.gcps
    return Place(crs, None, tuple(points)) if points else None


def has_side_file(path: Path) -> bool:
    """Whether a file beside a photograph may say where it lies.

    That is a world file, such as ``a.jgw``, ``a.jpgw`` or ``a.wld`` of ``a.jpg``, or
    GDAL's ``a.jpg.aux.xml``; endings in lower or upper case.
    """
    ending = path.suffix[1:]
    worlds = (f'{ending[0]}{ending[-1]}w', f'{ending}w', 'wld')
    return path.with_name(f'{path.name}.aux.xml').exists() or any(
        path.with_suffix(f'.{name}').exists()
        for world in worlds
        for name in (world.lower(), world.upper())
    )


def pixel_metres(
    path: Path, place: Place | None, shape: tuple[int, int]
) -> tuple[float, float]:
    """Height and width of an image's pixels on the ground.

    They are taken in the middle of the image. A projection's own metres (feet, ...)
    hold unless it stretches them there by more than :data:`NEARLY`, as Web Mercator
    does; without a reference system units are taken to be metres.

    Args:
        path: The file, for the error.
        place: Where it lies.
        shape: Its height and width in pixels.

    Raises:
        PlaceMismatchError: If that is not known.
    """
    if place is None or place.transform is None:
        found = 'none' if place is None else str(place)
        raise PlaceMismatchError(
            f'{path}: gsd needs a place by a transform, found {found}; georeference '
            'the file, or leave gsd out'
        )
    a, b, _, d, e, _ = place.transform[:6]
    sides = np.hypot([b, a], [e, d])
    if place.crs is None:
        return float(sides[0]), float(sides[1])
    stated: NDArray[np.float64] | None = None
    ground: NDArray[np.float64] | None
    if not place.crs.is_geographic:
        stated = sides * place.crs.linear_units_factor[1]
    try:
        ground = _on_ellipsoid(place, shape)
    except RasterioError:  # a local system, another planet
        ground = stated
    if ground is None:
        raise PlaceMismatchError(
            f'{path}: the distance of its pixels in metres is not known from '
            f'{place}, which gsd needs'
        )
    if stated is not None and np.abs(stated / ground - 1).max() <= NEARLY:
        ground = stated
    return float(ground[0]), float(ground[1])


def _on_ellipsoid(place: Place, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Height and width in metres of the pixel in the middle of an image."""
    row, column = np.array(shape) / 2
    # Over more than one pixel, as small differences of projections are not exact.
    rows, columns = np.minimum((row, column), 50)
    points = [
        (column, row - rows),
        (column, row + rows),
        (column - columns, row),
        (column + columns, row),
    ]
    x, y = place.coordinates(np.array(points)).T
    found = to_system(place.crs, _LONGITUDE_LATITUDE, x, y)
    longitude, latitude = np.radians(found[:2])
    bulge = 1 - _ECCENTRICITY * np.sin(latitude.mean()) ** 2
    around = _RADIUS / np.sqrt(bulge) * np.cos(latitude.mean())
    north = _RADIUS * (1 - _ECCENTRICITY) / bulge**1.5
    turned = longitude[1::2] - longitude[::2]
    east = (turned + np.pi) % (2 * np.pi) - np.pi  # also across 180 degrees
    lengths = np.hypot(around * east, north * (latitude[1::2] - latitude[::2]))
    return lengths / (2 * np.array([rows, columns]))


def check_same_place(
    path: Path,
    place: Place | None,
    other_path: Path,
    other: Place | None,
    shape: tuple[int, int],
) -> None:
    """Refuse two images of which one is known to lie elsewhere.

    An image without a place is taken to lie where the other does.

    Args:
        path: The one file, for the error.
        place: Its place.
        other_path: The other file.
        other: Its place.
        shape: Height and width of both in pixels.

    Raises:
        PlaceMismatchError: If the reference systems differ, or a corner lies more
            than :data:`TOLERANCE` pixels apart.
    """
    if place is None or other is None or place == other:
        return
    height, width = shape
    corners = np.array(
        [[0, 0], [width, 0], [0, height], [width, height]], dtype=np.float64
    )
    here, there = place.coordinates(corners), other.coordinates(corners)
    pixel = np.hypot(*(here[1] - here[0])) / width
    apart = np.hypot(*(here - there).T).max() / pixel
    known = place.crs is not None and other.crs is not None
    if apart <= TOLERANCE and (not known or place.crs == other.crs):
        return
    raise PlaceMismatchError(
        f'{other_path} does not lie where {path} does: {other} instead of {place}. '
        'Give images of the same pixels, or let the second be warped onto the first '
        '(align=True in LoadImagePair, --align in tools/predict.py)'
    )
