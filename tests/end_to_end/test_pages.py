# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What the README and the documentation tell users to type works as it stands there."""

import argparse
import ast
import importlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mmengine.registry
import mmengine.runner.runner
import nbformat
import pytest
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import Registry
from nbclient import NotebookClient

import cmid_mm.demo_scenes
from cmid_mm.configs import load_config
from cmid_mm.overrides import merge_options

from .pages import PAGES, ROOT, Block, blocks, code_of, inline_commands

NOTEBOOKS = ROOT / 'notebooks'
SHELL = ('bash', 'shell', 'sh')
#: What nobody runs: output, layouts of folders, formulas, settings of other programs.
NOT_RUN = ('', 'bibtex', 'math', 'text', 'yaml')
#: Programs that others have written, which need a network, a display or a cluster.
FOREIGN = {'apt', 'pip', 'source', 'mim', 'tensorboard', 'gdal_edit.py'}
REGISTRIES = [r for r in vars(mmengine.registry).values() if isinstance(r, Registry)]
TOOL = re.compile(r'(?:tools|benchmarks)/\w+\.py')
COMMAND = re.compile(r'(?m)^\s*(?:python (?:tools|benchmarks)/|cmid-mm |tools/\w+\.sh)')


class Parsed(Exception):
    """Stands for what a tool does with its arguments."""


@pytest.fixture
def arguments_of(run, monkeypatch):
    """What a tool reads from its command line; nothing is done with it."""
    original = argparse.ArgumentParser.parse_args

    def parse_args(self, *args, **kwargs):
        raise Parsed(original(self, *args, **kwargs))

    monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', parse_args)

    def get(tool: str, arguments: list[str]) -> argparse.Namespace | None:
        try:
            code = run(f'../{tool}', *arguments)
        except Parsed as parsed:
            return parsed.args[0]
        assert code == 0 and arguments[-1] in ('-h', '--help'), code
        return None

    return get


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A user's copy of the repository, in which a page is followed."""
    shutil.copytree(ROOT / 'configs', tmp_path / 'configs')
    for name in ('tools', 'benchmarks', 'requirements', 'Makefile'):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def as_tool(words: list[str]) -> tuple[str, list[str]] | None:
    """The Python tool behind a command and its arguments, None for other programs."""
    program, *rest = words
    if program == 'python' and TOOL.fullmatch(rest[0]):
        return rest[0], rest[1:]
    if program == 'cmid-mm':
        return f'tools/{rest[0].replace("-", "_")}.py', rest[1:]
    if program in ('tools/dist_train.sh', 'tools/dist_test.sh'):
        name = program[len('tools/dist_') : -len('.sh')]
        positional = 1 if name == 'train' else 2
        assert rest[positional].isdigit()  # processes
        return f'tools/{name}.py', rest[:positional] + rest[positional + 1 :]
    if program == 'torchrun':
        start = next(i for i, word in enumerate(rest) if TOOL.fullmatch(word))
        return rest[start], rest[start + 1 :]
    if program == 'tools/slurm_train.sh':
        return 'tools/train.py', rest[2:]  # behind partition and job name
    if words == ['make', 'demo']:
        return 'tools/demo.py', ['demo']
    return None


def all_commands() -> Iterator[Any]:
    for page in PAGES:
        for block in [*blocks(page, *SHELL, 'console'), *inline_commands(page)]:
            for number, words in enumerate(block.commands):
                yield pytest.param(block, words, id=f'{block}-{number}')


@pytest.mark.parametrize(('block', 'words'), all_commands())
def test_command_is_known(block, words, arguments_of, place):
    """The tool, its options, its config and the keys of ``--cfg-options`` exist."""
    command = as_tool(words)
    if command is None:
        if words[0] == 'make':
            assert f'\n{words[1]}: ' in Path('Makefile').read_text()
        elif words[0].startswith('benchmarks/'):
            assert Path(words[0]).is_file()
        elif '-r' in words:
            assert Path(words[words.index('-r') + 1]).is_file()
        else:
            assert words[0] in FOREIGN, f'teach {Path(__file__).name} this program'
        return
    write_files(block.page)
    arguments = arguments_of(*command)
    config = getattr(arguments, 'config', None)
    if config is None or config.isupper():
        return
    try:
        cfg = load_config(config)
    except ImportError as error:
        pytest.skip(str(error))
    merge_options(cfg, getattr(arguments, 'cfg_options', None))


