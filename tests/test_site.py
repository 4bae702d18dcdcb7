# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The documentation as a site: built strictly, whole, and as readable as its files."""

import collections
import os
import re
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import mmengine.registry
import pytest
from markdown_it import MarkdownIt
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mmengine.registry import Registry

ROOT = Path(__file__).parents[1]
PAGES = [
    path
    for pattern in ('*.md', 'benchmarks/*.md', 'configs/**/*.md', 'docs/*.md')
    for path in sorted(ROOT.glob(pattern))
]
#: Where GitHub begins a list item, a table, a row or a block of code.
PARTS = {
    'list_item_open': 'li',
    'table_open': 'table',
    'tr_open': 'tr',
    'fence': 'pre',
    'code_block': 'pre',
}


@pytest.fixture(scope='module')
def site(tmp_path_factory) -> Iterator[Path]:
    """The site; a warning is an error, so are dead links and pages in no menu."""
    folder = tmp_path_factory.mktemp('site')
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        build(load_config(str(ROOT / 'mkdocs.yml'), site_dir=str(folder)))
    finally:
        os.chdir(before)
    return folder


class Elements(HTMLParser):
    """Counts the elements of a page's text, and collects what it loads."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.counts: collections.Counter[str] = collections.Counter()
        self.loaded: list[str] = []
        self._in_text = False
        self.feed(page.read_text(encoding='utf-8'))

    def handle_starttag(self, tag, attrs):
        self._in_text |= tag == 'article'
        self.counts[tag] += self._in_text
        for name, value in attrs:
            if name == 'src' or (tag == 'link' and name == 'href'):
                self.loaded.append(value)

    def handle_endtag(self, tag):
        self._in_text &= tag != 'article'


def built(site: Path, page: Path) -> Path:
    folder = site / page.relative_to(ROOT).with_suffix('')
    return (folder.parent if page.stem == 'README' else folder) / 'index.html'


def test_pages_have_the_lists_tables_and_blocks_that_github_shows(site):
    markdown = MarkdownIt('commonmark').enable('table')
    differ = {}
    for page in PAGES:
        tokens = markdown.parse(page.read_text(encoding='utf-8'))
        wanted = collections.Counter(
            PARTS[token.type]
            for token in tokens
            if token.type in PARTS and token.info != 'math'
        )
        found = Elements(built(site, page)).counts
        for tag in wanted:
            if found[tag] != wanted[tag]:
                differ[f'{page.relative_to(ROOT)} {tag}'] = found[tag], wanted[tag]
    assert len(PAGES) > 20 and not differ


def test_pages_load_nothing_from_elsewhere(site):
    pages = list(site.rglob('*.html'))
    loaded = {url for page in pages for url in Elements(page).loaded}
    assert len(loaded) > 10
    assert not [url for url in loaded if re.match(r'(\w+:)?//', url)]


def test_formulas_are_drawn_without_a_script(site):
    source = (ROOT / 'docs/method.md').read_text()
    counts = Elements(built(site, ROOT / 'docs/method.md')).counts
    assert counts['math'] >= source.count('```math') > 5
    text = built(site, ROOT / 'docs/method.md').read_text()
    assert 'arithmatex' in text and r'\(' not in text and r'\[' not in text
    # Browsers do not break the lines of these; blocks scroll on a phone.
    inline = re.findall(r'<math[^>]*"inline".*?</math>', text)
    longest = max(len(unescape(re.sub('<.*?>', '', each))) for each in inline)
    assert len(inline) > 5 and longest < 40


def registered_in(*packages: str) -> set[str]:
    registries = [r for r in vars(mmengine.registry).values() if type(r) is Registry]
    return {
        kind.__name__
        for registry in registries
        for kind in registry.module_dict.values()
        if kind.__module__.startswith(packages)
    }


def test_every_type_that_a_config_may_name_is_listed(site):
    registered = registered_in('cmid_mm.')
    listed = (site / 'api/types/index.html').read_text()
    assert len(registered) > 50
    assert not {name for name in registered if f'<code>{name}</code>' not in listed}


def test_the_parts_of_a_pretraining_are_written_about():
    text = ''.join(path.read_text() for path in PAGES)
    packages = 'heads', 'backbones', 'selfsup.masked_encoder'
    parts = registered_in(*(f'cmid_mm.models.{package}' for package in packages))
    assert len(parts) > 12
    assert not {name for name in parts if not re.search(rf'\b{name}\b', text)}


def test_page_of_all_pages_names_each():
    text = (ROOT / 'docs/README.md').read_text()
    pages = {path.name for path in PAGES if path.parent.name == 'docs'}
    assert not {name for name in pages - {'README.md'} if f']({name})' not in text}
