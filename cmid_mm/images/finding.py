# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Finding images: which files are images, and which belong together."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from .composites import MOSAIC, STACK, listed_parts
from .image_file import IMAGE_EXTENSIONS
from .names import image_path, is_local, is_missing
from .notices import say_once
from .rasters import Raster
from .scene_folders import is_scene_folder, is_sentinel2, landsat_scene

#: Endings of image files, for messages.
ACCEPTED = ', '.join(IMAGE_EXTENSIONS)


def is_image_name(name: str | os.PathLike[str]) -> bool:
    """Whether a name has the ending of an image and is not hidden.

    Hidden are names that begin with a dot, among them the ``._name.jpg`` companions
    that macOS leaves behind.
    """
    base = os.path.basename(name)
    ending = os.path.splitext(base)[1].lower()
    return ending in IMAGE_EXTENSIONS and not base.startswith('.')


def is_image(name: str | os.PathLike[str]) -> bool:
    """Whether a name can be that of an image: by its ending, or as a scene's folder.

    A name that is no path of this machine can be anything.
    """
    return not is_local(name) or is_image_name(name) or is_scene_folder(name)


def find_images(folder: str | Path, recursive: bool = True) -> list[Path]:
    """Image files of a folder: the one rule for what is an image in it.

    Hidden files and folders and ``__MACOSX`` are left out, links are followed, each
    folder once. What is named like an image but is no file (a pipe, a device) is left
    out and said. A VRT, or a list of bands or tiles, stands for the files that it is
    made of, which are then no images of their own; so does the folder of a Sentinel-2
    or Landsat scene.

    Args:
        folder: The folder.
        recursive: Search its subfolders, at any depth. Defaults to True.

    Returns:
        Files, and folders of scenes, sorted by path; may be empty.

    Raises:
        FileNotFoundError: If it is not a folder.
    """
    if not os.path.isdir(folder):
        raise FileNotFoundError(f'{folder} is not a folder')
    paths: list[Path] = []
    no_files: list[Path] = []
    for name, is_file in _scan(str(folder), recursive):
        (paths if is_file else no_files).append(Path(name))
    if no_files:
        say_once(
            f'no files in {folder}',
            f'{folder}: {len(no_files)} entries are named like images but are no files '
            f'(dangling links, pipes, ...) and left out, first {min(no_files)}',
        )
    paths.sort()
    parts: set[str] = set()
    for path in paths:
        if path.suffix.lower() in ('.vrt', STACK, MOSAIC):
            try:
                parts |= {os.path.realpath(part) for part in _parts(path)}
            except (OSError, ValueError):
                pass  # said by whoever reads it
    if parts:
        paths = [path for path in paths if os.path.realpath(path) not in parts]
    return paths


def _parts(path: Path) -> list[str]:
    """Names of the files that a VRT, or a list of bands or tiles, is made of."""
    if path.suffix.lower() != '.vrt':
        return listed_parts(path)
    raster = Raster(path)
    files = [name for name in raster.source.files if name != str(path)]
    raster.close()
    return files


def _scan(root: str, recursive: bool) -> Iterator[tuple[str, bool]]:
    """What is named like an image, and whether it is a file.

    Without a stat call for each: folders may hold millions.
    """
    folders = [root]
    seen = {os.path.realpath(root)}
    while folders:
        folder = folders.pop()
        if is_sentinel2(folder):
            yield folder, True
            continue
        with os.scandir(folder) as listed:
            entries = [
                entry
                for entry in listed
                if not entry.name.startswith('.') and entry.name != '__MACOSX'
            ]
            scene = landsat_scene(entry.name for entry in entries)
            if scene:
                yield folder, True
            for entry in entries:
                if scene and entry.name.startswith(scene):
                    continue
                if _is_dir(entry):
                    if entry.is_symlink():
                        target = os.path.realpath(entry.path)
                        if target in seen:
                            continue
                        seen.add(target)
                    if recursive or is_scene_folder(entry.path):
                        folders.append(entry.path)
                elif is_image_name(entry.name):
                    yield (
                        entry.path,
                        os.path.isfile(entry.path)
                        if (entry.is_symlink())
                        else entry.is_file(),
                    )


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def named_images(names: Iterable[str | Path]) -> list[Path]:
    """Image files of names, folders and patterns, as given on a command line.

    Args:
        names: Files, folders (see :func:`find_images`), patterns such as
            ``scenes/*.tif``, of which hidden files are no part, and addresses such as
            ``https://...`` or ``/vsizip/...``.

    Returns:
        Files in the order given. A named file need not exist nor end as images do.

    Raises:
        FileNotFoundError: If a folder holds no image or a pattern matches none.
    """
    found: list[Path] = []
    for name in map(str, names):
        if not is_local(name):
            found.append(image_path(name))
            continue
        path = Path(name).expanduser()
        if path.is_dir():
            inside = find_images(path)
            if not inside:
                raise FileNotFoundError(
                    f'{path} holds no image; accepted extensions: {ACCEPTED}'
                )
            found += inside
        elif glob.has_magic(name) and not path.exists():
            matches = sorted(
                Path(match)
                for match in glob.glob(str(path), recursive=True)
                if not os.path.basename(match).startswith('.')
            )
            if not matches:
                raise FileNotFoundError(f'no file matches {name}')
            found += matches
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def find_pairs(names: Sequence[str | Path]) -> list[tuple[Path, Path]]:
    """Pairs of images of two dates.

    Args:
        names: Two files; two folders whose files have the same names; or one folder
            with folders ``A`` and ``B`` like that.

    Returns:
        First and second date, sorted by name.

    Raises:
        FileNotFoundError: If a folder or an image's partner is missing.
        ValueError: If the names are something else.
    """
    paths = [image_path(name).expanduser() for name in names]
    if len(paths) == 1 and paths[0].is_dir():
        paths = [path for name in 'AB' if (path := paths[0] / name).is_dir()]
    folders = [path.is_dir() and not is_scene_folder(path) for path in paths]
    if len(paths) != 2 or folders[0] != folders[1]:
        raise ValueError(
            'change detection takes two images, two folders with images of the same '
            f'names, or one folder with A and B in it; got {", ".join(map(str, names))}'
        )
    if not folders[0]:
        for path in paths:
            if is_missing(path):
                raise FileNotFoundError(f'{path} does not exist')
        return [(paths[0], paths[1])]
    first, second = (
        {
            str(file.relative_to(path).with_suffix('')): file
            for file in find_images(path)
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