def printed(block: Block) -> str | None:
    """What the page says that this code prints, right behind it."""
    behind = block.line + block.text.count('\n') + 3
    texts = [text for text in blocks(block.page, 'text') if text.line == behind]
    return texts[0].text if texts else None


def python_file(block: Block) -> Path | None:
    """Where the page puts this code, by its first line."""
    return Path(block.first) if re.fullmatch(r'[\w./-]+\.py', block.first) else None


def write_files(page: Path) -> None:
    """Write the files whose content stands on a page."""
    for block in blocks(page, 'python'):
        if file := python_file(block):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text)


@pytest.fixture
def small(monkeypatch, slow):
    """Few scenes, and runs of which only two steps are computed."""
    write = cmid_mm.demo_scenes.write_demo_data

    def write_few(out, train=800, test=200, size=256, *args, **kwargs):
        few = min(train, 400 if slow else 40), min(test, 8), min(size, 128)
        return write(out, *few, *args, **kwargs)

    def only_twice(original):
        def wrapped(self, *args, **kwargs):
            done = self.__dict__.setdefault('done_in_test', [])
            if len(done) < 2:
                done.append(original(self, *args, **kwargs))
            return done[-1]

        return wrapped

    batches = mmengine.runner.loops._InfiniteDataloaderIterator
    monkeypatch.setattr(cmid_mm.demo_scenes, 'write_demo_data', write_few)
    monkeypatch.setattr(BaseModel, 'train_step', only_twice(BaseModel.train_step))
    monkeypatch.setattr(batches, '__next__', only_twice(batches.__next__))
    monkeypatch.setattr(mmengine.runner.runner, 'collect_env', dict)  # takes seconds


def runnable(page: Path, slow: bool) -> list[Block]:
    """Blocks with commands of ours, and Python code that is no file's."""
    return [
        block
        for block in blocks(page, *SHELL, 'python')
        if not block.first.startswith('needs ')
        and (slow or not block.first.startswith('takes '))
        and (
            kind_of(block) == 'code' and python_file(block) is None
            if block.language == 'python'
            else any(as_tool(words) for words in block.commands)
        )
    ]


def pages_to_run() -> Iterator[Any]:
    for page in PAGES:
        name = str(page.relative_to(ROOT))
        quick, complete = runnable(page, False), runnable(page, True)
        if quick:
            yield pytest.param(page, False, id=name)
        if complete != quick:
            yield pytest.param(page, True, id=f'{name}-slow', marks=pytest.mark.slow)


@pytest.mark.parametrize(('page', 'slow'), pages_to_run())
def test_commands_run_in_the_order_of_the_page(page, slow, run, place, small, capsys):
    pytest.importorskip('mmrotate')
    write_files(page)
    for block in runnable(page, slow):
        if block.language == 'python':
            exec(compile(block.text, str(block), 'exec'), {})
            expected = printed(block)
            assert expected is None or capsys.readouterr().out.endswith(expected)
            continue
        for words in block.commands:
            if command := as_tool(words):
                tool, arguments = command
                error = run(f'../{tool}', *arguments)
                assert not error, f'{block}: {" ".join(words)}: {error}'


@pytest.mark.parametrize(
    'page', [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES]
)
def test_every_block_is_run_or_says_why_not(page):
    """By the tests here; what they leave out has no commands of ours."""
    taken = {block.line: block for block in blocks(page, *SHELL, 'python', 'console')}
    run = {block.line for block in runnable(page, slow=True)}
    for block in code_of(page):
        if block.line not in taken:
            assert block.language in NOT_RUN, f'{block}: nobody runs {block.language}'
            assert not COMMAND.search(block.text), f'{block}: nobody runs its commands'
        elif block.language in SHELL and block.line not in run:
            ours = any(as_tool(words) for words in taken[block.line].commands)
            assert not ours or taken[block.line].first.startswith('needs '), block


def cells(notebook: Path) -> list[str]:
    """Its code."""
    read = nbformat.read(notebook, as_version=4)
    assert not any(cell.get('outputs') for cell in read.cells)  # stored without
    return [cell.source for cell in read.cells if cell.cell_type == 'code']


