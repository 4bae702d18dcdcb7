# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Results in map coordinates: GeoTIFF and GeoJSON."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import xy
from rasterio.warp import transform

from ..datasets.writing import part_file, write_bytes
from .images import Georeference


def write_geotiff(
    path: Path,
    mask: NDArray[np.uint8],
    georeference: Georeference,
    nodata: int | None = None,
    palette: Sequence[Sequence[int]] | None = None,
) -> None:
    """Write a mask with the place of its image.

    Args:
        path (Path): The file, replaced if there is one.
        mask (np.ndarray): uint8 (H, W).
        georeference (Georeference): That of the image.
        nodata (int, optional): Value of pixels without data. Defaults to None.
        palette (Sequence, optional): RGB of the values from 0, for map programs.
            Defaults to None.
    """
    part = part_file(path)
    try:
        with rasterio.open(
            part,
            'w',
            driver='GTiff',
            height=mask.shape[0],
            width=mask.shape[1],
            count=1,
            dtype='uint8',
            crs=georeference.crs,
            transform=georeference.transform,
            nodata=nodata,
            compress='deflate',
            tiled=True,
        ) as target:
            target.write(mask, 1)
            if palette is not None:
                colours = {i: (*colour, 255) for i, colour in enumerate(palette[:255])}
                target.write_colormap(1, colours)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


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
