# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Rows of the table in docs/reliability.md: what was tried, and what came of it."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple, TypeVar

import pytest

from tests.measured_pages import put_between

START, END = '<!-- rows of make faults -->', '<!-- end of rows -->'

Test = TypeVar('Test', bound=Callable)


class Row(NamedTuple):
    """One kind of fault: its part of the page, what is done, what must come of it."""

    part: str
    fault: str
    outcome: str


def fault(part: str, fault: str, outcome: str) -> Callable[[Test], Test]:
    """Mark a test as the proof of one row.

    A test with cases counts once for each; one that tries its fault several times
    says so by ``record_property('tries', number)``.
    """
    return pytest.mark.faults(Row(part, fault, outcome))


def table(tries: dict[Row, int]) -> str:
    """Rows in Markdown, a heading and a table for each part, in order of first use."""
    parts: dict[str, list[str]] = {}
    for row, count in tries.items():
        line = f'| {row.fault} | {count} | {row.outcome} |'
        parts.setdefault(row.part, []).append(line)
    blocks = (
        '\n'.join([f'### {part}', '', '| fault | tried | outcome |', '|---|---|---|'])
        + '\n'
        + '\n'.join(lines)
        for part, lines in parts.items()
    )
    return '\n\n'.join(blocks)


def replace_rows(page: Path, tries: dict[Row, int], footer: Iterable[str] = ()) -> None:
    """Put the table between the two marks of a page."""
    put_between(page, START, END, '\n\n'.join([table(tries), *footer]))
