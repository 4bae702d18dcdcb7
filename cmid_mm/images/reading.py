# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Reading of a whole image, or of one window, in one call."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .image_file import ImageFile, held_open
from .pixels import Header, Pixels, Reading, Window
from .values import to_network_input


def load_image(
    path: str | Path, reading: Reading | None = None, window: Window | None = None
) -> NDArray[Any]:
    """Load an image on the 0-255 scale, missing values filled.

    Args:
        path: Image file.
        reading: How it becomes numbers. Defaults to None, three bands of full size.
        window: Part to load. Defaults to None, the whole image.

    Returns:
        uint8 or float32 (0-255), (H, W, C), RGB for photographs.

    Raises:
        UnreadableImageError: If the file is missing, truncated, corrupt or without a
            valid pixel in one of its bands.
        BandMismatchError: If it has not the expected bands.
        ValueError: If a file that is not of integers is read without a value range.
    """
    return load_image_and_mask(path, reading, window)[0]


def load_image_and_mask(
    path: str | Path, reading: Reading | None = None, window: Window | None = None
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Load an image as :func:`load_image` does, with its mask of valid values.

    Returns:
        Image and bool (H, W, C), False where data was missing, or None where none was.
    """
    return held_open(path, reading).load(reading or Reading(), window)


def load_array(values: NDArray[Any], reading: Reading) -> NDArray[Any]:
    """Load an image that is in memory as :func:`load_image` loads a file.

    Args:
        values: Bands in the order of the file, RGB for photographs, (H, W) or
            (H, W, C), any real type. All are data but NaN.
        reading: How they become what a network gets.

    Returns:
        uint8 or float32 (0-255), (H, W, C).

    Raises:
        BandMismatchError: If the array has not the expected bands.
        ValueError: If values that are no integers come without a value range.
    """
    if values.ndim == 2:
        values = values[..., None]
    height, width, count = values.shape
    header = Header(Path('array'), height, width, count, values.dtype)
    values = values[..., [band - 1 for band in header.select(reading)]]
    valid = np.isfinite(values)
    raw = Pixels(values, None if valid.all() else valid)
    return to_network_input(raw, reading, header)[0]


def read_values(
    path: str | Path,
    reading: Reading | None = None,
    window: Window | None = None,
    min_size: int | None = None,
) -> Pixels:
    """Read the values of a file; see :meth:`ImageFile.read`."""
    return held_open(path, reading).read(reading or Reading(), window, min_size)


def read_stored(path: str | Path) -> Pixels:
    """Read the values of a label file as they are stored.

    A palette's indices, not its colours; one bit as 0 and 1. Transparency is no band.

    Args:
        path: Image file.

    Returns:
        Values (H, W, C), and which of them hold data by the file's own mask.

    Raises:
        UnreadableImageError: If the file is missing, truncated or corrupt.
    """
    with ImageFile(path) as image:
        return image.read_indices()
