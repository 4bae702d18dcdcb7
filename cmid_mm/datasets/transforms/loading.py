# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Reading of remote-sensing images: JPEG, PNG, GeoTIFF and JPEG 2000, any bands."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rasterio
import torch
from mmcv.transforms import BaseTransform
from mmpretrain.registry import TRANSFORMS
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window as RasterWindow
from torch.nn.functional import interpolate

JPEG_EXTENSIONS = ('.jpg', '.jpeg')
PNG_EXTENSIONS = ('.png',)
RASTER_EXTENSIONS = ('.tif', '.tiff', '.jp2')
IMAGE_EXTENSIONS = JPEG_EXTENSIONS + PNG_EXTENSIONS + RASTER_EXTENSIONS

_HEADER_BYTES = 1 << 16

# A window of a raster: top, left, height, width in pixels.
Window = tuple[int, int, int, int]

# Reduction of the decoder -> flags for colour and for grey images.
_JPEG_REDUCTIONS = {
    8: (cv2.IMREAD_REDUCED_COLOR_8, cv2.IMREAD_REDUCED_GRAYSCALE_8),
    4: (cv2.IMREAD_REDUCED_COLOR_4, cv2.IMREAD_REDUCED_GRAYSCALE_4),
    2: (cv2.IMREAD_REDUCED_COLOR_2, cv2.IMREAD_REDUCED_GRAYSCALE_2),
    1: (cv2.IMREAD_COLOR, cv2.IMREAD_GRAYSCALE),
}
# PNG colour type -> number of channels (palette entries are RGB or RGBA).
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}


class UnreadableImageError(OSError):
    """The pixels of a file cannot be read; the message names file and reason."""


class NoValidPixelError(UnreadableImageError):
    """Every pixel of an image or window is marked as no-data."""


class BandMismatchError(ValueError):
    """A file does not have the number of bands that the pipeline expects."""


@dataclass
class RawImage:
    """Pixels as stored in a file.

    Attributes:
        pixels (np.ndarray): (H, W, C), dtype of the file, RGB order for
            photographs.
        valid (np.ndarray, optional): bool (H, W, C), False where the file holds
            no data; None when every pixel is valid.
    """

    pixels: NDArray[Any]
    valid: NDArray[np.bool_] | None = None


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
            valid = _resize_mask(valid, size)
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
        raw = _read_raster(path, min_size, num_bands, bands, nodata, window)
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
        _png_header if extension in PNG_EXTENSIONS else _jpeg_header
    )
    content = _file_bytes(path, _HEADER_BYTES)
    try:
        height, width, _ = header(path, content)
    except UnreadableImageError:
        # Profiles and thumbnails before the frame header can be longer than that.
        if len(content) < _HEADER_BYTES:
            raise
        height, width, _ = header(path, _file_bytes(path))
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
        return source.count - (_alpha_band(source) is not None)


# -- Photographs: JPEG and PNG ---------------------------------------------------


def _read_photograph(
    path: str | Path,
    min_size: int | None,
    num_bands: int,
    bands: Sequence[int] | None,
    window: Window | None,
) -> NDArray[Any]:
    content = _file_bytes(path)
    if Path(path).suffix.lower() in PNG_EXTENSIONS:
        pixels = _decode_png(path, content)
    else:
        reducible = min_size if window is None else None
        pixels = _decode_jpeg(path, content, reducible)
    if window is not None:
        top, left, height, width = window
        pixels = pixels[top : top + height, left : left + width]
    pixels = _select_bands(path, pixels, num_bands, bands)
    if min_size is not None:
        pixels = _reduce_by_area(pixels, min_size)
    return pixels


