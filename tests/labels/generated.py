# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Scenes and label layers of some hundred pixels."""

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
import shapely
from rasterio.transform import from_origin

from cmid_mm.images import ImageFile

UTM = 'EPSG:32650'
HEIGHT, WIDTH = 200, 300
#: 10 m; rotated by about 30 degrees.
STRAIGHT = from_origin(500000, 4000000, 10, 10)
ROTATED = (
    rasterio.Affine.translation(500000, 4000000)
    @ rasterio.Affine.rotation(-30)
    @ rasterio.Affine.scale(10, -10)
)
WHOLE = (0, 0, HEIGHT, WIDTH)


def write_raster(
    path: Path,
    values: np.ndarray,
    transform: Any = STRAIGHT,
    crs: Any = UTM,
    colours: dict[int, tuple[int, ...]] | None = None,
    **options: Any,
) -> Path:
    """A raster of one band."""
    height, width = values.shape
    profile = dict(height=height, width=width, count=1, dtype=values.dtype)
    profile |= dict(crs=crs, transform=transform, **options)
    with rasterio.open(path, 'w', driver='GTiff', **profile) as file:
        file.write(values, 1)
        if colours:
            file.write_colormap(1, colours)
    return path


def scene(folder: Path, transform: Any = STRAIGHT, **options: Any) -> ImageFile:
    """An image; what it shows does not matter."""
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    return ImageFile(write_raster(folder / 'scene.tif', values, transform, **options))


def ground(*points: tuple[float, float], transform: Any = STRAIGHT) -> shapely.Polygon:
    """A polygon by its corners in pixels of the image, (column, row)."""
    return shapely.Polygon([transform @ point for point in points])


def block(
    left: float, top: float, right: float, bottom: float, transform: Any = STRAIGHT
) -> shapely.Polygon:
    """A rectangle by its sides in pixels of the image."""
    corners = (left, top), (right, top), (right, bottom), (left, bottom)
    return ground(*corners, transform=transform)


def write_vectors(
    path: Path, shapes: list[Any], crs: Any = UTM, into: Any = None, **fields: Any
) -> Path:
    """A vector layer, of ``crs`` or brought ``into`` another one."""
    frame = geopandas.GeoDataFrame(fields, geometry=shapes, crs=crs)
    (frame if into is None else frame.to_crs(into)).to_file(path)
    return path


def blobs(seed: int, number: int = 12) -> list[shapely.Polygon]:
    """Ragged polygons with holes, some reaching beyond the image."""
    generator = np.random.default_rng(seed)
    shapes = []
    for _ in range(number):
        centre = generator.uniform((0, 0), (WIDTH, HEIGHT))
        angles = np.sort(generator.uniform(0, 2 * np.pi, 40))
        radii = generator.uniform(20, 60, 40)
        ring = np.stack([np.cos(angles), np.sin(angles)], -1) * radii[:, None]
        outer, inner = centre + ring, centre + ring / 3
        points = [[STRAIGHT @ tuple(point) for point in r] for r in (outer, inner)]
        shape = shapely.Polygon(points[0], [points[1]])
        shapes.append(shape if shape.is_valid else shapely.Polygon(points[0]))
    return shapes
