# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""A test is of other images than those that were learnt from."""

import os
from collections.abc import Iterable
from pathlib import Path

from ..images.names import is_local


def check_apart(train: Iterable[str | Path], test: Iterable[str | Path]) -> None:
    """Refuse a test of images that are learnt from: its score would say nothing.

    Args:
        train: Names of the images to learn from.
        test: Of those to test on.

    Raises:
        ValueError: If an image, whatever its name, is among both.
    """
    learnt = {_identity(name) for name in train}
    names = list(test)
    both = [name for name in names if _identity(name) in learnt]
    if both:
        raise ValueError(
            f'{len(both)} of the {len(names)} test images are learnt from, too, first '
            f'{both[0]}: a score on them says nothing; give other images for the test, '
            'or lists of both (tools/split_dataset.py writes them)'
        )


def _identity(name: str | Path) -> str:
    return os.path.realpath(name) if is_local(str(name)) else str(name)
