# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Writing of areas: rectangles on the ground as a vector layer."""

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

    shapes = [shapely.box(*bounds) for bounds in rectangles]
    frame = vector_library().GeoDataFrame(geometry=shapes, crs=crs.to_wkt())
    content = io.BytesIO()
    frame.to_file(content, driver='GPKG', layer=path.stem, engine='pyogrio')
    write_bytes(path, content.getvalue())
