# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Results as layers of a GeoPackage, written in parts."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..dependencies import vector_library
from ..files import whole_file
from .ground import Ground
from .polygons import ClassPolygon
from .windows import chunks

#: Features that are written together.
BATCH = 4096

#: Takes polygons of shapely, in pixels, and a column for each field.
AddPolygons = Callable[..., None]


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
            placed = shapely.transform(np.asarray(polygons), ground.coordinates)
            values: list[Any] = [
                np.asarray(column, object if kind is str else kind)
                for column, kind in zip(columns, fields.values(), strict=True)
            ]
            with warnings.catch_warnings():
                # About no reference system, and the name of an unfinished file.
                warnings.simplefilter('ignore')
                pyogrio.raw.write(
                    part,
                    shapely.to_wkb(placed),
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


def write_class_polygons(
    path: Path,
    polygons: Iterable[ClassPolygon],
    classes: Sequence[str],
    ground: Ground,
    least_area: float = 0.0,
    with_scores: bool = True,
) -> int:
    """Write the regions of a class raster as the layer ``polygons``.

    Its fields are ``class``, ``area`` in square metres (in pixels if the image has no
    reference system) and ``score``.

    Args:
        path: The GeoPackage.
        polygons: The regions.
        classes: Names of the classes.
        ground: Of the image.
        least_area: Smaller regions are left out. Defaults to 0.
        with_scores: Whether the regions have scores. Defaults to True.

    Returns:
        Number of regions in the file.
    """
    import shapely

    fields: dict[str, type] = {'class': str, 'area': float}
    if with_scores:
        fields['score'] = float
    written = 0
    with geopackage(path, 'polygons', fields, ground) as add:
        for batch in chunks(polygons, BATCH):
            values, pixels, scores, geometries = map(np.array, zip(*batch, strict=True))
            if ground.pixel_area is not None:
                areas = pixels * ground.pixel_area
            else:
                areas = shapely.area(shapely.transform(geometries, ground.plane))
            kept = areas >= least_area
            columns = [[classes[value] for value in values[kept]], areas[kept]]
            if with_scores:
                columns.append(scores[kept].round(4))
            add(geometries[kept], *columns)
            written += int(kept.sum())
    return written
