# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Finding images: which files are images, and which belong together."""

import glob
from collections.abc import Iterable, Sequence
from pathlib import Path

from .reading import IMAGE_EXTENSIONS


def find_images(names: Iterable[str | Path]) -> list[Path]:
    """Image files of names, folders and patterns.

    Args:
        names (Iterable[str | Path]): Files, folders (searched at any depth) and
            patterns such as ``scenes/*.tif``.

    Returns:
        list[Path]: Files in the order given, those of a folder sorted by name. A
        named file need not exist.

    Raises:
        FileNotFoundError: If a folder holds no image or a pattern matches none.
    """
    found: list[Path] = []
    for name in map(str, names):
        path = Path(name).expanduser()
        if path.is_dir():
            inside = [
                file
                for file in sorted(path.rglob('*'))
                if file.suffix.lower() in IMAGE_EXTENSIONS
                and not file.name.startswith('.')
            ]
            if not inside:
                raise FileNotFoundError(
                    f'{path} holds no image; accepted extensions: '
                    f'{", ".join(IMAGE_EXTENSIONS)}'
                )
            found += inside
        elif glob.has_magic(name) and not path.exists():
            matches = sorted(map(Path, glob.glob(str(path), recursive=True)))
            if not matches:
                raise FileNotFoundError(f'no file matches {name}')
            found += matches
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def find_pairs(names: Sequence[str | Path]) -> list[tuple[Path, Path]]:
    """Pairs of images of two dates.

    Args:
        names (Sequence[str | Path]): Two files; two folders whose files have the
            same names; or one folder with folders ``A`` and ``B`` like that.

    Returns:
        list[tuple[Path, Path]]: First and second date, sorted by name.

    Raises:
        FileNotFoundError: If a folder or an image's partner is missing.
        ValueError: If the names are something else.
    """
    paths = [Path(name).expanduser() for name in names]
    if len(paths) == 1 and paths[0].is_dir():
        paths = [paths[0] / 'A', paths[0] / 'B']
    if len(paths) != 2 or paths[0].is_dir() != paths[1].is_dir():
        raise ValueError(
            'change detection takes two images, two folders with images of the same '
            f'names, or one folder with A and B in it; got {", ".join(map(str, names))}'
        )
    if not paths[0].is_dir():
        for path in paths:
            if not path.is_file():
                raise FileNotFoundError(f'{path} does not exist')
        return [(paths[0], paths[1])]
    first, second = (
        {
            str(file.relative_to(path).with_suffix('')): file
            for file in find_images([path])
        }
        for path in paths
    )
    alone = sorted(set(first) ^ set(second))
    if alone:
        there, absent = paths if alone[0] in first else paths[::-1]
        raise FileNotFoundError(
            f'{alone[0]} is in {there} but not in {absent} ({len(alone)} without a '
            'partner); images of a pair have the same name in both folders'
        )
    return [(first[name], second[name]) for name in sorted(first)]
