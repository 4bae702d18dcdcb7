# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Polygons of vector layers: GeoPackage, GeoJSON, Shapefile, whatever GDAL reads."""

import re
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.warp import transform_bounds

from ..dependencies import vector_library
from ..images import Place, Window
from ..images.notices import say_once
from .errors import LabelError
from .layer_info import layer_info, require_fields
from .pixel_polygons import HELD_CORNERS, PixelPolygons, placed
from .recent import Recent

#: Longest edge, in degrees and metres, that stays straight when a layer is brought
#: to another reference system: longer ones are divided, as they become curves.
_STRAIGHT = 0.02, 2000.0

#: Corners that a layer may get by that, some 2 GB.
_MOST_CORNERS = 100_000_000

#: Metres from the origin of a projected system beyond which there is nothing: some
#: number their zones in front of coordinates of eight digits.
_FARTHEST = 1e8

#: Degrees around the places for which a reference system is made, where its
#: coordinates still have a meaning.
_NEAR = 45.0

_DEGREES = 'EPSG:4326'

#: Left, bottom, right and top in map coordinates.
Bounds = tuple[float, float, float, float]


def read_vectors(
    path: str | Path,
    crs: Any = None,
    columns: Sequence[str] | None = None,
    layer: str | None = None,
    bounds: Bounds | None = None,
) -> Any:
    """Read the polygons of a vector layer.

    Polygons that are not valid (crossing edges, rings within rings) are repaired,
    features that are no polygons are left out; both are said.

    Args:
        path: Whatever GDAL reads as vector layers.
        crs: Reference system of the result. Defaults to None, that of the layer.
        columns: Fields to read. Defaults to None, all.
        layer: Name of the layer, needed if there are several.
        bounds: Left, bottom, right and top in ``crs``: only features that touch this
            box are read, so that a layer of any size is cheap where its format has a
            spatial index (GeoPackage, FlatGeobuf, Shapefile). Defaults to None, all.

    Returns:
        A ``geopandas.GeoDataFrame`` of polygons and multipolygons, in the order of the
        file; empty if none touches the box.

    Raises:
        ImportError: If geopandas or pyogrio is missing.
        FileNotFoundError: If there is no such file.
        LabelError: If it cannot be read, has no reference system, no feature, no
            polygon, or not the fields.
    """
    vector_library()
    import pyogrio

    info = _layer_info(path, layer)
    source = info['crs']
    if columns is not None:
        require_fields(path, columns, info['fields'])
    if bounds is not None:
        bounds = bounds_in(bounds, crs or source, source)
    try:
        frame = pyogrio.read_dataframe(
            str(path), layer=info['layer_name'], columns=columns, bbox=bounds
        )
    except pyogrio.errors.DataSourceError as error:
        raise LabelError(
            f'{path}: cannot be read as a vector layer ({error})'
        ) from None
    frame = _polygons(path, frame, refused=bounds is None)
    _check_extent(path, frame)
    return frame if crs is None else reprojected(path, frame, crs)


def bounds_in(bounds: Bounds, crs: Any, other: Any) -> Bounds:
    """Bounds in another reference system, a little wider.

    Args:
        bounds: Left, bottom, right and top.
        crs: Their reference system.
        other: The other one.
    """
    near = _near(other)
    if near is not None:
        degrees = _unwrapped(transform_bounds(crs, _DEGREES, *bounds, densify_pts=21))
        low, high = np.maximum(degrees, near)[:2], np.minimum(degrees, near)[2:]
        # Of the whole Earth a system of a part of it makes no bounds.
        if (low < high).all() and (*low, *high) != degrees:
            bounds, crs = (*low, *high), _DEGREES
    left, bottom, right, top = _unwrapped(
        transform_bounds(crs, other, *bounds, densify_pts=21)
    )
    x, y = 0.02 * (right - left), 0.02 * (top - bottom)
    return left - x, bottom - y, right + x, top + y


def _unwrapped(bounds: Bounds) -> Bounds:
    """Degrees that run from east to west across the change of date: all of them."""
    left, bottom, right, top = bounds
    return bounds if left <= right else (-180.0, bottom, 180.0, top)


def _near(crs: Any) -> Bounds | None:
    """Where a reference system is used, in degrees, with wide surroundings.

    Beyond, its coordinates have no meaning: those of UTM on the far side of the Earth
    are those of near places.

    Returns:
        West, south, east and north; None if the system is not known by a number.
    """
    from pyproj import CRS
    from rasterio.crs import CRS as RasterCRS

    authority = RasterCRS.from_user_input(crs).to_authority()
    area = CRS.from_authority(*authority).area_of_use if authority else None
    if area is None:
        return None
    west, south, east, north = area.bounds
    low, high = west - _NEAR, east + _NEAR
    if west > east or low < -180 or high > 180:
        low, high = -180.0, 180.0
    return low, max(-90.0, south - _NEAR), high, min(90.0, north + _NEAR)


