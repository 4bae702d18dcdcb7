# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import argparse
import sys

import pytest
from mmengine.logging import MMLogger

from cmid_mm_cli import TRACEBACK_VARIABLE, add_run_arguments, user_errors


@pytest.mark.parametrize(
    ('error', 'text'),
    [
        (FileNotFoundError('images/x is missing'), 'images/x is missing'),
        (KeyError('no such key'), 'no such key'),
        (
            ValueError(
                'Caught ValueError in DataLoader worker process 0.\nOriginal Traceback '
                '(most recent call last):\n  File "x"\nValueError: a.tif has 4 bands'
            ),
            'a.tif has 4 bands',
        ),
    ],
)
def test_user_errors_are_one_line(error, text, monkeypatch):
    @user_errors
    def main():
        raise error

    with pytest.raises(SystemExit) as caught:
        main()
    assert str(caught.value).startswith(f'error: {text} (')
    monkeypatch.setenv(TRACEBACK_VARIABLE, '1')
    with pytest.raises(type(error)):
        main()


def test_the_error_is_one_line_where_the_package_cannot_be_imported(monkeypatch):
    """As without mmengine, which the functions that explain errors need."""
    monkeypatch.setitem(sys.modules, 'cmid_mm.explaining', None)

    @user_errors
    def main():
        raise ImportError('cmid_mm needs mmengine')

    with pytest.raises(SystemExit, match='^error: cmid_mm needs mmengine .CMID_MM_TR'):
        main()


@pytest.mark.parametrize(
    ('request_to_end', 'status'), [(KeyboardInterrupt(), 130), (SystemExit(75), 75)]
)
def test_a_request_to_end_is_no_error(request_to_end, status, capsys):
    """mmengine has a bare ``except:`` around the formatting of configs."""

    @user_errors
    def main():
        try:
            raise request_to_end
        except:  # noqa: E722
            raise SyntaxError('Failed to format the config')  # noqa: B904

    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == status
    assert 'format' not in capsys.readouterr().err


def test_config_options_are_read_as_mmengine_does(capsys):
    parser = argparse.ArgumentParser()
    add_run_arguments(parser)
    given = ['--cfg-options', 'a.b=3', 'c=[1,2]', 'd=x=y', 'e=None']
    args = parser.parse_args(given)
    assert args.cfg_options == {'a.b': 3, 'c': [1, 2], 'd': 'x=y', 'e': None}
    with pytest.raises(SystemExit):
        parser.parse_args(['--cfg-options', 'a.b=3', 'work'])
    assert "--cfg-options takes KEY=VALUE ..., got 'work'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parser.parse_args(['--cfg-options', '=3'])
    assert "--cfg-options takes KEY=VALUE ..., got '=3'" in capsys.readouterr().err


def test_config_options_without_mmengine_say_what_to_install(monkeypatch):
    """Arguments are read before anything else that needs it."""
    for name in ('mmengine', 'mmengine.config'):
        monkeypatch.setitem(sys.modules, name, None)
    parser = argparse.ArgumentParser()
    add_run_arguments(parser)
    with pytest.raises(SystemExit, match="^error: cmid_mm needs mmengine.*'cmid_mm.mm"):
        parser.parse_args(['--cfg-options', 'a.b=3'])


def test_the_traceback_is_in_the_log_of_the_run(tmp_path):
    log = tmp_path / 'run.log'
    MMLogger.get_instance('failing', log_file=str(log))

    @user_errors
    def main():
        raise ValueError('no such thing')

    with pytest.raises(SystemExit, match=rf'no such thing \({log} says where\)'):
        main()
    MMLogger._instance_dict.clear()
    text = log.read_text()
    assert 'Traceback (most recent call last)' in text and 'in main' in text


def test_ctrl_c_ends_a_command_with_one_line(capsys):
    def main():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as caught:
        user_errors(main, 'the same command goes on')()
    assert caught.value.code == 130
    assert capsys.readouterr().err == 'Interrupted; the same command goes on.\n'
    with pytest.raises(SystemExit):
        user_errors(main)()
    assert capsys.readouterr().err == 'Interrupted.\n'
