# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Results as layers of a GeoPackage, written in parts."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..dependencies import vector_library
from ..files import whole_file
from ..visualization.drawing import IGNORED
from .ground import Ground

#: Corners of regions that are written together, unless one of them has more.
_CORNERS = 2**16

#: Takes polygons of shapely, in pixels, and a column for each field.
AddPolygons = Callable[..., None]


@dataclass(frozen=True)
class PolygonOptions:
    """Of which regions polygons are written.

    Attributes:
        least_area: Smaller ones are left out; square metres, or pixels of images
            without a reference system.
        background: Classes that are left out.
    """

    least_area: float = 0.0
    background: Sequence[str] = ()

    def left_out(self, classes: Sequence[str]) -> list[int]:
        """Indices of which there are no polygons.

        Raises:
            ValueError: If a background is none of the classes.
        """
        for name in self.background:
            if name not in classes:
                raise ValueError(
                    f'background {name!r} is none of the classes: {", ".join(classes)}'
                )
        return [IGNORED, *map(list(classes).index, self.background)]


@contextmanager
def geopackage(
    path: Path, layer: str, fields: Mapping[str, type], ground: Ground
) -> Iterator[AddPolygons]:
    """Write a GeoPackage of one layer of polygons, whole or not at all.

    Args:
        path: The file, replaced if there is one.
        layer: Name of the layer.
        fields: Type of each field.
        ground: Of the image, whose reference system the layer gets.

    Yields:
        What adds polygons, any number of times.
    """
    vector_library()
    import pyogrio.raw
    import shapely

    with whole_file(path) as part:

        def add(polygons: Any, *columns: Any, append: bool = True) -> None:
            values: list[Any] = [
                np.asarray(column, object if kind is str else kind)
                for column, kind in zip(columns, fields.values(), strict=True)
            ]
            with warnings.catch_warnings():
                # About no reference system, and the name of an unfinished file.
                warnings.simplefilter('ignore')
                pyogrio.raw.write(
                    part,
                    shapely.to_wkb(
                        shapely.transform(np.asarray(polygons), ground.coordinates)
                    ),
                    values,
                    np.array(list(fields), object),
                    geometry_type='Polygon',
                    crs=None if ground.crs is None else ground.crs.to_wkt(),
                    driver='GPKG',
                    layer=layer,
                    append=append,
                )

        add([], *([] for _ in fields), append=False)
        yield add


def write_polygons(
    path: Path,
    strips: Iterable[tuple[NDArray[np.uint8], NDArray[Any] | None]],
    classes: Sequence[str],
    ground: Ground,
    options: PolygonOptions,
) -> int:
    """Write the regions of a class raster as the layer ``polygons``.

    Its fields are ``class``, ``area`` in square metres (in pixels if the image has no
    reference system) and ``score``, the mean of the pixels.

    Args:
        path: The GeoPackage.
        strips: The raster, as :func:`class_polygons` takes it, 255 where it holds no
            data.
        classes: Names of the classes.
        ground: Of the image.
        options: Which regions are left out.

    Returns:
        Number of regions in the file.

    Raises:
        ValueError: If a background is none of the classes.
    """
    vector_library()
    import shapely

    from .polygons import class_polygons

    # Areas of pixels are seldom exact.
    least_area = options.least_area * (1 - 1e-6)
    regions = class_polygons(
        strips, options.left_out(classes), least_area / (ground.pixel_area or np.inf)
    )
    fields = {'class': str, 'area': float, 'score': float}
    written = 0
    with geopackage(path, 'polygons', fields, ground) as add:
        for batch in _batches(regions):
            values, pixels, scores, geometries = map(np.array, zip(*batch, strict=True))
            if ground.pixel_area is not None:
                areas = pixels * ground.pixel_area
            else:
                areas = shapely.area(shapely.transform(geometries, ground.plane))
            kept = areas >= least_area
            names = [classes[value] for value in values[kept]]
            add(geometries[kept], names, areas[kept], scores[kept].round(4))
            written += int(kept.sum())
    return written


def _batches(regions: Iterable[Any]) -> Iterator[list[Any]]:
    """Regions that are written together."""
    import shapely

    batch: list[Any] = []
    corners = 0
    for region in regions:
        batch.append(region)
        corners += shapely.get_num_coordinates(region.geometry)
        if corners >= _CORNERS:
            yield batch
            batch, corners = [], 0
    if batch:
        yield batch
