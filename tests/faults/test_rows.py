# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from tests.faults.rows import END, START, Row, replace_rows

pytest_plugins = ['pytester']

TESTS = """
    import pytest
    from tests.faults.rows import fault

    @pytest.mark.parametrize('case', range(4))
    @fault('Disk', 'full', 'said')
    def test_cases(case):
        pass

    @fault('Checkpoints', 'killed', 'resumed')
    def test_tries(record_property):
        record_property('tries', 7)

    @fault('Disk', 'gone', 'said')
    def test_last():
        {last}
"""
ROWS = '| full | 4 | said |', '| gone | 1 | said |', '| killed | 7 | resumed |'
SIDE_BY_SIDE = ('-p', 'xdist', '-n', '2', '--dist', 'worksteal')


@pytest.mark.parametrize(
    ('last', 'rows', 'options'),
    [
        ('pass', ROWS, ()),
        ('pass', ROWS, SIDE_BY_SIDE),
        ('assert False', (), SIDE_BY_SIDE),
        ('pytest.skip()', (), ()),
    ],
)
def test_page_is_written_if_all_passed(pytester, monkeypatch, last, rows, options):
    monkeypatch.setenv('PYTHONPATH', str(Path(__file__).parents[2]))
    monkeypatch.setenv('PYTEST_DISABLE_PLUGIN_AUTOLOAD', '1')
    pytester.makeconftest('from tests.faults.conftest import *')
    pytester.makepyfile(TESTS.format(last=last))
    page = pytester.path / 'page.md'
    page.write_text(f'{START}\n{END}\n')
    pytester.runpytest_subprocess('-m', 'faults', '--reliability', page, *options)
    lines = page.read_text().splitlines()
    assert tuple(line for line in lines if line.endswith(('said |', 'med |'))) == rows


def test_rows_stand_between_the_marks(tmp_path):
    page = tmp_path / 'page.md'
    page.write_text(f'Before.\n{START}\nold\n{END}\nAfter.\n')
    killed = Row('Checkpoints', 'killed while writing', 'the one before is taken')
    full = Row('Disk', 'full', 'said and counted')
    replace_rows(page, {killed: 7, full: 1})
    text = page.read_text()
    assert text.startswith('Before.\n') and text.endswith('After.\n')
    assert 'old' not in text
    assert '| killed while writing | 7 | the one before is taken |' in text
    assert text.index('### Checkpoints') < text.index('### Disk')


def test_page_without_marks_is_refused(tmp_path):
    page = tmp_path / 'page.md'
    page.write_text('text')
    with pytest.raises(ValueError, match='page.md'):
        replace_rows(page, {})
