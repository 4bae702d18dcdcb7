# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Points of vector layers with a class."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import LabelError
from .layer_info import layer_info, require_fields


def read_points(
    path: str | Path, field: str, crs: Any, layer: str | None = None
) -> tuple[NDArray[np.float64], list[str]]:
    """Read points and their classes.

    Features without a class, and those that are no points, are left out. Of classes in
    whole numbers, those of a field with gaps are whole numbers too.

    Args:
        path: Whatever GDAL reads as vector layers.
        field: That holds the class.
        crs: Reference system of the result.
        layer: Name of the layer, needed if there are several.

    Returns:
        x and y, (N, 2), and the class of each.

    Raises:
        ImportError: If geopandas or pyogrio is missing.
        FileNotFoundError: If there is no such file.
        LabelError: If it cannot be read, has no reference system, no point with a
            class, or not the field.
    """
    info = layer_info(path, layer)
    require_fields(path, [field], info['fields'])
    import pyogrio

    frame = pyogrio.read_dataframe(str(path), layer=info['layer_name'], columns=[field])
    frame = frame.explode(index_parts=False)  # as map programs make multi-points
    kinds = frame.geometry.geom_type
    frame = frame[(kinds == 'Point') & frame[field].notna()].to_crs(crs)
    if not len(frame):
        found = ', '.join(sorted(set(kinds.dropna()))) or 'no geometry'
        raise LabelError(
            f'{path}: no point has a class in {field!r} (found {found}); mark windows '
            'by points'
        )
    points = np.stack([frame.geometry.x, frame.geometry.y], 1)
    # Whole numbers are read as floating-point ones if one is missing.
    return points, [str(value) for value in frame[field].convert_dtypes()]
