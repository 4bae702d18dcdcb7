# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Reading of remote-sensing images: JPEG, PNG, GeoTIFF and JPEG 2000, any bands."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .errors import (
    BandMismatchError,
    NoValidPixelError,
    RawImage,
    UnreadableImageError,
    Window,
    check_bands,
    check_count,
)
from .photographs import (
    HEADER_BYTES,
    JPEG_EXTENSIONS,
    PNG_EXTENSIONS,
    decode_jpeg,
    decode_png,
    file_bytes,
    jpeg_header,
    png_header,
)
from .rasters import RASTER_EXTENSIONS, alpha_band, opened_raster, read_raster
from .values import (
    fill_missing,
    reduce_by_area,
    resize_bicubic,
    resize_mask,
    to_display_range,
)

IMAGE_EXTENSIONS = JPEG_EXTENSIONS + PNG_EXTENSIONS + RASTER_EXTENSIONS


def load_image(
    path: str | Path,
    size: int | None = None,
    num_bands: int = 3,
    bands: Sequence[int] | None = None,
    value_range: tuple[float, float] | None = None,
    nodata: float | None = None,
    window: Window | None = None,
) -> NDArray[Any]:
    """Load one image, scaled to a square, on the 0-255 scale.

    8-bit files stay uint8. Other files become float32: ``value_range`` is mapped
    linearly to 0-255 and values outside it are clipped. No-data pixels are
    replaced by the mean of the valid pixels of their band. The EXIF orientation
    is ignored, as sensor geometry is.

    Args:
        path (str | Path): File with one of the :data:`IMAGE_EXTENSIONS`.
        size (int, optional): Side of the returned image in pixels; the image is
            resized by antialiased bicubic interpolation when it differs. Decoding
            happens at reduced resolution where the format permits. None keeps the
            size of the file. Defaults to None.
        num_bands (int): Expected number of bands. Defaults to 3.
        bands (Sequence[int], optional): Bands to take, counted from 1 as in GDAL,
            in the order wanted. Defaults to None, all bands.
        value_range (tuple[float, float], optional): Values of a non-8-bit file
            that become 0 and 255. Defaults to None: the whole range of the
            integer type; floating-point files need it.
        nodata (float, optional): Value that marks missing pixels in files that
            carry no tag for it. Defaults to None.
        window (tuple[int, int, int, int], optional): Part to read as top, left,
            height, width in pixels. Defaults to None, the whole file.

    Returns:
        np.ndarray: uint8 or float32 (0-255), (H, W, num_bands), RGB.

    Raises:
        UnreadableImageError: If the file is missing, truncated, corrupt or without
            a single valid pixel.
        BandMismatchError: If the file has not ``num_bands`` bands.
        ValueError: If a floating-point file is read without ``value_range``, or
            the extension is not supported.
    """
    image, _ = load_image_and_mask(
        path, size, num_bands, bands, value_range, nodata, window
    )
    return image


