# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What can be wrong with an image, and the types of what is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A window of a raster: top, left, height, width in pixels.
Window = tuple[int, int, int, int]


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


def check_bands(path: str | Path, found: int, bands: Sequence[int]) -> None:
    """Refuse to choose bands that a file has not."""
    if min(bands) < 1 or max(bands) > found:
        raise BandMismatchError(
            f'{path}: has {found} bands, but bands={list(bands)} was asked for; bands '
            f'count from 1 to {found}'
        )


def check_count(path: str | Path, found: int, expected: int) -> None:
    """Refuse another number of bands than expected."""
    if found != expected:
        raise BandMismatchError(
            f'{path}: found {found} bands, expected {expected}. Either choose '
            f'{expected} bands with bands=[...] in LoadImagery (counted from 1), or '
            f'use all: num_bands={found} in LoadImagery and {found} values of '
            'mean and std in data_preprocessor'
        )
