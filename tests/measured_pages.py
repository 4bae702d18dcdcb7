# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Parts of the documentation that tests write."""

from pathlib import Path


def put_between(page: Path, start: str, end: str, text: str) -> None:
    """Put a text between two marks of a page, in place of what stands there."""
    before, found, rest = page.read_text().partition(start)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f'{page}: expected the marks {start} and {end}')
    page.write_text(f'{before}{start}\n\n{text}\n\n{end}{after}')
