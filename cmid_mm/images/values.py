# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Values and sizes: display range, missing pixels, resizing."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate


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


def resize_mask(valid: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """Resize a mask to a square by its nearest pixels."""
    height, width = valid.shape[:2]
    rows = (np.arange(size) * height + height // 2) // size
    columns = (np.arange(size) * width + width // 2) // size
    return valid[rows[:, None], columns]


def reduce_by_area(pixels: NDArray[Any], min_size: int) -> NDArray[Any]:
    """Reduce by a whole factor, both sides at least ``min_size``."""
    height, width = pixels.shape[:2]
    factor = min(height, width) // min_size
    if factor < 2:
        return pixels
    target = (-(-width // factor), -(-height // factor))
    reduced = cv2.resize(pixels, target, interpolation=cv2.INTER_AREA)
    return reduced.reshape(*reduced.shape[:2], pixels.shape[2])
