# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Files that are either complete or not there."""

import os
import shutil
from pathlib import Path


def part_file(path: Path) -> Path:
    """Where a file is written before it gets its name; makes its folder.

    Args:
        path (Path): The file to be.

    Returns:
        Path: A name beside it that no other process uses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f'{path.name}.{os.getpid()}.part')


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, and the folders that it needs.

    Args:
        path (Path): The file; one that exists is replaced.
        content (bytes): What it shall hold.
    """
    part = part_file(path)
    part.write_bytes(content)
    part.replace(path)


def link_or_copy(source: Path, path: Path) -> None:
    """Give a file a second name, or copy it where the file system cannot.

    Args:
        source (Path): The file.
        path (Path): Its new name; one that exists is replaced.
    """
    part = part_file(path)
    try:
        os.link(source.resolve(), part)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, part)
    part.replace(path)
