# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import io
from pathlib import Path

import pytest

from cmid_mm.inference import progress
from cmid_mm.inference.progress import ShownProgress


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only when told."""

    class Clock:
        now = 1000.0

    monkeypatch.setattr(progress.time, 'monotonic', lambda: Clock.now)
    return Clock


def lines(stream):
    return stream.getvalue().splitlines()


def test_nothing_is_said_of_seconds(clock):
    stream = io.StringIO()
    with ShownProgress(stream=stream) as shown:
        shown.start(2)
        for name in 'ab':
            shown.begin(Path(f'{name}.tif'), 40, 0)
            for _ in range(40):
                clock.now += 0.1
                shown.advance(1)
            shown.finish()
    assert stream.getvalue() == ''


def test_lines_with_windows_and_time_left(clock):
    stream = io.StringIO()
    with ShownProgress(stream=stream) as shown:
        shown.start(2)
        shown.begin(Path('x/a.tif'), 100, 0)
        for _ in range(25):  # 2 seconds a window: half of the time is 200 s
            clock.now += 2
            shown.advance(1)
    # After 10 seconds, then every 30.
    assert lines(stream) == [
        'predicting: 0 of 2 images, a.tif: 5 of 100 windows, 0:06:30 left',
        'predicting: 0 of 2 images, a.tif: 20 of 100 windows, 0:06:00 left',
    ]


def test_what_was_done_before_says_nothing_of_the_speed(clock):
    stream = io.StringIO()
    with ShownProgress('shard 2/3', stream) as shown:
        shown.start(2)
        shown.finish(is_new=False)
        shown.begin(Path('a.tif'), 100, 50)
        for _ in range(10):
            clock.now += 1
            shown.advance(1)
    assert lines(stream) == [
        'shard 2/3: 1 of 2 images, a.tif: 60 of 100 windows, 0:00:40 left'
    ]


def test_lines_of_a_long_run_come_far_apart(clock):
    stream = io.StringIO()
    with ShownProgress(stream=stream) as shown:
        shown.start(1)
        shown.begin(Path('a.tif'), 86400, 0)
        for _ in range(86400):  # a day
            clock.now += 1
            shown.advance(1)
    assert 20 < len(lines(stream)) < 200


def test_a_bar_on_a_terminal(clock, monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(stream, 'isatty', lambda: True)
    with ShownProgress(stream=stream) as shown:
        shown.start(2)
        shown.begin(Path('a.tif'), 10, 0)
        clock.now += 10
        shown.advance(5)
    assert 'a.tif: 5 of 10 windows, 0:00:30 left' in stream.getvalue()
