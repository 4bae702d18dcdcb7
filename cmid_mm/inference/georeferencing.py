# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Boxes and tiles in map coordinates: GeoPackage, GeoJSON."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..files import write_bytes
from ..images import Place
from ..images.notices import say_once
from .ground import Ground, longitude_latitude, polygon_areas

#: Formats of boxes in map coordinates; the first needs no further package.
VECTOR_FORMATS = ('geojson', 'gpkg')


def write_boxes(
    path: Path,
    corners: NDArray[np.float64],
    fields: Mapping[str, Sequence[str] | NDArray[np.float64]],
    ground: Ground,
    layer: str,
) -> None:
    """Write boxes with their areas in square metres; see :class:`Ground`.

    Args:
        path: The file, ``.gpkg`` or ``.geojson``, replaced if there is one.
        corners: x1 y1 ... x4 y4 in pixels of the image, (N, 8), where (0, 0) is the
            outer corner of the first pixel.
        fields: What to say of each box: names, or numbers.
        ground: Of the image, which has a place.
        layer: Name of the layer in a GeoPackage.
    """
    points = ground.plane(corners.reshape(-1, 2)).reshape(-1, 4, 2)
    columns = {
        **{name: list(values) for name, values in fields.items()},
        'area': polygon_areas(points).tolist(),
    }
    if path.suffix == '.geojson':
        assert ground.place is not None
        rows = zip(*columns.values(), strict=True)
        properties = [dict(zip(columns, row, strict=True)) for row in rows]
        write_geojson(path, corners, properties, ground.place)
        return
    from .vector_files import geopackage

    kinds = {name: str for name in fields if not isinstance(fields[name], np.ndarray)}
    types = {name: kinds.get(name, float) for name in columns}
    with geopackage(path, layer, types, ground) as add:
        import shapely

        add(shapely.polygons(corners.reshape(-1, 4, 2)), *columns.values())


def write_geojson(
    path: Path,
    corners: NDArray[np.float64],
    properties: Sequence[dict[str, Any]],
    place: Place,
) -> None:
    """Write boxes as polygons in map coordinates.

    Coordinates are those of the image's reference system if it has an EPSG code,
    which the file then names, else longitude and latitude (WGS 84). Where these cannot
    be reached (another planet, a local system, no system at all) they are the image's
    own, which the file names if there is a name; this is said.

    Args:
        path: The file, replaced if there is one.
        corners: x1 y1 ... x4 y4 in pixels of the image, (N, 8), where (0, 0) is the
            outer corner of the first pixel.
        properties: What to say of each box.
        place: That of the image.
    """
    points = place.coordinates(corners.reshape(-1, 2))
    collection: dict[str, Any] = {'type': 'FeatureCollection'}
    name = None
    if place.crs is not None:
        code = place.crs.to_epsg()
        if code is not None:
            name = f'urn:ogc:def:crs:EPSG::{code}'
        else:
            known = longitude_latitude(place.crs, points)
            name = place.crs.to_wkt() if known is None else None
            points = points if known is None else known
    if name is None and place.crs is None or (name and not name.startswith('urn')):
        say_once(
            'geojson',
            f'{path}: the coordinates are those of the image, as its reference system '
            f'({"none" if place.crs is None else place.crs.to_string()[:60]}) does '
            'not lead to longitude and latitude',
        )
    if name is not None:
        collection['crs'] = {'type': 'name', 'properties': {'name': name}}
    rings = points.reshape(-1, 4, 2)
    collection['features'] = [
        {
            'type': 'Feature',
            'properties': known,
            'geometry': {
                'type': 'Polygon',
                'coordinates': [[*ring.tolist(), ring[0].tolist()]],
            },
        }
        for ring, known in zip(rings, properties, strict=True)
    ]
    write_bytes(path, (json.dumps(collection) + '\n').encode())
