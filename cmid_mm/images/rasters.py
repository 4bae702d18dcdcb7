# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Reading of TIFF, GeoTIFF and JPEG 2000."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window as RasterWindow

from .errors import RawImage, UnreadableImageError, Window, check_bands, check_count
from .values import reduce_by_area

RASTER_EXTENSIONS = ('.tif', '.tiff', '.jp2')


def read_raster(
    path: str | Path,
    min_size: int | None,
    num_bands: int,
    bands: Sequence[int] | None,
    nodata: float | None,
    window: Window | None,
) -> RawImage:
    """Read a window of a raster."""
    with opened_raster(path) as source:
        alpha = alpha_band(source)
        if bands is not None:
            check_bands(path, source.count, bands)
            indexes = list(bands)
        else:
            indexes = list(source.indexes)
            if alpha is not None and len(indexes) == num_bands + 1:
                indexes.remove(alpha)
            check_count(path, len(indexes), num_bands)
        # GDAL takes the fourth 8-bit band for transparency, but near infrared that
        # is asked for as data must not hide the other bands where it is zero.
        masked = alpha not in indexes and any(
            flags != [MaskFlags.all_valid] for flags in source.mask_flag_enums
        )
        top, left, height, width = window or (0, 0, source.height, source.width)
        shape = (height, width)
        if min_size is not None and alpha not in indexes:
            factor = max(1, min(height, width) // min_size)
            shape = (-(-height // factor), -(-width // factor))
        options: dict[str, Any] = {
            'indexes': indexes,
            'window': RasterWindow(left, top, width, height),
            'out_shape': (num_bands, *shape),
            'resampling': Resampling.average,
        }
        try:
            # Averaging leaves no-data pixels out; the nearest pixel would alias.
            values = source.read(**options)
            masks = source.read_masks(**options) if masked else None
        except (RasterioError, OSError) as error:
            raise UnreadableImageError(f'{path}: {error.__cause__ or error}') from None
    valid = None if masks is None else masks > 0
    if nodata is not None:
        present = values != nodata
        valid = present if valid is None else valid & present
    if values.dtype.kind == 'f':
        finite = np.isfinite(values)
        valid = finite if valid is None else valid & finite
    pixels = np.ascontiguousarray(values.transpose(1, 2, 0))
    if valid is None and min_size is not None:
        pixels = reduce_by_area(pixels, min_size)
    elif valid is not None:
        valid = np.ascontiguousarray(valid.transpose(1, 2, 0))
    return RawImage(pixels, valid)


@contextmanager
def opened_raster(path: str | Path) -> Iterator[Any]:
    """Open a TIFF, GeoTIFF or JPEG 2000 with rasterio, without listing its folder.

    Raises:
        UnreadableImageError: If the file is missing or no such raster.
    """
    # Otherwise GDAL lists the folder, which may hold a million files, every time.
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN='TRUE'):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore', NotGeoreferencedWarning)
                source = rasterio.open(path)
        except (RasterioError, OSError) as error:
            raise UnreadableImageError(f'{path}: {error}') from None
        with source:
            yield source


def alpha_band(source: Any) -> int | None:
    """Number of the band that is transparency, None if there is none."""
    roles = source.colorinterp
    return roles.index(ColorInterp.alpha) + 1 if ColorInterp.alpha in roles else None
