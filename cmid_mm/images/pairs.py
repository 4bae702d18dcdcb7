# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Two dates of one place, pixel upon pixel."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import PlaceMismatchError
from .image_file import ImageFile
from .pixels import Reading, Window
from .place import Place, check_same_place


class ImagePair:
    """Images of two dates, refused unless their pixels show the same ground.

    A context manager, like :class:`ImageFile`.

    Args:
        paths: The first and the second date.
        align: Warp the second date onto the pixels of the first, by their places.
            Defaults to False: their places, where both have one, must be equal.
        keep: Keep the decoded pixels of photographs. Defaults to False.
        reading: At which distance on the ground and with which masks both are read,
            as of :class:`ImageFile`. Defaults to None, as they are.

    Raises:
        UnreadableImageError: If a file is missing or broken.
        PlaceMismatchError: If the two differ in size or place, or cannot be aligned.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        align: bool = False,
        keep: bool = False,
        reading: Reading | None = None,
    ) -> None:
        first = ImageFile(paths[0], keep, reading=reading)
        second = ImageFile(paths[1], keep, first if align else None, reading=reading)
        self.dates = first, second
        self.height, self.width = first.height, first.width
        self.place: Place | None = first.place
        if first.header.shape != second.header.shape:
            raise PlaceMismatchError(
                f'{second.path} is {second.width} x {second.height} pixels, but '
                f'{first.path} is {first.width} x {first.height}; both dates must be '
                'of one size and show the same ground (align=True in LoadImagePair, '
                '--align in tools/predict.py, warps the second onto the first)'
            )
        if not align:
            check_same_place(
                first.path, first.place, second.path, second.place, first.header.shape
            )

    def load(
        self, reading: Reading, window: Window | None = None
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Load both dates stacked on channels.

        Returns:
            Image (H, W, 2C) on the 0-255 scale, missing values filled; and bool
            (H, W, 2C), False where they were missing, None where none was.

        Raises:
            ValueError: If one date is 8-bit and the other, without a value range, not.
        """
        first, second = (date.header for date in self.dates)
        eight_bit = [header.dtype == np.uint8 for header in (first, second)]
        if reading.value_range is None and eight_bit[0] != eight_bit[1]:
            raise ValueError(
                f'{second.path} holds {second.dtype} values, but {first.path} '
                f'{first.dtype}: on one scale one of them would be black. Convert '
                'one, or set value_range in LoadImagePair'
            )
        images, masks = zip(
            *(date.load(reading, window) for date in self.dates), strict=True
        )
        if all(mask is None for mask in masks):
            return np.concatenate(images, axis=2), None
        filled = [
            np.ones(image.shape, bool) if mask is None else mask
            for image, mask in zip(images, masks, strict=True)
        ]
        return np.concatenate(images, axis=2), np.concatenate(filled, axis=2)

    def close(self) -> None:
        """Let go of both files."""
        for date in self.dates:
            date.close()

    def __enter__(self) -> 'ImagePair':
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()