def _decode_jpeg(
    path: str | Path, content: bytes, min_size: int | None
) -> NDArray[np.uint8]:
    """Decode a JPEG to RGB or grey, (H, W, 3 | 1)."""
    height, width, components = _jpeg_header(path, content)
    # Entropy-coded data cannot contain the end-of-image marker; a thumbnail can, but
    # stands before the first scan. So nothing but a cut-off file lacks it after that.
    if content.rfind(b'\xff\xd9') < content.rfind(b'\xff\xda'):
        raise UnreadableImageError(f'{path}: truncated JPEG (no end-of-image marker)')
    # libjpeg rounds the sides of a reduced image up.
    fitting = [
        factor
        for factor in _JPEG_REDUCTIONS
        if min_size is not None and -(-min(height, width) // factor) >= min_size
    ]
    colour, grey = _JPEG_REDUCTIONS[max(fitting, default=1)]
    flag = grey if components == 1 else colour
    return _decode(path, content, flag | cv2.IMREAD_IGNORE_ORIENTATION)


def _decode_png(path: str | Path, content: bytes) -> NDArray[Any]:
    """Decode a PNG to grey, RGB or RGBA, 8 or 16 bit, (H, W, 1 | 3 | 4)."""
    _, _, channels = _png_header(path, content)
    if b'IEND' not in content[-64:] and content.rfind(b'IEND') < 0:
        raise UnreadableImageError(f'{path}: truncated PNG (no end chunk)')
    if channels <= 2:
        flag = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH
    elif channels == 3:
        flag = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    else:
        flag = cv2.IMREAD_UNCHANGED
    return _decode(path, content, flag)


def _decode(path: str | Path, content: bytes, flag: int) -> NDArray[Any]:
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flag)
    except cv2.error as error:
        raise UnreadableImageError(f'{path}: {error}') from None
    if pixels is None:
        raise UnreadableImageError(f'{path}: corrupt image data')
    if pixels.ndim == 2:
        return pixels[..., None]
    if pixels.shape[2] == 4:
        return cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA)
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _jpeg_header(path: str | Path, content: bytes) -> tuple[int, int, int]:
    """Height, width and number of components."""
    if content[:2] != b'\xff\xd8':
        raise UnreadableImageError(f'{path}: not a JPEG file')
    position = 2
    while position + 9 < len(content):
        if content[position] != 0xFF:
            break
        marker = content[position + 1]
        if marker == 0xFF or 0xD0 <= marker <= 0xD8 or marker == 0x01:
            # Fill bytes and markers without a payload.
            position += 1 if marker == 0xFF else 2
            continue
        # Start of frame 0-15, but not Huffman, arithmetic or JPEG-extension tables.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height = int.from_bytes(content[position + 5 : position + 7], 'big')
            width = int.from_bytes(content[position + 7 : position + 9], 'big')
            if height == 0 or width == 0:
                break
            return height, width, content[position + 9]
        position += 2 + int.from_bytes(content[position + 2 : position + 4], 'big')
    raise UnreadableImageError(f'{path}: truncated or corrupt JPEG header')


def _png_header(path: str | Path, content: bytes) -> tuple[int, int, int]:
    """Height, width and number of channels."""
    if content[:8] != b'\x89PNG\r\n\x1a\n' or content[12:16] != b'IHDR':
        raise UnreadableImageError(f'{path}: not a PNG file')
    if len(content) < 29 or content[25] not in _PNG_CHANNELS:
        raise UnreadableImageError(f'{path}: truncated or corrupt PNG header')
    width = int.from_bytes(content[16:20], 'big')
    height = int.from_bytes(content[20:24], 'big')
    return height, width, _PNG_CHANNELS[content[25]]


def _file_bytes(path: str | Path, limit: int | None = None) -> bytes:
    try:
        with open(path, 'rb') as file:
            return file.read() if limit is None else file.read(limit)
    except OSError as error:
        raise UnreadableImageError(f'{path}: {error.strerror}') from None


def _select_bands(
    path: str | Path,
    pixels: NDArray[Any],
    num_bands: int,
    bands: Sequence[int] | None,
) -> NDArray[Any]:
    found = pixels.shape[2]
    if bands is not None:
        _check_bands(path, found, bands)
        return pixels[..., [band - 1 for band in bands]]
    if found == 1 and num_bands == 3:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    if found == 4 and num_bands == 3:
        return np.ascontiguousarray(pixels[..., :3])
    _check_count(path, found, num_bands)
    return pixels


# -- Rasters: TIFF, GeoTIFF, JPEG 2000 -------------------------------------------


def _read_raster(
    path: str | Path,
    min_size: int | None,
    num_bands: int,
    bands: Sequence[int] | None,
    nodata: float | None,
    window: Window | None,
) -> RawImage:
    with opened_raster(path) as source:
        alpha = _alpha_band(source)
        if bands is not None:
            _check_bands(path, source.count, bands)
            indexes = list(bands)
        else:
            indexes = list(source.indexes)
            if alpha is not None and len(indexes) == num_bands + 1:
                indexes.remove(alpha)
            _check_count(path, len(indexes), num_bands)
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
        pixels = _reduce_by_area(pixels, min_size)
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


def _alpha_band(source: Any) -> int | None:
    roles = source.colorinterp
    return roles.index(ColorInterp.alpha) + 1 if ColorInterp.alpha in roles else None


def _check_bands(path: str | Path, found: int, bands: Sequence[int]) -> None:
    if min(bands) < 1 or max(bands) > found:
        raise BandMismatchError(
            f'{path}: has {found} bands, but bands={list(bands)} was asked for; bands '
            f'count from 1 to {found}'
        )


def _check_count(path: str | Path, found: int, expected: int) -> None:
    if found != expected:
        raise BandMismatchError(
            f'{path}: found {found} bands, expected {expected}. Either choose '
            f'{expected} bands with bands=[...] in LoadImagery (counted from 1), or '
            f'use all: num_bands={found} in LoadImagery and {found} values of '
            'mean and std in data_preprocessor'
        )


# -- Values and sizes ------------------------------------------------------------


