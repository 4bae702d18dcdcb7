# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Writing of images and masks, complete or not at all."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.io import MemoryFile

from ..files import whole_file, write_bytes
from .pixels import Pixels
from .place import Place


def write_image(path: Path, image: NDArray[Any]) -> None:
    """Write an 8-bit RGB image or a mask.

    Args:
        path (Path): The file. ``.jpg`` gives a JPEG of quality 92, ``.png`` a PNG.
        image (np.ndarray): uint8 RGB (H, W, 3) or mask (H, W).
    """
    if image.ndim == 3:
        image = image[..., ::-1]  # OpenCV writes BGR
    quality = (
        [cv2.IMWRITE_JPEG_QUALITY, 92]
        if path.suffix == '.jpg'
        else [cv2.IMWRITE_PNG_COMPRESSION, 4]
    )
    _, encoded = cv2.imencode(path.suffix, np.ascontiguousarray(image), quality)
    write_bytes(path, encoded.tobytes())


def write_geotiff(
    path: Path,
    mask: NDArray[np.uint8],
    place: Place,
    nodata: int | None = None,
    palette: Sequence[Sequence[int]] | None = None,
) -> None:
    """Write a mask with the place of its image.

    Args:
        path: The file, replaced if there is one.
        mask: uint8 (H, W).
        place: That of the image.
        nodata: Value of pixels without data. Defaults to None.
        palette: RGB of the values from 0, for map programs. Defaults to None.
    """
    with (
        whole_file(path) as part,
        rasterio.open(
            part,
            'w',
            driver='GTiff',
            height=mask.shape[0],
            width=mask.shape[1],
            count=1,
            dtype='uint8',
            **place.for_writing(),
            nodata=nodata,
            compress='deflate',
            tiled=True,
        ) as target,
    ):
        target.write(mask, 1)
        if palette is not None:
            colours = {i: (*colour, 255) for i, colour in enumerate(palette[:255])}
            target.write_colormap(1, colours)


def write_bands(
    path: Path,
    pixels: Pixels,
    place: Place | None,
    nodata: float | None = None,
    palette: Sequence[Sequence[int]] | None = None,
) -> None:
    """Write a small image as GeoTIFF: all bands, in the type that they have.

    It is made in memory, so that a full disk is an ``OSError`` and no broken file.

    Args:
        path: The file, replaced if there is one.
        pixels: Values, and which of them hold data: without a value of ``nodata``, the
            file gets a mask that hides pixels without data in any band.
        place: Where it lies; None for nowhere.
        nodata: Value of pixels without data. Defaults to None.
        palette: RGB of the values from 0, of a mask. Defaults to None.
    """
    height, width, count = pixels.values.shape
    is_photograph = count == 3 and pixels.values.dtype == np.uint8
    missing = pixels.missing if nodata is None else None
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), MemoryFile() as memory:
        with memory.open(
            driver='GTiff',
            height=height,
            width=width,
            count=count,
            dtype=pixels.values.dtype,
            nodata=nodata,
            compress='deflate',
            # Else GDAL would take the fourth of four 8-bit bands for transparency.
            photometric='RGB' if is_photograph else 'MINISBLACK',
            **({} if place is None else place.for_writing()),
        ) as target:
            target.write(pixels.values.transpose(2, 0, 1))
            if missing is not None:
                target.write_mask(~missing)
            if palette is not None:
                colours = {i: (*colour, 255) for i, colour in enumerate(palette[:255])}
                target.write_colormap(1, colours)
        write_bytes(path, memory.read())
