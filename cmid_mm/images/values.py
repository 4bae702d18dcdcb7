# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Values and sizes: display range, missing pixels, resizing."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from .notices import say_once
from .pixels import Header, Pixels, Reading

#: Share of an image's values that is clipped above which a value range is in doubt.
_DOUBTFUL = 0.9


def to_network_input(
    raw: Pixels, reading: Reading, header: Header
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Make of stored values what a network gets.

    Args:
        raw: The values of the bands that are read.
        reading: Their range and the size of the result.
        header: Of the file.

    Returns:
        Image (H, W, C), uint8 or float32 in 0-255, missing values filled; and which
        values were there, bool (H, W, C), or None if all were.
    """
    valid = raw.valid
    pixels = to_display_range(raw.values, reading, header)
    if pixels.dtype != np.uint8:
        say_if_clipped(pixels, valid, reading, header.path)
    if valid is not None:
        pixels = fill_missing(pixels, valid)
    size = reading.size
    if size is not None and pixels.shape[:2] != (size, size):
        pixels = resize_bicubic(pixels, size)
        if valid is not None:
            valid = resize_nearest(valid, (size, size))
    return pixels, valid


def to_display_range(
    pixels: NDArray[Any], reading: Reading, header: Header
) -> NDArray[Any]:
    """Bring pixels to the 0-255 scale; 8-bit ones are returned as they are.

    Args:
        pixels: Any integer or floating-point dtype, (H, W, C).
        reading: Its value range is mapped to 0-255; values outside are clipped.
        header: Of the file: its type, which averaging may have changed, has a range.

    Returns:
        uint8, or float32 in 0-255.

    Raises:
        ValueError: If pixels other than integers come without a value range.
    """
    if header.dtype == np.uint8:
        return pixels
    low, high = reading.limits(header.dtype, header.path)
    if reading.value_range is None:
        say_once(
            f'range of {header.dtype}',
            f'{header.path}: the whole range of {header.dtype}, {low:g} to {high:g}, '
            'becomes 0 to 255, as no value_range is set (tools/dataset_stats.py '
            'suggests one)',
        )
    # In float32, large values would lose what distinguishes them.
    exact = np.float32 if pixels.dtype.itemsize <= 2 else np.float64
    scaled = pixels.astype(exact) - np.asarray(low, exact)
    scaled *= np.asarray(255.0 / (np.asarray(high) - low), exact)
    scaled = scaled.astype(np.float32, copy=False)
    return np.clip(scaled, 0, 255, out=scaled)


def say_if_clipped(
    pixels: NDArray[Any],
    valid: NDArray[np.bool_] | None,
    reading: Reading,
    path: str | Path,
) -> None:
    """Warn, once a run, of an image that a value range makes black or white.

    Args:
        pixels: On the 0-255 scale, (H, W, C).
        valid: Which values count, (H, W, C); None for all.
        reading: How they were read.
        path: The file.
    """
    values = pixels if valid is None else pixels[valid]
    low, high = (float((values == end).mean()) for end in (0, 255))
    if max(low, high) > _DOUBTFUL:
        given = reading.value_range or 'the whole range of its integer type'
        say_once(
            'clipped',
            f'{path}: {low:.0%} of its values become 0 and {high:.0%} become 255 with '
            f'value_range {given}; tools/dataset_stats.py suggests one that fits',
        )


def fill_missing(pixels: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[Any]:
    """Replace missing values by the mean of the valid ones of the same band.

    A band without a valid value becomes 0.

    Args:
        pixels: uint8 or float32, (H, W, C).
        valid: Bool (H, W, C).

    Returns:
        As ``pixels``.
    """
    clean = np.where(valid, pixels, 0)
    count = np.maximum(valid.sum(axis=(0, 1)), 1)
    mean = clean.sum(axis=(0, 1), dtype=np.float64) / count
    if pixels.dtype == np.uint8:
        mean = np.rint(mean)
    return np.where(valid, pixels, mean.astype(pixels.dtype))


def channels_last(planes: NDArray[Any]) -> NDArray[Any]:
    """Interleave bands, (C, H, W), as pixels, (H, W, C)."""
    if planes.dtype not in _MERGED or planes.size == 0:
        return np.ascontiguousarray(planes.transpose(1, 2, 0))
    # So much faster than NumPy that it is seen beside reading from a file.
    return cv2.merge(list(planes)).reshape(*planes.shape[1:], -1)


def resize_bicubic(pixels: NDArray[Any], size: int) -> NDArray[Any]:
    """Resize to a square by antialiased bicubic interpolation, as Pillow does.

    Args:
        pixels: uint8 or float32 (0-255), (H, W, C).
        size: Side of the result in pixels.

    Returns:
        As ``pixels``, (size, size, C).
    """
    height, width, channels = pixels.shape
    # PyTorch's vectorised 8-bit kernel takes up to four channels at a time.
    if channels <= 4:
        pixels = np.ascontiguousarray(pixels)
        grouped = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    else:
        groups = -(-channels // 4)
        planes = np.zeros((groups * 4, height, width), pixels.dtype)
        cv2.split(pixels, list(planes[:channels]))
        grouped = torch.from_numpy(planes).view(groups, 4, height, width)
    resized = interpolate(grouped, (size, size), mode='bicubic', antialias=True)
    bands = resized.flatten(0, 1)[:channels].numpy()  # (C, size, size)
    result = cv2.merge(list(bands)).reshape(size, size, channels)
    if result.dtype != np.uint8:
        # Cubic interpolation overshoots; saturate as it does for 8-bit pixels.
        np.clip(result, 0, 255, out=result)
    return result


def resize_nearest(mask: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """Resize a mask by its nearest pixels.

    Args:
        mask: (H, W) or (H, W, C).
        shape: Height and width of the result.
    """
    rows, columns = (
        (np.arange(new) * old + old // 2) // new
        for new, old in zip(shape, mask.shape, strict=False)
    )
    return mask[rows[:, None], columns]


def reduced_shape(height: int, width: int, min_size: int | None) -> tuple[int, int]:
    """Height and width reduced by a whole factor, both at least ``min_size``.

    Args:
        height: In pixels.
        width: In pixels.
        min_size: In pixels; None reduces nothing.
    """
    factor = 1 if min_size is None else max(1, min(height, width) // min_size)
    return -(-height // factor), -(-width // factor)


def resize_by_area(
    values: NDArray[Any], valid: NDArray[np.bool_] | None, shape: tuple[int, int]
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Reduce by averaging the valid values under each new pixel.

    Args:
        values: (H, W, C), any real type.
        valid: Bool (H, W, C), which of them count; None for all.
        shape: Height and width of the result, at most those of ``values``.

    Returns:
        Values, of the same type if OpenCV knows it, else float64, and bool (h, w, C),
        where at least one value was valid; None for everywhere.
    """
    if values.shape[:2] == shape:
        return values, valid
    if values.dtype not in _AVERAGED:
        values = values.astype(np.float64)
    if valid is None:
        return _area(values, shape), None
    share = _area(valid.astype(np.float64), shape)
    present = share > 0
    total = _area(np.where(valid, values, 0).astype(np.float64), shape)
    mean = total / np.where(present, share, 1)
    if values.dtype.kind in 'iu':
        mean = np.rint(mean)
    return mean.astype(values.dtype), present


#: Types that OpenCV interleaves.
_MERGED = (np.uint8, np.int8, np.uint16, np.int16, np.int32, np.float32, np.float64)
#: Types that OpenCV averages, rounding integers.
_AVERAGED = (np.uint8, np.uint16, np.int16, np.float32, np.float64)


def _area(values: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    # OpenCV resizes at most four channels at a time.
    parts = [
        cv2.resize(
            np.ascontiguousarray(values[..., first : first + 4]),
            shape[::-1],
            interpolation=cv2.INTER_AREA,
        ).reshape(*shape, -1)
        for first in range(0, values.shape[2], 4)
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)


def finite_values(values: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Which values are numbers; None for types that have nothing else."""
    return np.isfinite(values) if values.dtype.kind in 'fc' else None


def both_valid(
    first: NDArray[np.bool_] | None, second: NDArray[np.bool_] | None
) -> NDArray[np.bool_] | None:
    """Which values are valid by two masks, of which None is for all."""
    if first is None or second is None:
        return second if first is None else first
    return first & second
