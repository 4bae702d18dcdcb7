# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Where the pixels of an image lie on the ground."""

from dataclasses import dataclass
from typing import Any

from rasterio import Affine


@dataclass(frozen=True)
class Georeference:
    """Where the pixels of a raster lie.

    Attributes:
        crs (rasterio.crs.CRS): Coordinate reference system.
        transform (Affine): From (column, row) to map coordinates.
    """

    crs: Any
    transform: Affine
