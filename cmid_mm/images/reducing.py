# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Reading what is larger than memory at reduced size."""

from collections.abc import Callable

import numpy as np

from .pixels import Pixels, Window
from .values import resize_by_area

#: What is read at once takes at most so many bytes.
STRIP_BYTES = 1 << 26


def in_strips(
    read: Callable[[Window], Pixels],
    window: Window,
    shape: tuple[int, int],
    row_bytes: int,
) -> Pixels:
    """Read a window, reduced by averages, some rows at a time, so that it fits memory.

    Args:
        read: Reads some whole rows of the window.
        window: What to read.
        shape: Height and width of the result.
        row_bytes: What reading takes for each row.
    """
    top, left, height, width = window
    strips = max(1, min(shape[0], -(-height * row_bytes // STRIP_BYTES)))
    if strips == 1:
        pixels = read(window)
        return Pixels(*resize_by_area(pixels.values, pixels.valid, shape))
    edges = np.linspace(0, shape[0], strips + 1).round().astype(int)
    rows = (edges * (height / shape[0])).round().astype(int).tolist()
    parts = []
    for i in range(strips):
        pixels = read((top + rows[i], left, rows[i + 1] - rows[i], width))
        size = (int(edges[i + 1] - edges[i]), shape[1])
        parts.append(resize_by_area(pixels.values, pixels.valid, size))
    values = np.concatenate([values for values, _ in parts])
    if all(valid is None for _, valid in parts):
        return Pixels(values)
    masks = [
        np.ones(part.shape, bool) if valid is None else valid for part, valid in parts
    ]
    return Pixels(values, np.concatenate(masks))