def has_index(path: str | Path, layer: str | None = None) -> bool:
    """Whether a part of a layer is read without reading all of it.

    Raises:
        ImportError: If geopandas or pyogrio is missing.
        FileNotFoundError: If there is no such file.
        LabelError: If it cannot be read.
    """
    vector_library()
    return bool(_layer_info(path, layer)['capabilities']['fast_spatial_filter'])


def read_attributes(
    path: str | Path, columns: Sequence[str], layer: str | None = None
) -> Any:
    """Read fields of all features of a vector layer, without their polygons.

    Raises:
        ImportError: If geopandas or pyogrio is missing.
        FileNotFoundError: If there is no such file.
        LabelError: If it cannot be read, has no feature, or not the fields.
    """
    vector_library()
    import pyogrio

    info = _layer_info(path, layer)
    require_fields(path, columns, info['fields'])
    return pyogrio.read_dataframe(
        str(path), layer=info['layer_name'], columns=columns, read_geometry=False
    )


def _layer_info(path: str | Path, layer: str | None) -> dict[str, Any]:
    info = layer_info(path, layer)
    if re.search(r'Point|LineString|Curve\b', info['geometry_type'] or ''):
        raise LabelError(
            f'{path}: layer {info["layer_name"]} holds no polygons '
            f'({info["geometry_type"]}); give outlines (in a map program: buffer '
            'points and lines)'
        )
    return info


def check_fields(
    path: str | Path, columns: Sequence[str], layer: str | None = None
) -> None:
    """Refuse a vector layer that lacks a field.

    Raises:
        ImportError: If geopandas or pyogrio is missing.
        FileNotFoundError: If there is no such file.
        LabelError: If it cannot be read, or has not the fields.
    """
    vector_library()
    require_fields(path, columns, _layer_info(path, layer)['fields'])


def _polygons(path: str | Path, frame: Any, refused: bool) -> Any:
    """The polygons among the features, repaired."""
    import shapely

    shapes = frame.geometry.array
    is_polygon = np.isin(shapely.get_type_id(shapes), (3, 6))  # and MultiPolygon
    is_polygon &= ~shapely.is_empty(shapes)
    others = len(frame) - int(is_polygon.sum())
    if others:
        kinds = set(frame.geometry.geom_type[~is_polygon].fillna('no geometry'))
        found = f'{others} features are no polygons ({", ".join(sorted(kinds))})'
        if others == len(frame) and refused:
            raise LabelError(
                f'{path}: all {found}; give outlines (in a map program: buffer points '
                'and lines)'
            )
        say_once(f'no polygons in {path}', f'{path}: {found} and left out')
        frame = frame[is_polygon]
    valid = shapely.is_valid(frame.geometry.array)
    if valid.all():
        return frame
    say_once(
        f'invalid polygons in {path}',
        f'{path}: {int((~valid).sum())} polygons are not valid (their edges cross, for '
        'example) and were repaired (shapely.make_valid)',
    )
    repaired = frame.geometry.array.copy()
    repaired[~valid] = shapely.make_valid(
        repaired[~valid], method='structure', keep_collapsed=False
    )
    frame = frame.set_geometry(repaired, crs=frame.crs)
    return frame[~frame.geometry.is_empty]


def _check_extent(path: str | Path, frame: Any) -> None:
    """Refuse coordinates that are no place of the Earth."""
    if not len(frame):
        return
    crs, far = frame.crs, np.abs(frame.total_bounds).max()
    if crs.is_geographic and not far <= 360:
        raise LabelError(
            f'{path}: has coordinates of {far:g} in {crs.to_string()}, which are no '
            'degrees; a GeoJSON without "crs" is in longitude and latitude. Write it '
            'again in its reference system (ogr2ogr -a_srs EPSG:CODE new.gpkg FILE)'
        )
    most = _FARTHEST / crs.axis_info[0].unit_conversion_factor
    if not crs.is_geographic and not far <= most:
        left, bottom, right, top = frame.total_bounds
        raise LabelError(
            f'{path}: reaches from ({left:g}, {bottom:g}) to ({right:g}, {top:g}) in '
            f'{crs.to_string()}; expected coordinates of at most {most:g}, beyond which'
            ' there is no place of the Earth. Correct the coordinates or the reference '
            'system (in a map program: show the extent of the layer)'
        )