def load_image_and_mask(
    path: str | Path,
    size: int | None = None,
    num_bands: int = 3,
    bands: Sequence[int] | None = None,
    value_range: tuple[float, float] | None = None,
    nodata: float | None = None,
    window: Window | None = None,
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Load one image as :func:`load_image` does, with its mask of valid pixels.

    Returns:
        tuple: Image (H, W, C) and bool (H, W, C), False where data was missing, or
        None when every pixel is valid.
    """
    raw = read_raw(path, size, num_bands, bands, nodata, window)
    pixels = to_display_range(raw.pixels, value_range, path)
    valid = raw.valid
    if valid is not None:
        pixels = fill_missing(pixels, valid)
    if size is not None and pixels.shape[:2] != (size, size):
        pixels = resize_bicubic(pixels, size)
        if valid is not None:
            valid = resize_mask(valid, size)
    return pixels, valid


def read_raw(
    path: str | Path,
    min_size: int | None = None,
    num_bands: int = 3,
    bands: Sequence[int] | None = None,
    nodata: float | None = None,
    window: Window | None = None,
) -> RawImage:
    """Read the values of a file, at reduced resolution where that saves work.

    Args:
        path (str | Path): Image file.
        min_size (int, optional): Both sides of the result stay at least this
            large (unless the file is smaller); reduction is by area averaging.
            None reads full resolution.
        num_bands (int): As in :func:`load_image`.
        bands (Sequence[int], optional): As in :func:`load_image`.
        nodata (float, optional): As in :func:`load_image`.
        window (tuple[int, int, int, int], optional): As in :func:`load_image`.

    Returns:
        RawImage: Pixels and mask, num_bands bands.
    """
    if bands is not None and len(bands) != num_bands:
        raise BandMismatchError(
            f'bands={list(bands)} selects {len(bands)} bands but {num_bands} are '
            'expected; make both agree'
        )
    if nodata is not None:
        # Averaging would mix a marker that the file does not declare into values.
        min_size = None
    extension = Path(path).suffix.lower()
    if extension in RASTER_EXTENSIONS:
        raw = read_raster(path, min_size, num_bands, bands, nodata, window)
    elif extension in JPEG_EXTENSIONS + PNG_EXTENSIONS:
        pixels = _read_photograph(path, min_size, num_bands, bands, window)
        valid = None if nodata is None else (pixels != nodata)
        raw = RawImage(pixels, valid)
    else:
        raise ValueError(
            f'{path}: extension {extension!r} is not supported; accepted are '
            f'{", ".join(IMAGE_EXTENSIONS)}'
        )
    if raw.valid is not None:
        if raw.pixels.dtype == np.uint8:
            # In 8-bit data the marker (0 or 255) is also the value of black or
            # saturated pixels: only a pixel that has it in all bands is missing.
            raw.valid[...] = raw.valid.any(axis=2, keepdims=True)
        if not raw.valid.any(axis=(0, 1)).all():
            raise NoValidPixelError(f'{path}: no valid pixel in some band')
        if raw.valid.all():
            raw.valid = None
    return raw


def image_size(path: str | Path) -> tuple[int, int]:
    """Height and width of an image in pixels, from its header alone.

    Raises:
        UnreadableImageError: If the header cannot be read.
    """
    extension = Path(path).suffix.lower()
    if extension in RASTER_EXTENSIONS:
        with opened_raster(path) as source:
            return source.height, source.width
    header: Callable[[str | Path, bytes], tuple[int, int, int]] = (
        png_header if extension in PNG_EXTENSIONS else jpeg_header
    )
    content = file_bytes(path, HEADER_BYTES)
    try:
        height, width, _ = header(path, content)
    except UnreadableImageError:
        # Profiles and thumbnails before the frame header can be longer than that.
        if len(content) < HEADER_BYTES:
            raise
        height, width, _ = header(path, file_bytes(path))
    return height, width


def count_bands(path: str | Path) -> int:
    """Number of bands that :func:`load_image` expects best: 3 for JPEG and PNG.

    Transparency does not count.

    Raises:
        UnreadableImageError: If the header cannot be read.
    """
    if Path(path).suffix.lower() not in RASTER_EXTENSIONS:
        image_size(path)
        return 3
    with opened_raster(path) as source:
        return source.count - (alpha_band(source) is not None)


def _read_photograph(
    path: str | Path,
    min_size: int | None,
    num_bands: int,
    bands: Sequence[int] | None,
    window: Window | None,
) -> NDArray[Any]:
    content = file_bytes(path)
    if Path(path).suffix.lower() in PNG_EXTENSIONS:
        pixels = decode_png(path, content)
    else:
        reducible = min_size if window is None else None
        pixels = decode_jpeg(path, content, reducible)
    if window is not None:
        top, left, height, width = window
        pixels = pixels[top : top + height, left : left + width]
    pixels = _select_bands(path, pixels, num_bands, bands)
    if min_size is not None:
        pixels = reduce_by_area(pixels, min_size)
    return pixels


def _select_bands(
    path: str | Path,
    pixels: NDArray[Any],
    num_bands: int,
    bands: Sequence[int] | None,
) -> NDArray[Any]:
    found = pixels.shape[2]
    if bands is not None:
        check_bands(path, found, bands)
        return pixels[..., [band - 1 for band in bands]]
    if found == 1 and num_bands == 3:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    if found == 4 and num_bands == 3:
        return np.ascontiguousarray(pixels[..., :3])
    check_count(path, found, num_bands)
    return pixels
