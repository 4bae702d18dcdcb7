# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Text: its encoding, its lines, and lists of files."""

import codecs
import re
from collections.abc import Iterable
from pathlib import Path

from ..files import read_regular, write_bytes
from .errors import LabelError

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def text_lines(content: bytes, name: str | Path) -> list[str]:
    """The lines of a text file.

    UTF-8 with or without a byte-order mark, or UTF-16 with one. Lines end with a line
    feed, a carriage return, or both; no other character ends one, since names of files
    may contain it.

    Args:
        content: The file.
        name: What to call it in an error.

    Raises:
        LabelError: If it has another encoding; names the line.
    """
    encoding = 'utf-16' if content.startswith(_UTF16) else 'utf-8-sig'
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        # UTF-16 only fails in its middle by damage, where bytes still count lines.
        line = content.count(b'\n', 0, error.start) + 1
        raise LabelError(
            f'{name}, line {line}: not {encoding.removesuffix("-sig").upper()} '
            f'({error.reason}); save the file as UTF-8'
        ) from None
    if '\0' in text:
        line = text.count('\n', 0, text.index('\0')) + 1
        raise LabelError(
            f'{name}, line {line}: no text (it has a zero byte, as UTF-16 without '
            'byte-order mark would); save the file as UTF-8'
        )
    return re.split(r'\r\n|\n|\r', text)


def read_list(path: str | Path) -> list[tuple[int, str]]:
    """Read a list: one entry a line.

    Empty lines, and lines that begin with ``#``, are skipped; a file whose name begins
    with it is written ``./#name``. Blanks at either end are no part of an entry, those
    within it are.

    Args:
        path: The file, in an encoding of :func:`text_lines`.

    Returns:
        Line number, from 1, and text of each entry, at least one.

    Raises:
        FileNotFoundError: If the file does not exist.
        NotAFileError: If it is a pipe or a device.
        LabelError: If it is in another encoding, or has no entry.
    """
    entries = list_entries(read_regular(path), path)
    if not entries:
        raise LabelError(f'{path} lists nothing; expected one entry a line')
    return entries


def list_entries(content: bytes, name: str | Path) -> list[tuple[int, str]]:
    """The entries of a list that was read, as :func:`read_list` gives them."""
    lines = enumerate(map(str.strip, text_lines(content, name)), 1)
    return [(number, line) for number, line in lines if line and line[0] != '#']


def write_list(path: Path, entries: Iterable[str]) -> None:
    """Write a list that :func:`read_list` reads back.

    Args:
        path: The file; one that exists is replaced.
        entries: Names, relative to some folder.

    Raises:
        LabelError: If an entry would not read back as it is.
    """
    lines = []
    for entry in entries:
        lines.append(f'./{entry}' if entry.startswith('#') else entry)
        if not entry or entry != entry.strip() or re.search('[\r\n\0]', entry):
            raise LabelError(
                f'{entry!r} cannot stand in the list {path}: it is empty, begins or '
                'ends with a blank, or has a line break in it; rename it'
            )
    write_bytes(path, ''.join(f'{line}\n' for line in lines).encode())
