# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Files that belong together because they have the same name."""

from collections.abc import Callable
from pathlib import Path

from ..images.reading import IMAGE_EXTENSIONS


def is_image(path: Path) -> bool:
    """Whether a file is an image by its name."""
    return path.suffix.lower() in IMAGE_EXTENSIONS


def files_by_stem(
    folder: Path, wanted: Callable[[Path], bool] = is_image
) -> dict[str, Path]:
    """Files of a folder, not of those in it, by their name without extension.

    Hidden files are none, such as the ``._name.tif`` that macOS leaves beside files.

    Args:
        folder: The folder.
        wanted: Which files.

    Returns:
        In the order of their names.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If two of the files have the same name without extension.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f'{folder} is not a folder')
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith('.') or not wanted(path):
            continue
        if path.stem in files:
            raise ValueError(
                f'{path} and {files[path.stem].name} have the same name; which of '
                'them belongs to the sample is not known. Remove one'
            )
        files[path.stem] = path
    return files
