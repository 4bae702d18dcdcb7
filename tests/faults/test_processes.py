# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Runs of several processes, of which one dies or is told to stop."""

import signal

import pytest

from tests.end_to_end.pretraining import write_images
from tests.end_to_end.test_resume import assert_same
from tests.faults.rows import fault
from tests.faults.runs import Processes

PART = 'Several processes'


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return str(write_images(tmp_path_factory.mktemp('images'), count=12))


@pytest.fixture(scope='module')
def whole(images, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('whole')
    assert Processes(work_dir, images, 2).statuses() == [0, 0]
    return work_dir / 'epoch_3.pth'


@pytest.mark.parametrize('told', [[0], [1], [0, 1]])
@fault(
    PART,
    'SIGTERM to one of two processes, or to both',
    'all of it saved within an iteration, statuses 75 and 0; resumed, the run ends '
    'bit for bit as if it had not been stopped',
)
def test_a_signal_to_one_process_stops_all(told, images, whole, tmp_path):
    run = Processes(tmp_path, images, 2, dict(seconds=0.5))
    run.wait_for_iteration(4)
    run.send(signal.SIGTERM, *told)
    assert run.statuses() == [75, 0], run.outputs()
    assert 'Traceback' not in run.outputs()
    assert len(list(tmp_path.glob('iter_*.pth'))) == 1
    assert Processes(tmp_path, images, 2).statuses() == [0, 0]
    assert_same(tmp_path / 'epoch_3.pth', whole)


@pytest.mark.parametrize('dying', [0, 1])
@fault(
    PART,
    'SIGKILL to one of two processes',
    'the other ends within 20 seconds with status 1 and the name of the first',
)
def test_a_killed_process_ends_the_other(dying, images, tmp_path):
    run = Processes(tmp_path, images, 2, dict(seconds=0.5))
    run.wait_for_iteration(2)
    run.send(signal.SIGKILL, dying)
    statuses = run.statuses(20)
    assert statuses[dying] == -signal.SIGKILL and statuses[1 - dying] == 1
    assert f'error: process {dying}' in run.output(1 - dying)


@fault(
    PART,
    'out of memory or another error in one of two processes',
    'the other ends within 30 seconds with status 1 and the name of the first',
)
def test_an_error_in_one_process_ends_the_other(images, tmp_path):
    run = Processes(tmp_path, images, 2, dict(raises_in=(1, 3)))
    run.wait_for_iteration(2)
    assert run.statuses(30) == [1, 1]
    assert 'MemoryError' in run.output(1)
    assert 'error: process 1' in run.output(0)
