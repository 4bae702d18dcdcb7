# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Large images in overlapping windows."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..images import Window
from ..visualization.drawing import IGNORED

Item = TypeVar('Item')


def blend_windows(
    scores: Iterable[tuple[Window, NDArray[np.float32]]],
    height: int,
    width: int,
    decide: Callable[[NDArray[np.float32]], NDArray[np.uint8]],
) -> NDArray[np.uint8]:
    """Decide the class of each pixel from the scores of overlapping windows.

    Where windows overlap, their scores are averaged with weights that fall linearly
    towards a window's edges, where a network sees least of the surroundings: no
    seams. Scores are kept for one row of windows at a time; memory grows with the
    width of the image, not with its height.

    Args:
        scores (Iterable): Window and its scores, (C, h, w), row by row as
            ``tile_windows`` yields them; those without data are left out.
        height (int): Height of the image in pixels.
        width (int): Width of the image in pixels.
        decide (Callable): From scores (C, h, w) to classes (h, w), uint8.

    Returns:
        np.ndarray: Classes, (height, width), uint8; 255 where no window lies.
    """
    classes = np.full((height, width), IGNORED, np.uint8)
    strip_top, total, weight = 0, None, None

    def settle(rows: int) -> None:
        """Decide the first rows of the strip."""
        assert total is not None and weight is not None
        rows = min(rows, height - strip_top)
        share = weight[:rows]
        decided = decide(total[:, :rows] / np.where(share > 0, share, 1))
        classes[strip_top : strip_top + rows] = np.where(share > 0, decided, IGNORED)

    for (top, left, rows, columns), window_scores in scores:
        if total is None or weight is None:
            total = np.zeros((len(window_scores), rows, width), np.float32)
            weight = np.zeros((rows, width), np.float32)
            strip_top = top
        if top > strip_top:
            # Of a row of windows that are all missing, nothing is left to decide.
            done = min(top - strip_top, rows)
            settle(done)
            # What remains moves up; the rows that come into reach are empty.
            for array in (total, weight):
                array[..., : rows - done, :] = array[..., done:, :].copy()
                array[..., rows - done :, :] = 0
            strip_top = top
        share = np.outer(_tent(rows), _tent(columns))
        total[:, :, left : left + columns] += window_scores * share
        weight[:, left : left + columns] += share
    if weight is not None:
        settle(len(weight))
    return classes


def _tent(length: int) -> NDArray[np.float32]:
    """Weights that rise from the edges to the middle, positive everywhere."""
    position = (np.arange(length, dtype=np.float32) + 0.5) / length
    return np.minimum(position, 1 - position)


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Divide items into parts of at most ``size``."""
    remaining = iter(items)
    while part := list(islice(remaining, size)):
        yield part
