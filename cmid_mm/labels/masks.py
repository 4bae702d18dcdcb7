# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Masks: a class, or change, for each pixel."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..images import read_stored
from ..images.photographs import JPEG_EXTENSIONS


def read_change_mask(path: str, changed_from: int | None = None) -> NDArray[np.uint8]:
    """Read a mask of changes.

    JPEG compression blurs masks, so that in a JPEG 128 and above is change. In other
    files 0 and 1, or 0 and 255 (128 and above, if edges were smoothed) are expected;
    a mask that is 0 everywhere has no change.

    Args:
        path (str): Image of one band, or with equal bands.
        changed_from (int, optional): Lowest value that means change, whatever the
            file looks like. Defaults to None, as said above.

    Returns:
        np.ndarray: uint8 (H, W), 0 unchanged, 1 changed.

    Raises:
        UnreadableImageError: If the file is missing or broken.
        ValueError: If it is a colour image, or its values could mean several things.
    """
    bands = read_stored(path).values
    is_jpeg = path.lower().endswith(JPEG_EXTENSIONS)
    if not is_jpeg and (bands != bands[..., :1]).any():
        raise ValueError(
            f'mask {path} is a colour image; expected one band with 0 for unchanged '
            'and 255 (or 1) for changed pixels. Convert it'
        )
    values = bands[..., 0]
    if changed_from is None:
        changed_from = 128 if is_jpeg else _changed_from(path, values)
    return (values >= changed_from).astype(np.uint8)


def _changed_from(path: str, values: NDArray[Any]) -> int:
    found = np.unique(values)
    if found[-1] <= 1:
        return 1
    # 0, 1 and 255 alone are indexes and an ignored rest, not smooth edges.
    if 128 <= found[-1] <= 255 and found.tolist() != [0, 1, 255] and found[0] >= 0:
        return 128
    shown = ', '.join(map(str, found[:5])) + (', ...' if len(found) > 5 else '')
    raise ValueError(
        f'mask {path} has the values {shown} (highest {found[-1]}), but masks have 0 '
        'and 255, or 0 and 1. If it is the right file, say from which value on pixels '
        'are changed: changed_from=... in LoadChangeMask'
    )
