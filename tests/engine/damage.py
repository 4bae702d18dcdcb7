# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What can happen to a checkpoint, for tests."""

from pathlib import Path


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path) -> None:
    file.write_bytes(b'')


def change_a_byte(file: Path) -> None:
    """Within the numbers of a tensor: what is loaded would look whole."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def change_the_end(file: Path) -> None:
    """Within the directory of the archive."""
    content = bytearray(file.read_bytes())
    content[-200:-100] = bytes(100)
    file.write_bytes(content)


def remove(file: Path) -> None:
    file.unlink()


DAMAGES = [truncate, empty, change_a_byte, change_the_end, remove]
