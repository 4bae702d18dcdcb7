# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import pytest

from tests.faults.rows import END, START, Row, replace_rows


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
