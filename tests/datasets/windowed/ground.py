# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""A small landscape: scenes of it, and labels on it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio import Affine

#: Corner of the ground, and the side of its pixels in metres.
EAST, NORTH, PIXEL = 500_000.0, 5_400_000.0, 2.0
CRS = 'EPSG:32632'

#: Left, top, right and bottom in pixels.
Box = tuple[float, float, float, float]


def write_raster(
    path: Path,
    bands: np.ndarray,
    left: float = 0,
    top: float = 0,
    crs: str | None = CRS,
    **options: Any,
) -> str:
    """Write (H, W) or (C, H, W) with its first pixel so many pixels from the corner."""
    bands = np.atleast_3d(bands.T).T
    count, height, width = bands.shape
    place = Affine(PIXEL, 0, EAST + left * PIXEL, 0, -PIXEL, NORTH - top * PIXEL)
    options = dict(crs=crs, transform=place, **options) if crs else options
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path,
        'w',
        driver='GTiff',
        height=height,
        width=width,
        count=count,
        dtype=bands.dtype,
        **options,
    ) as target:
        target.write(bands)
    return str(path)


def write_polygons(
    path: Path,
    shapes: Sequence[Box | Any],
    crs: str = CRS,
    **fields: Sequence[Any],
) -> str:
    """Write boxes, or shapely polygons, in pixels from the corner."""
    import geopandas
    import shapely

    polygons = [
        shapely.box(*shape) if isinstance(shape, tuple) else shape for shape in shapes
    ]

    def on_ground(points: np.ndarray) -> np.ndarray:
        return np.array([EAST, NORTH]) + points * [PIXEL, -PIXEL]

    frame = geopandas.GeoDataFrame(
        fields,
        geometry=[shapely.transform(polygon, on_ground) for polygon in polygons],
        crs=CRS,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_crs(crs).to_file(path)
    return str(path)


def classes_of(boxes: Mapping[Box, int], height: int, width: int) -> np.ndarray:
    """The mask that boxes of whole pixels give, 0 elsewhere."""
    mask = np.zeros((height, width), np.uint8)
    for (left, top, right, bottom), value in boxes.items():
        mask[int(top) : int(bottom), int(left) : int(right)] = value
    return mask


def write_scenes(
    root: Path, dataset: Mapping[str, Any], size: int = 64, count: int = 2
) -> None:
    """Write random scenes side by side, and a polygon on each, all in the area.

    They lie where the data set of a config looks for them below its ``data_root``.
    """
    rng = np.random.default_rng(0)
    for index in range(count):
        for date in ('images', 'images2'):
            if date in dataset:
                image = rng.integers(1, 256, (3, size, size), np.uint8)
                path = root / dataset[date] / f'{index}.tif'
                write_raster(path, image, size * index)
    boxes = [(size * i + 5, 5, size * i + size, 40) for i in range(count)]
    labels = dataset['labels']
    fields = {}
    if 'field' in labels:
        classes = dataset['metainfo']['classes']
        fields[labels['field']] = [classes[1 + i % 2] for i in range(count)]
    write_polygons(root / labels['path'], boxes, **fields)
    write_polygons(root / dataset['aoi'], [(0, 0, count * size, size)])
