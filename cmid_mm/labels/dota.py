# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Oriented boxes in DOTA's text form."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..preparation.preparation import PreparationError

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

_HEADERS = ('imagesource:', 'gsd:')


@dataclass(frozen=True)
class Boxes:
    """The boxes of an image.

    Args:
        corners (np.ndarray): x and y of the four corners in pixels, float32 (N, 8).
        classes (tuple[str, ...]): N names.
        difficulties (tuple[int, ...]): N numbers, 0 easy, 1 difficult.
    """

    corners: NDArray[np.float32]
    classes: tuple[str, ...] = ()
    difficulties: tuple[int, ...] = ()


def read_boxes(content: str, name: str) -> Boxes:
    """Read a label file of DOTA.

    Args:
        content (str): Its text. Header lines and empty lines are skipped.
        name (str): What to call it in an error.

    Returns:
        Boxes: In the order of the file.

    Raises:
        PreparationError: If a line is not ``x1 y1 ... x4 y4 class [difficulty]`` or
            has a class that DOTA v1.0 does not have.
    """
    corners, classes, difficulties = [], [], []
    for number, line in enumerate(content.splitlines(), 1):
        words = line.split()
        if not words or line.lower().startswith(_HEADERS):
            continue
        try:
            corners.append([float(word) for word in words[:8]])
            classes.append(words[8])
            difficulties.append(int(words[9]) if words[9:] else 0)
        except (ValueError, IndexError):
            raise PreparationError(
                f'{name}, line {number}: expected x1 y1 x2 y2 x3 y3 x4 y4 class '
                f'difficulty, found {line!r}'
            ) from None
        if words[8] not in DOTA_CLASSES:
            raise PreparationError(
                f'{name}, line {number}: {words[8]!r} is no class of DOTA v1.0 (labels '
                'of v1.5 and v2.0 have others); give the folder with the v1.0 labels'
            )
    return Boxes(
        np.array(corners, np.float32).reshape(-1, 8),
        tuple(classes),
        tuple(difficulties),
    )
