# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Files that are either complete or not there."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


def part_file(path: Path) -> Path:
    """Where a file is written before it gets its name; makes its folder.

    Args:
        path: The file to be.

    Returns:
        A name beside it that no other process uses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f'{path.name}.{os.getpid()}.part')


@contextlib.contextmanager
def whole_file(path: Path, sync: bool = False) -> Iterator[Path]:
    """Write a file, and the folders that it needs, so that it is whole or not there.

    What is written inside goes to a file beside it, which takes its name when all went
    well, and is removed when not; one that was there is replaced only then.

    Args:
        path: The file to be.
        sync: Whether the content has to have reached the disk first, so that not even
            a crash of the machine can leave an empty file. Defaults to False.

    Yields:
        The file to write.
    """
    part = part_file(path)
    try:
        yield part
        if sync:
            with part.open('rb+') as file:
                os.fsync(file.fileno())
        part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes, sync: bool = False) -> None:
    """Write a file, and the folders that it needs.

    Args:
        path: The file; one that exists is replaced.
        content: What it shall hold.
        sync: See :func:`whole_file`. Defaults to False.
    """
    with whole_file(path, sync) as part:
        part.write_bytes(content)


def link_or_copy(source: Path, path: Path) -> None:
    """Give a file a second name, or copy it where the file system cannot.

    Args:
        source: The file.
        path: Its new name; one that exists is replaced.
    """
    with whole_file(path) as part:
        try:
            os.link(source.resolve(), part)
        except OSError:  # another file system, or one without links
            shutil.copyfile(source, part)