def reprojected(path: str | Path, frame: Any, crs: Any) -> Any:
    """Polygons in another reference system, cut where that has no meaning.

    Args:
        path: The file, for messages.
        frame: What :func:`read_vectors` gave.
        crs: The reference system.

    Raises:
        LabelError: If their edges are too long to be brought there.
    """
    import shapely

    if not len(frame) or frame.crs == crs:
        return frame
    unit = frame.crs.axis_info[0].unit_conversion_factor
    step = _STRAIGHT[0] if frame.crs.is_geographic else _STRAIGHT[1] / unit
    shapes = np.array(frame.geometry.array)
    corners = shapely.length(shapes).sum() / step
    if not corners <= _MOST_CORNERS:
        raise LabelError(
            f'{path}: its edges are {corners:.2g} times as long as what stays straight '
            f'in another reference system; expected at most {_MOST_CORNERS:g} times. '
            f'Bring it to that of the images yourself (ogr2ogr -t_srs EPSG:CODE ...), '
            'or cut it to their surroundings (ogr2ogr -clipdst ...)'
        )
    shapes = shapely.segmentize(shapes, step)
    frame = frame.set_geometry(shapes, crs=frame.crs)
    area, near = frame.crs.area_of_use, _near(crs)
    if near is not None and area is not None and area.east - area.west > 180:
        # A layer of such a system may cover the Earth.
        frame = frame.to_crs(_DEGREES)
        shapes = np.array(frame.geometry.array)
        outside = ~shapely.within(shapes, shapely.box(*near))
        shapes[outside] = shapely.clip_by_rect(shapes[outside], *near)
        frame = frame.set_geometry(shapes, crs=frame.crs)
    frame = frame.to_crs(crs)
    # Of a polygon of which nothing is left, or infinite, the bounds are no numbers.
    return frame[np.isfinite(frame.bounds).all(axis=1)]


class Area:
    """Polygons of a vector layer as an area: to draw windows from, to predict in.

    The layer is read whole, once a process. Pixels count as inside if their centre
    is. Images with ground control points instead of a transform are met through the
    polynomial of these points.

    Args:
        path: A vector layer in any reference system.
        layer: Its name, if the file has several.

    Raises:
        ImportError: If geopandas or pyogrio is missing.
        FileNotFoundError: If there is no such file.
        LabelError: As :func:`read_vectors`.
    """

    def __init__(self, path: str | Path, layer: str | None = None) -> None:
        self.path, self.layer = str(path), layer
        self._frame = read_vectors(path, columns=[], layer=layer)
        self._brought: Recent[Any] = Recent()
        self._placed: Recent[PixelPolygons] = Recent(
            HELD_CORNERS, attrgetter('num_corners')
        )

    def mask(self, place: Place, window: Window) -> NDArray[np.bool_]:
        """Which pixels of a window of an image lie inside, (h, w)."""
        return self._on(place).burned(window) > 0

    def touches(self, place: Place, window: Window) -> bool:
        """Whether a polygon reaches into a window of an image."""
        return len(self._on(place).touching(window)) > 0

    def window_of(self, place: Place, shape: tuple[int, int]) -> Window | None:
        """The smallest window of an image that holds all that lies inside of it.

        Args:
            place: Of the image.
            shape: Its height and width in pixels.

        Returns:
            The window; None if the area does not reach the image.
        """
        import shapely

        height, width = shape
        polygons = self._on(place)
        which = polygons.touching((0, 0, height, width))
        if not len(which):
            return None
        left, top, right, bottom = shapely.total_bounds(polygons.shapes[which])
        # From the first to the last pixel whose centre may lie inside.
        left, top = max(0, round(left)), max(0, round(top))
        right, bottom = min(width, round(right)), min(height, round(bottom))
        if right <= left or bottom <= top:
            return None
        return top, left, bottom - top, right - left

    def outlines(self, place: Place, window: Window | None = None) -> Any:
        """The polygons as one ``shapely`` geometry in pixels of an image.

        Args:
            place: Of the image.
            window: Cut off what lies outside of it. Defaults to None, nothing.
        """
        import shapely

        polygons = self._on(place)
        if window is None:
            return shapely.union_all(polygons.shapes)
        top, left, height, width = window
        shapes = polygons.shapes[polygons.touching(window)]
        box = shapely.box(left, top, left + width, top + height)
        return shapely.union_all(shapely.intersection(shapes, box))

    def _on(self, place: Place) -> PixelPolygons:
        return self._placed.get(place, lambda: self._laid_upon(place))

    def _laid_upon(self, place: Place) -> PixelPolygons:
        crs = placed(self.path, place, 'an image').crs
        shapes = self._brought.get(
            crs, lambda: reprojected(self.path, self._frame, crs).geometry.array
        )
        return PixelPolygons(shapes, place, np.ones(len(shapes), np.uint8))