def to_display_range(
    pixels: NDArray[Any],
    value_range: tuple[float, float] | None = None,
    name: str | Path = 'image',
) -> NDArray[Any]:
    """Bring pixels to the 0-255 scale; 8-bit ones are returned as they are.

    Args:
        pixels (np.ndarray): Any integer or floating-point dtype.
        value_range (tuple[float, float], optional): Values that become 0 and 255;
            None takes the whole range of an integer dtype.
        name (str | Path): What to call the image in an error.

    Returns:
        np.ndarray: uint8 or float32 in 0-255.

    Raises:
        ValueError: If floating-point pixels come without ``value_range``.
    """
    if pixels.dtype == np.uint8:
        return pixels
    if value_range is None:
        if pixels.dtype.kind not in 'iu':
            raise ValueError(
                f'{name}: values are {pixels.dtype}, whose range is not known; set '
                'value_range=(low, high) in LoadImagery (tools/dataset_stats.py '
                'suggests one)'
            )
        limits = np.iinfo(pixels.dtype)
        low, high = float(limits.min), float(limits.max)
    else:
        low, high = value_range
    scaled = (pixels.astype(np.float32) - low) * (255.0 / (high - low))
    return np.clip(scaled, 0, 255, out=scaled)


def fill_missing(pixels: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[Any]:
    """Replace missing pixels by the mean of the valid ones of the same band.

    Args:
        pixels (np.ndarray): uint8 or float32, (H, W, C).
        valid (np.ndarray): bool (H, W, C).

    Returns:
        np.ndarray: As ``pixels``.
    """
    clean = np.where(valid, pixels, 0)
    mean = clean.sum(axis=(0, 1), dtype=np.float64) / valid.sum(axis=(0, 1))
    if pixels.dtype == np.uint8:
        mean = np.rint(mean)
    return np.where(valid, pixels, mean.astype(pixels.dtype))


def resize_bicubic(pixels: NDArray[Any], size: int) -> NDArray[Any]:
    """Resize to a square by antialiased bicubic interpolation, as Pillow does.

    Args:
        pixels (np.ndarray): uint8 or float32 (0-255), (H, W, C).
        size (int): Side of the result in pixels.

    Returns:
        np.ndarray: As ``pixels``, (size, size, C).
    """
    height, width, channels = pixels.shape
    # PyTorch's vectorised 8-bit kernel takes up to four channels at a time.
    group = min(channels, 4)
    groups = -(-channels // group)
    planes = np.zeros((groups * group, height, width), pixels.dtype)
    cv2.split(pixels, list(planes[:channels]))
    grouped = torch.from_numpy(planes).view(groups, group, height, width)
    resized = interpolate(grouped, (size, size), mode='bicubic', antialias=True)
    bands = resized.flatten(0, 1)[:channels].numpy()  # (C, size, size)
    result = cv2.merge(list(bands)).reshape(size, size, channels)
    if result.dtype != np.uint8:
        # Cubic interpolation overshoots; saturate as it does for 8-bit pixels.
        np.clip(result, 0, 255, out=result)
    return result


def _resize_mask(valid: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    height, width = valid.shape[:2]
    rows = (np.arange(size) * height + height // 2) // size
    columns = (np.arange(size) * width + width // 2) // size
    return valid[rows[:, None], columns]


def _reduce_by_area(pixels: NDArray[Any], min_size: int) -> NDArray[Any]:
    height, width = pixels.shape[:2]
    factor = min(height, width) // min_size
    if factor < 2:
        return pixels
    target = (-(-width // factor), -(-height // factor))
    reduced = cv2.resize(pixels, target, interpolation=cv2.INTER_AREA)
    return reduced.reshape(*reduced.shape[:2], pixels.shape[2])


@TRANSFORMS.register_module()
class LoadImagery(BaseTransform):
    """Load an image of any supported format, RGB (method.md section 1).

    Required keys: ``img_path`` and optionally ``window``. Added keys: ``img``
    (H, W, C), ``img_shape``, ``ori_shape``.

    Args:
        size (int, optional): Side in pixels of the square that the image is
            resized to. Defaults to None, the size of the file.
        bands (Sequence[int], optional): Bands to take, counted from 1. Defaults to
            None, all.
        value_range (Sequence[float], optional): Low and high value of non-8-bit
            files, mapped to 0 and 255. Defaults to None, the whole integer range.
        num_bands (int, optional): Expected number of bands. Defaults to None:
            the number of ``bands``, or 3.
        nodata (float, optional): Value of missing pixels where files carry no
            no-data tag. Defaults to None.
    """

    def __init__(
        self,
        size: int | None = None,
        bands: Sequence[int] | None = None,
        value_range: Sequence[float] | None = None,
        num_bands: int | None = None,
        nodata: float | None = None,
    ) -> None:
        if value_range is not None and not (
            len(value_range) == 2 and value_range[0] < value_range[1]
        ):
            raise ValueError(
                f'LoadImagery: value_range must be (low, high), got {value_range}'
            )
        self.size = size
        self.bands = None if bands is None else list(bands)
        self.value_range = (
            None if value_range is None else (value_range[0], value_range[1])
        )
        self.num_bands = num_bands or (3 if bands is None else len(bands))
        self.nodata = nodata

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Load ``results['img_path']``."""
        image = load_image(
            results['img_path'],
            self.size,
            self.num_bands,
            self.bands,
            self.value_range,
            self.nodata,
            results.get('window'),
        )
        results['img'] = image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(size={self.size}, bands={self.bands}, '
            f'value_range={self.value_range}, num_bands={self.num_bands}, '
            f'nodata={self.nodata})'
        )