@pytest.mark.parametrize(
    ('name', 'figures'), [('look_at_a_run', 3), ('raster_to_map', 2)]
)
@pytest.mark.parametrize('slow', [False])
def test_notebook_runs(name, figures, slow, place, small, monkeypatch):
    """Its figures are drawn, from what its own run has left."""
    pytest.importorskip('mmseg')
    pyplot = pytest.importorskip('matplotlib.pyplot')
    pyplot.switch_backend('agg')
    namespace: dict[str, Any] = {}
    for number, code in enumerate(cells(NOTEBOOKS / f'{name}.ipynb')):
        exec(compile(code, f'{name}-{number}', 'exec'), namespace)
    drawn = [pyplot.figure(number) for number in pyplot.get_fignums()]
    pyplot.close('all')
    assert len(drawn) == figures
    assert all(ax.has_data() for figure in drawn for ax in figure.axes)


@pytest.mark.slow
@pytest.mark.parametrize('notebook', sorted(NOTEBOOKS.glob('*.ipynb')), ids=str)
def test_notebook_runs_in_a_kernel(notebook, place, monkeypatch):
    """As a user runs it, whole."""
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    read = nbformat.read(notebook, as_version=4)
    resources = {'metadata': {'path': str(place)}}
    NotebookClient(read, timeout=900, resources=resources).execute()
    shown = [out for cell in read.cells for out in cell.get('outputs', ())]
    assert any('image/png' in out.get('data', ()) for out in shown)
    # Pages of environment and config are for the log file.
    assert not any('System environment' in out.get('text', '') for out in shown)


def python_blocks(kind: str) -> list[Any]:
    return [
        pytest.param(block, id=str(block))
        for page in PAGES
        for block in blocks(page, 'python')
        if kind_of(block) == kind
    ]


def kind_of(block: Block) -> str:
    if re.search(r'^(import|from) ', block.text, re.MULTILINE):
        return 'code'
    return 'config' if '_base_ =' in block.text else 'fragment'


@pytest.mark.parametrize('block', python_blocks('config'))
def test_config_on_a_page_loads(block, place, monkeypatch):
    write_files(block.page)
    beside = 'configs/cmid' if block.page.parent.name == 'docs' else None
    folder = Path(beside or block.page.parent.relative_to(ROOT))
    file = python_file(block) or folder / 'on_the_page.py'
    file.write_text(block.text)
    monkeypatch.syspath_prepend(place)
    cfg = load_config(str(file))
    assert_types_exist(block, cfg.default_scope)


@pytest.mark.parametrize('block', python_blocks('fragment'))
def test_part_of_a_config_on_a_page_is_one(block):
    namespace: dict[str, Any] = {}
    exec(block.text, namespace)
    settings = {k: v for k, v in namespace.items() if not k.startswith('__')}
    assert Config(settings)
    assert_types_exist(block, 'mmpretrain')


def assert_types_exist(block: Block, scope: str) -> None:
    """Every type that the block names is registered somewhere."""
    names = set(re.findall(r"\btype='([\w.]+)'", block.text))
    for registry in REGISTRIES:
        with registry.switch_scope_and_registry(scope) as found:
            names = {name for name in names if found.get(name) is None}
    assert not names


@pytest.mark.parametrize(
    'block',
    [case for case in python_blocks('code') if python_file(case.values[0])],
)
def test_code_of_a_file_on_a_page_runs(block, place, monkeypatch):
    write_files(block.page)
    file = python_file(block)
    if file.name.startswith('test_'):
        assert pytest.main(['-q', '-p', 'no:cacheprovider', str(file)]) == 0
    else:
        monkeypatch.syspath_prepend(place)
        assert importlib.import_module(file.stem)  # registers, so once


@pytest.mark.parametrize(
    'block',
    [case for case in python_blocks('code') if case.values[0].first[:6] == 'needs '],
)
def test_code_that_needs_more_than_a_test_has_compiles(block):
    """Its imports are there."""
    tree = ast.parse(block.text)
    imports = [
        part for part in tree.body if isinstance(part, ast.Import | ast.ImportFrom)
    ]
    exec(compile(ast.Module(imports, []), str(block), 'exec'), {})
    assert len(imports) < len(tree.body)
