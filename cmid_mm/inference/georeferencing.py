# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Results in map coordinates: GeoTIFF and GeoJSON."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.transform import xy
from rasterio.warp import transform

from ..files import write_bytes
from ..images.place import Georeference


def write_geojson(
    path: Path,
    corners: NDArray[np.float64],
    properties: Sequence[dict[str, Any]],
    georeference: Georeference,
) -> None:
    """Write boxes as polygons in map coordinates.

    Coordinates are those of the image's reference system if it has an EPSG code,
    which the file then names, else longitude and latitude (WGS 84).

    Args:
        path (Path): The file, replaced if there is one.
        corners (np.ndarray): x1 y1 ... x4 y4 in pixels of the image, (N, 8), where
            (0, 0) is the outer corner of the first pixel.
        properties (Sequence[dict]): What to say of each box.
        georeference (Georeference): That of the image.
    """
    columns, rows = corners[:, 0::2].ravel(), corners[:, 1::2].ravel()
    x, y = xy(georeference.transform, rows, columns, offset='ul')
    code = georeference.crs.to_epsg()
    collection: dict[str, Any] = {'type': 'FeatureCollection'}
    if code is None:
        x, y = transform(georeference.crs, 'EPSG:4326', x, y)
    else:
        name = f'urn:ogc:def:crs:EPSG::{code}'
        collection['crs'] = {'type': 'name', 'properties': {'name': name}}
    rings = np.stack((x, y), -1).reshape(-1, 4, 2)
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
