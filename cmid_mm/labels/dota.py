# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Oriented boxes in DOTA's text form."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..files import read_regular
from .errors import LabelError
from .lists import text_lines

DOTA_CLASSES = (
    'plane',
    'baseball-diamond',
    'bridge',
    'ground-track-field',
    'small-vehicle',
    'large-vehicle',
    'ship',
    'tennis-court',
    'basketball-court',
    'storage-tank',
    'soccer-ball-field',
    'roundabout',
    'harbor',
    'swimming-pool',
    'helicopter',
)

#: ``imagesource:GoogleEarth``, ``gsd:0.3``, ``acquisition dates:2016-05-04``, ...
_HEADER = re.compile(r'[^\W\d][^:]*:')

#: Pixels. Beyond it lie map coordinates and infinity.
_MAX_COORDINATE = 1e6

#: Pixels. A box with a shorter side has no area that could be learned: regression
#: divides by the sides and takes their logarithm.
MIN_SIDE = 0.1

#: A box of which less lies in a tile or window is left out there.
MIN_BOX_SHARE = 0.7

#: Difficulty of a box of which only a part lies in the tile or window.
TRUNCATED = 2


@dataclass(frozen=True)
class LabelledBoxes:
    """The boxes of an image.

    Args:
        corners: x and y of the four corners in pixels, float64 (N, 8).
        classes: N names.
        difficulties: N numbers, 0 easy, 1 difficult.
        flat: Number of boxes of the file without area, which were left out.
    """

    corners: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 8)))
    classes: tuple[str, ...] = ()
    difficulties: tuple[int, ...] = ()
    flat: int = 0


def read_boxes(
    path: str | Path,
    classes: Sequence[str] = DOTA_CLASSES,
    advice: str = 'the classes of DOTA v1.0',
) -> LabelledBoxes:
    """Read a label file as :func:`parse_boxes` does."""
    return parse_boxes(read_regular(path), path, classes, advice)


def parse_boxes(
    content: bytes,
    name: str | Path,
    classes: Sequence[str] = DOTA_CLASSES,
    advice: str = 'the classes of DOTA v1.0',
) -> LabelledBoxes:
    """Read the content of a label file.

    Headers (``name:value``) and empty lines are skipped. Boxes without area, a side of
    the smallest rectangle around them being below :data:`MIN_SIDE`, are left out and
    counted.

    Args:
        content: The file, in an encoding of
            :func:`~cmid_mm.labels.lists.text_lines`.
        name: What to call it in an error.
        classes: Names that are known.
        advice: Where these names come from, or what to do about others.

    Returns:
        In the order of the file.

    Raises:
        LabelError: If a line is not ``x1 y1 x2 y2 x3 y3 x4 y4 class [difficulty]``,
            a corner is no pixel, or a class is unknown; names the line.
    """
    corners, names, difficulties, flat = [], [], [], 0
    for number, line in enumerate(text_lines(content, name), 1):
        words = line.split()
        if not words or _HEADER.match(line.strip()):
            continue
        try:
            box = [float(word) for word in words[:8]]
            kind, difficulty = words[8], int(words[9]) if words[9:] else 0
            if not all(abs(value) < _MAX_COORDINATE for value in box):  # nor NaN
                raise ValueError
        except (ValueError, IndexError):
            raise LabelError(
                f'{name}, line {number}: expected x1 y1 x2 y2 x3 y3 x4 y4 class '
                f'difficulty with corners in pixels, found {line!r}'
            ) from None
        if kind not in classes:
            raise LabelError(
                f'{name}, line {number}: unknown class {kind!r}; expected one of '
                f'{", ".join(classes)} ({advice})'
            )
        if _short_side(box) < MIN_SIDE:
            flat += 1
            continue
        corners.append(box)
        names.append(kind)
        difficulties.append(difficulty)
    return LabelledBoxes(
        np.array(corners, np.float64).reshape(-1, 8),
        tuple(names),
        tuple(difficulties),
        flat,
    )


def _short_side(box: Sequence[float]) -> float:
    corners = np.array(box).reshape(4, 2)
    # Relative to the first corner: OpenCV calculates in float32.
    _, sides, _ = cv2.minAreaRect((corners - corners[0]).astype(np.float32))
    return min(sides)


def format_boxes(
    corners: NDArray[Any],
    classes: Sequence[str],
    notes: Sequence[object],
    decimals: int | None = 1,
    headers: Mapping[str, object] | None = None,
) -> bytes:
    """The content of a label file, or of one with predictions.

    Args:
        corners: x and y of the four corners in pixels, (N, 8).
        classes: N names.
        notes: N last columns: difficulties, or the scores of predictions.
        decimals: Of the corners. None writes as many as they need.
        headers: Lines before the boxes, by their name.

    Returns:
        UTF-8, to be read by :func:`parse_boxes` if the notes are difficulties. Blanks
        in names of classes, which would divide columns, are written as ``-``.
    """
    lines = [f'{name}:{value}' for name, value in (headers or {}).items()]
    for box, kind, note in zip(corners.tolist(), classes, notes, strict=True):
        numbers = (
            map(str, box)
            if decimals is None
            else (f'{value:.{decimals}f}' for value in box)
        )
        lines.append(f'{" ".join(numbers)} {"-".join(kind.split())} {note}')
    return ''.join(f'{line}\n' for line in lines).encode()
