# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Polygons of vector layers: GeoPackage, GeoJSON, Shapefile, whatever GDAL reads."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.features import rasterize
from rasterio.warp import transform_bounds

from ..dependencies import vector_library
from ..images import Place, Window
from ..images.notices import say_once
from .errors import LabelError

#: Longest edge, in degrees and metres, that stays straight when a layer is brought
#: to another reference system: longer ones are divided, as they become curves.
_STRAIGHT = 0.02, 2000.0


def read_vectors(
    path: str | Path,
    crs: Any = None,
    columns: Sequence[str] | None = None,
    layer: str | None = None,
    bounds: tuple[float, float, float, float] | None = None,
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
        _check_fields(path, columns, info['fields'])
    if bounds is not None and crs is not None:
        bounds = transform_bounds(crs, source, *bounds, densify_pts=21)
    try:
        frame = pyogrio.read_dataframe(
            str(path), layer=info['layer_name'], columns=columns, bbox=bounds
        )
    except pyogrio.errors.DataSourceError as error:
        raise LabelError(
            f'{path}: cannot be read as a vector layer ({error})'
        ) from None
    if not len(frame) and bounds is None:
        raise LabelError(f'{path}: layer {info["layer_name"]} has no features')
    frame = _polygons(path, frame, refused=bounds is None)
    _check_degrees(path, frame)
    return frame if crs is None or not len(frame) else _reprojected(frame, crs)


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
    _check_fields(path, columns, info['fields'])
    frame = pyogrio.read_dataframe(
        str(path), layer=info['layer_name'], columns=columns, read_geometry=False
    )
    if columns and not len(frame):
        raise LabelError(f'{path}: layer {info["layer_name"]} has no features')
    return frame


def _layer_info(path: str | Path, layer: str | None) -> dict[str, Any]:
    import pyogrio

    name = str(path)
    is_local = '://' not in name and not name.startswith('/vsi')
    if is_local and not Path(path).exists():
        raise FileNotFoundError(f'{path}: no such vector layer')
    try:
        layers = [layer_name for layer_name, kind in pyogrio.list_layers(name) if kind]
        if layer is None and len(layers) > 1:
            raise LabelError(
                f'{path} has {len(layers)} layers: {", ".join(layers)}; name one '
                '(layer=...)'
            )
        if layer is not None and layer not in layers:
            raise LabelError(
                f'{path} has no layer {layer!r} with geometries; it has '
                f'{", ".join(layers) or "none"}'
            )
        if not layers:
            raise LabelError(f'{path}: has no layer with geometries')
        info = pyogrio.read_info(name, layer=layer or layers[0])
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise LabelError(
            f'{path}: cannot be read as a vector layer ({error})'
        ) from None
    if info['crs'] is None:
        raise LabelError(
            f'{path}: layer {info["layer_name"]} has no reference system (CRS), so '
            'nobody knows where it lies; write it again with one (ogr2ogr -a_srs '
            'EPSG:CODE new.gpkg FILE, or a .prj beside a Shapefile)'
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
    _check_fields(path, columns, _layer_info(path, layer)['fields'])


def _check_fields(path: str | Path, columns: Sequence[str], fields: Any) -> None:
    missing = [column for column in columns if column not in fields]
    if missing:
        raise LabelError(
            f'{path} has no field {missing[0]!r}; it has '
            f'{", ".join(map(str, fields)) or "none"}'
        )


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
                f'{path}: all {found}; give outlines (in a map program: buffer lines '
                'and points)'
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


def _check_degrees(path: str | Path, frame: Any) -> None:
    if frame.crs.is_geographic and len(frame):
        far = np.abs(frame.total_bounds).max()
        if far > 360:
            raise LabelError(
                f'{path}: has coordinates of {far:g} in {frame.crs.to_string()}, which '
                'are no degrees; a GeoJSON without "crs" is in longitude and latitude. '
                'Write it again in its reference system (ogr2ogr -a_srs EPSG:CODE '
                'new.gpkg FILE)'
            )


def _reprojected(frame: Any, crs: Any) -> Any:
    import shapely

    if frame.crs == crs:
        return frame
    step = (
        _STRAIGHT[0]
        if frame.crs.is_geographic
        else _STRAIGHT[1] / frame.crs.axis_info[0].unit_conversion_factor
    )
    fine = shapely.segmentize(frame.geometry.array, step)
    frame = frame.set_geometry(fine, crs=frame.crs).to_crs(crs)
    # What lies on the other side of the Earth has no place in most systems.
    return frame[np.isfinite(frame.bounds).all(axis=1)]


class PixelPolygons:
    """Polygons in the pixels of an image, with an index of where they lie.

    Args:
        shapes: Polygons in the reference system of the image.
        place: Of the image.
        values: Of each polygon, 0 to 255.
    """

    def __init__(self, shapes: Any, place: Place, values: NDArray[np.uint8]) -> None:
        import shapely

        self.shapes: NDArray[Any] = shapely.transform(np.asarray(shapes), place.pixels)
        self.values = values
        self._index = shapely.STRtree(self.shapes)

    def touching(self, window: Window) -> NDArray[np.intp]:
        """Which polygons touch a window, in their order."""
        import shapely

        top, left, height, width = window
        box = shapely.box(left, top, left + width, top + height)
        return np.sort(self._index.query(box, predicate='intersects'))

    def burned(self, window: Window, fill: int = 0) -> NDArray[np.uint8]:
        """A mask: pixels whose centre lies in a polygon have its value.

        Of polygons that overlap the later one lies upon the earlier ones.

        Args:
            window: Pixels of the image.
            fill: Value of the rest.

        Returns:
            (h, w).
        """
        top, left, height, width = window
        which = self.touching(window)
        if not len(which):
            return np.full((height, width), fill, np.uint8)
        return rasterize(
            zip(self.shapes[which], self.values[which].tolist(), strict=True),
            out_shape=(height, width),
            fill=fill,
            transform=Affine.translation(left, top),
            dtype=np.uint8,
        )


def placed(path: str | Path, place: Place | None, image: str | Path) -> Place:
    """The place of an image on which a vector layer shall be laid.

    Raises:
        LabelError: If the image does not say where it lies.
    """
    if place is None or place.crs is None:
        lacks = 'is not georeferenced' if place is None else 'names no reference system'
        raise LabelError(
            f'{path} cannot be laid upon {image}, which {lacks}; give it a place '
            '(gdal_translate -a_srs EPSG:CODE -a_ullr ...)'
        )
    return place


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
        self._placed: dict[Place, PixelPolygons] = {}

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

    def outlines(self, place: Place) -> Any:
        """All polygons as one ``shapely`` geometry in pixels of an image."""
        import shapely

        return shapely.union_all(self._on(place).shapes)

    def _on(self, place: Place) -> PixelPolygons:
        if place not in self._placed:
            placed(self.path, place, 'an image')
            shapes = _reprojected(self._frame, place.crs).geometry.array
            inside = np.ones(len(shapes), np.uint8)
            self._placed = {place: PixelPolygons(shapes, place, inside)}
        return self._placed[place]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_placed': {}}
