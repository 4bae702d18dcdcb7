# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Files that belong together because they have the same name."""

from collections.abc import Iterable
from pathlib import Path

from ..images import find_images


def images_by_stem(folder: Path, suffix: str | None = None) -> dict[str, Path]:
    """Images of a folder, not of those in it, by their name without extension.

    Args:
        folder: The folder.
        suffix: The extension, without dot. Defaults to None, any.

    Returns:
        In the order of their names.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If two of them have the same name without extension.
    """
    paths: Iterable[Path] = find_images(folder, recursive=False)
    if suffix is not None:
        ending = f'.{suffix.removeprefix(".")}'.lower()
        paths = [path for path in paths if path.suffix.lower() == ending]
    return _by_stem(paths)


def texts_by_stem(folder: Path) -> dict[str, Path]:
    """As :func:`images_by_stem`, of the text files (``.txt``) that are not hidden."""
    if not folder.is_dir():
        raise FileNotFoundError(f'{folder} is not a folder')
    return _by_stem(
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() == '.txt' and not path.name.startswith('.')
    )


def _by_stem(paths: Iterable[Path]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in paths:
        if path.stem in files:
            raise ValueError(
                f'{path} and {files[path.stem].name} have the same name; which of '
                'them belongs to the sample is not known. Remove one'
            )
        files[path.stem] = path
    return files
