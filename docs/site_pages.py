# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Which pages the site has: the repository's Markdown, notebooks and docstrings.

A hook of mkdocs. Files keep the paths of the repository, so that links between them
lead to the same places there and on the site. Files that are no pages are copied if one
may link to them. Pages that stand in no file are made here:

- ``api/ROOM.md``: what a room of the package exports, and the types that it registers
- ``api/types.md``: the types that a config may name, by registry
"""

import ast
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import griffe
import nbformat
from latex2mathml.converter import convert as tex_to_mathml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = ('*.md', 'benchmarks/*.md', 'configs/**/*.md', 'docs/*.md')
_FORMULA = re.compile(
    r'(<(?:span|div) class="arithmatex">)\\([(\[])(.*?)\\[)\]]', re.DOTALL
)
#: What pages link to, or a reader of them may look for.
LINKED = (
    'LICENSE',
    'benchmarks/*.py',
    'benchmarks/*.sh',
    'cmid_mm/**/*.py',
    'configs/**/*.py',
    'configs/**/*.yaml',
    'docs/*.css',
    'docs/images/*',
    'notebooks/*.ipynb',
    'requirements/*.txt',
    'tools/*',
)


class PlainMarkdown(griffe.Extension):
    """Turn what docstrings have of reStructuredText into Markdown."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Change one docstring."""
        if obj.docstring:
            obj.docstring.value = _markdown(obj.docstring.value)


def _markdown(docstring: str) -> str:
    text = re.sub(r':[a-z]+:`~?([^`]+)`', r'`\1`', docstring)
    text = re.sub(r'(?m)^( *)::$', r'\1', text)  # a block follows, without words before
    return re.sub(r'(?m)(?<=\w)::$', ':', text)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the pages made from docstrings to the menu."""
    rooms: list[Any] = [{'Types in configs': 'api/types.md'}, *map(_path, _rooms())]
    config.nav.insert(-1, {'API': rooms})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Put files where the repository has them, and made pages beside them."""
    for file in [file for file in files if file.src_dir == config.docs_dir]:
        files.remove(file)
    for pattern in (*PAGES, *LINKED):
        for source in sorted(ROOT.glob(pattern)):
            if source.is_file() and '__pycache__' not in source.parts:
                name = source.relative_to(ROOT).as_posix()
                files.append(File.generated(config, name, abs_src_path=str(source)))
    for name, text in _made_pages():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_content(html: str, **kwargs: Any) -> str:
    """Turn formulas into MathML, which browsers draw without a script."""
    return _FORMULA.sub(_formula, html)


def _formula(found: re.Match[str]) -> str:
    display = 'block' if found[2] == '[' else 'inline'
    return found[1] + tex_to_mathml(unescape(found[3]), display=display)


def _made_pages() -> Iterator[tuple[str, str]]:
    for source in sorted(ROOT.glob('notebooks/*.ipynb')):
        yield f'notebooks/{source.stem}.md', _notebook(source)
    package = griffe.load('cmid_mm', search_paths=[ROOT])
    by_registry: dict[str, list[tuple[str, griffe.Class]]] = {}
    for room in _rooms():
        module = package[room]
        types = list(_registered(module))
        for registry, name, kind in types:
            by_registry.setdefault(registry, []).append((name, kind))
        found = {**_exported(module), **{k.canonical_path: k for _, _, k in types}}
        yield _path(room), _room_page(module, found)
    yield 'api/types.md', _types_page(by_registry)


def _rooms() -> list[str]:
    return sorted(init.parent.name for init in ROOT.glob('cmid_mm/*/__init__.py'))


def _path(room: str) -> str:
    return f'api/{room}.md'


def _notebook(source: Path) -> str:
    """The text and the code of a notebook; its figures are made by those who run it."""
    parts = [f'[This notebook as a file]({source.name}).']
    for cell in nbformat.read(source, as_version=4).cells:
        code = cell.cell_type == 'code'
        parts.append(f'```python\n{cell.source}\n```' if code else cell.source)
    parts[:2] = reversed(parts[:2])  # the title first
    return '\n\n'.join(parts)


def _modules(module: griffe.Module) -> Iterator[griffe.Module]:
    yield module
    for inner in module.modules.values():
        if not inner.is_alias:
            yield from _modules(inner)


def _exported(module: griffe.Module) -> dict[str, griffe.Object]:
    """What a room defines and its packages name in ``__all__``, by its path.

    Of a room that names nothing, all that is public.
    """
    found: dict[str, griffe.Object] = {}
    for inner in _modules(module):
        if module.exports:
            members = [inner[str(name)] for name in inner.exports or ()]
        else:
            members = [m for m in inner.members.values() if not m.is_alias]
        for member in members:
            if member.has_docstring and not member.is_module and member.is_public:
                found[member.canonical_path] = member
    return {k: v for k, v in found.items() if k.startswith(f'{module.path}.')}


def _registered(module: griffe.Module) -> Iterator[tuple[str, str, griffe.Class]]:
    """Registry, name and class of all types that a config may name."""
    for inner in _modules(module):
        for kind in inner.classes.values():
            for decorator in () if kind.is_alias else kind.decorators:
                call = ast.parse(str(decorator.value), mode='eval').body
                if isinstance(call, ast.Call) and ast.unparse(call.func).endswith(
                    '.register_module'
                ):
                    registry = ast.unparse(call.func).partition('.')[0]
                    yield registry, kind.name, kind


def _room_page(module: griffe.Module, found: dict[str, griffe.Object]) -> str:
    said = _markdown(module.docstring.value) if module.docstring else ''
    parts = [f'# {module.name}', f'`{module.path}`', said]
    for path in sorted(found, key=lambda path: path.rpartition('.')[2].lower()):
        parts.append(f'::: {path}')
    return '\n\n'.join(parts)


def _types_page(by_registry: dict[str, list[tuple[str, griffe.Class]]]) -> str:
    parts = [
        '# Types in configs',
        'What `type=` may name after `import cmid_mm`, besides all that mmengine, '
        'mmpretrain and the packages of the tasks have. A type stands in the root '
        'registry and is found from every scope. Its arguments are the keys of its '
        'part of a config.',
    ]
    for registry, types in sorted(by_registry.items()):
        parts += [f'## {registry}', '| type | what it is |\n|---|---|']
        for name, kind in sorted(types, key=lambda pair: pair[0].lower()):
            assert kind.docstring, kind.path
            first = (
                _markdown(kind.docstring.value).partition('\n')[0].replace('|', '\\|')
            )
            parts[-1] += f'\n| [`{name}`][{kind.canonical_path}] | {first} |'
    return '\n\n'.join(parts)
