# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The commands and the Python code that stand in the README and the documentation.

A block of bash, or of Python code that is neither a config nor the content of a file,
is run, in the order of the page, unless its first line says

- ``# needs X``: data, hardware or days that a test has not; its commands are only
  read (tool, options, config, keys), its imports made.
- ``# takes X``: the time it takes a user; run before a release (``pytest -m slow``).

Of a ``console``, commands are what stands behind ``$``; they are only read.
"""

import re
import shlex
import textwrap
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for path in [
        *ROOT.glob('*.md'),
        *(ROOT / 'benchmarks').glob('*.md'),
        *(ROOT / 'docs').glob('*.md'),
        *(ROOT / 'configs').glob('**/README.md'),
    ]
)
_FENCE = re.compile(r'^( *)```(\w+)\n(.*?)^\1```$', re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r'`(python (?:tools|benchmarks)/\w+\.py [^`]+)`')
_SETTING = re.compile(r'[A-Z_]+=.*')


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f'{self.page.relative_to(ROOT)}:{self.line}'

    @property
    def first(self) -> str:
        """The first line if it is a comment."""
        line = self.text.partition('\n')[0]
        return line.removeprefix('# ') if line.startswith('# ') else ''

    @property
    def commands(self) -> list[list[str]]:
        """Words of each command, without the variables that are set before it."""
        lines = self.text.replace('\\\n', ' ').splitlines()
        if self.language == 'console':
            lines = [line[2:] for line in lines if line.startswith('$ ')]
        return [words for line in lines if (words := _words(line))]


def _words(line: str) -> list[str]:
    words = shlex.split(line, comments=True)
    while words and _SETTING.fullmatch(words[0]):
        words = words[1:]
    return words


def blocks(page: Path, *languages: str) -> list[Block]:
    """The blocks of a page in some languages."""
    text = page.read_text(encoding='utf-8')
    return [
        Block(page, text.count('\n', 0, m.start()) + 1, m[2], textwrap.dedent(m[3]))
        for m in _FENCE.finditer(text)
        if m[2] in languages
    ]


def code_of(page: Path) -> list[Block]:
    """All code of a page as a renderer finds it, in fences or indented."""
    parser = MarkdownIt('commonmark').enable('table')
    return [
        Block(page, token.map[0] + 1, token.info, token.content)
        for token in parser.parse(page.read_text(encoding='utf-8'))
        if token.map and token.type in ('fence', 'code_block')
    ]


def inline_commands(page: Path) -> list[Block]:
    """Commands between single back ticks, each as a block of its own."""
    text = page.read_text(encoding='utf-8')
    return [
        Block(page, text.count('\n', 0, m.start()) + 1, 'bash', m[1].replace('\n', ' '))
        for m in _INLINE.finditer(_FENCE.sub(lambda m: '\n' * m[0].count('\n'), text))
    ]
