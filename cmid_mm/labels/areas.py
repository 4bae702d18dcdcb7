# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Writing of areas: polygons on the ground as a vector layer."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..dependencies import vector_library
from ..files import write_bytes

#: Left, bottom, right and top in map coordinates.
Bounds = tuple[float, float, float, float]


def write_areas(path: Path, rectangles: Sequence[Bounds], crs: Any) -> None:
    """Write rectangles as a GeoPackage, which an :class:`~.vectors.Area` reads.

    Args:
        path: The file; one that exists is replaced.
        rectangles: In the reference system.
        crs: Reference system.
    """
    import shapely

    write_polygons(path, [shapely.box(*bounds) for bounds in rectangles], crs)


def write_polygons(
    path: Path, shapes: Sequence[Any], crs: Any, **columns: Sequence[Any]
) -> None:
    """Write polygons as a GeoPackage.

    Args:
        path: The file; one that exists is replaced.
        shapes: Polygons of shapely, in the reference system.
        crs: Reference system.
        columns: Values of each polygon by the name of a field.
    """
    frame = vector_library().GeoDataFrame(columns, geometry=shapes, crs=crs.to_wkt())
    content = io.BytesIO()
    frame.to_file(content, driver='GPKG', layer=path.stem, engine='pyogrio')
    write_bytes(path, content.getvalue())
