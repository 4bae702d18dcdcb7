# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest

import cmid_mm_cli
from cmid_mm.checkpoints import EXPORT_LAYOUTS
from cmid_mm.demo_scenes import RASTERS, TASKS
from cmid_mm.preparation import PREPARATIONS

ROOT = Path(__file__).parents[2]
TOOLS = {path.stem for path in (ROOT / 'tools').glob('*.py')}


def python(*arguments, **environment):
    """Run Python in a process of its own; returns what it prints."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def command(monkeypatch):
    """Run a command in this process; returns what it exits with."""

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['cmid-mm', *map(str, arguments)])
        try:
            cmid_mm_cli.main()
        except SystemExit as stop:
            return stop.code
        return None

    return run


def test_every_tool_is_a_command():
    names = set(cmid_mm_cli.load_commands())
    assert names == {name.replace('_', '-') for name in TOOLS} and len(names) >= 14


HELP = """
import sys
import cmid_mm_cli
for arguments in [[], *([name] for name in cmid_mm_cli.load_commands())]:
    sys.argv = ['cmid-mm', *arguments, '-h']
    try:
        cmid_mm_cli.main()
    except SystemExit as stop:
        assert stop.code == 0
heavy = ('torch', 'mmengine', 'cmid_mm', 'numpy', 'cv2')
print('imported:', [name for name in heavy if name in sys.modules])
"""


def test_help_imports_nothing_heavy():
    text = python('-c', HELP)
    assert text.endswith('imported: []\n')
    for name in TOOLS:
        assert f'usage: cmid-mm {name.replace("_", "-")} [-h]' in text
    # Examples are commands as the reader came to them.
    assert 'example: cmid-mm train configs/' in text and 'tools/' not in text


def test_scripts_name_themselves(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['tools/train.py', '-h'])
    with pytest.raises(SystemExit):
        cmid_mm_cli.run_tool(cmid_mm_cli.load_commands()['train'])
    assert 'example: python tools/train.py configs/' in capsys.readouterr().out


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGUSR1])
def test_a_run_takes_signals_before_it_reads_its_arguments(number, monkeypatch, capsys):
    assert cmid_mm_cli.load_commands()['train'].saves_on_signals
    before = signal.getsignal(number)
    command = cmid_mm_cli.Command(
        'Runs.',
        lambda parser: parser.add_argument(
            'config', type=lambda _: os.kill(me, number)
        ),
        lambda args: None,
        saves_on_signals=True,
    )
    me = os.getpid()
    monkeypatch.setattr(cmid_mm_cli.commands, 'load_commands', lambda: {'run': command})
    for start, words in (
        (lambda: cmid_mm_cli.run_tool(command), ['run.py', 'a.py']),
        (cmid_mm_cli.main, ['cmid-mm', 'run', 'a.py']),
    ):
        monkeypatch.setattr(sys, 'argv', words)
        with pytest.raises(SystemExit) as caught:
            start()
        assert caught.value.code == 75
        assert f'Stopped by {number.name} before training' in capsys.readouterr().err
        assert signal.getsignal(number) is before


def test_command_does_what_the_tool_does(command, tmp_path, capsys):
    for index in range(4):
        file = tmp_path / 'beach' / f'{index}.png'
        file.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(file), np.zeros((4, 4, 3), np.uint8))
    assert command('split-dataset', tmp_path, '--train-ratio', '0.5') is None
    assert 'train.txt: 2 images' in capsys.readouterr().out
    # What is wrong is told as by the tool.
    error = command('split-dataset', tmp_path)
    assert error.startswith('error: ') and 'train.txt exists' in error
    assert command('splitdataset') == 2


@pytest.mark.parametrize(
    ('tool', 'constant', 'expected'),
    [
        ('export_backbone', 'LAYOUTS', EXPORT_LAYOUTS),
        ('publish', 'LAYOUTS', EXPORT_LAYOUTS),
        ('make_demo_data', 'TASKS', TASKS),
        ('make_demo_data', 'RASTERS', RASTERS),
        ('prepare_data', 'DATASETS', PREPARATIONS),
    ],
)
def test_choices_are_those_of_the_library(tool, constant, expected):
    main = cmid_mm_cli.load_commands()[tool.replace('_', '-')].main
    assert list(main.__globals__[constant]) == list(expected)


def test_each_data_set_has_its_help(command, capsys):
    assert command('prepare-data', 'potsdam', '-h') == 0
    text = capsys.readouterr().out
    assert 'usage: cmid-mm prepare-data potsdam [-h]' in text and '--tile-size' in text
    assert command('prepare-data', 'potsdam') == 2
    assert 'arguments are required: SRC' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('line', 'expected'),
    [
        ('cmid-mm pre', {'predict', 'prepare-data'}),
        ('cmid-mm train --w', {'--work-dir'}),
        ('cmid-mm prepare-data lev', {'levir-cd'}),
        # Not the values of the options that are there.
        ('cmid-mm train a.py --cfg-options x=1 --resu', {'--resume'}),
    ],
)
def test_completion(line, expected, tmp_path):
    pytest.importorskip('argcomplete')
    out = tmp_path / 'out'
    python(
        *('-c', 'import cmid_mm_cli; cmid_mm_cli.main()'),
        COMP_LINE=line,
        COMP_POINT=str(len(line)),
        _ARGCOMPLETE='1',
        _ARGCOMPLETE_IFS='\n',
        _ARGCOMPLETE_STDOUT_FILENAME=str(out),
    )
    assert {word.strip() for word in out.read_text().splitlines()} == expected


@pytest.mark.parametrize(
    ('module', 'category', 'message', 'shown'),
    [
        ('mmengine.runner.amp', FutureWarning, 'torch.cuda.amp.x is deprecated', False),
        ('mmcv', UserWarning, 'pkg_resources\nis deprecated', False),
        ('mmseg.models.losses', UserWarning, 'Default ``avg_non_ignore`` is', False),
        ('mmseg.engine.hooks', UserWarning, 'The draw is False, it means', False),
        ('mmseg.models', UserWarning, 'no labels', True),
        ('cmid_mm.models', FutureWarning, 'x is deprecated', True),
        ('mmengine_of_mine', FutureWarning, 'x is deprecated', True),
    ],
)
def test_deprecations_in_other_packages_are_hidden(module, category, message, shown):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        cmid_mm_cli.commands.hide_deprecations()
        warnings.warn_explicit(message, category, 'file.py', 1, module)
    assert bool(caught) == shown
