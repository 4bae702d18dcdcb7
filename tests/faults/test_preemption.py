# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Runs that are told by a signal to end."""

import random
import signal
import time

import pytest

from tests.end_to_end.pretraining import write_images
from tests.end_to_end.test_resume import assert_same
from tests.faults.rows import fault
from tests.faults.runs import Processes

PART = 'Signals'
WORKERS = {
    'train_dataloader.num_workers': 2,
    'train_dataloader.persistent_workers': True,
}


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return str(write_images(tmp_path_factory.mktemp('images')))


@pytest.mark.parametrize('seed', [0, 1])
@fault(
    PART,
    'SIGTERM or SIGUSR1 to a run and its data-loading workers, at random moments',
    'saved within an iteration, status 75, one line and no traceback; resumed each '
    'time, the run ends bit for bit as if it had not been stopped',
)
def test_stopped_again_and_again(seed, images, tmp_path, record_property):
    straight, stopped = tmp_path / 'straight', tmp_path / 'stopped'
    straight.mkdir()
    stopped.mkdir()
    assert Processes(straight, images).statuses() == [0]
    rng = random.Random(seed)
    tries, done = 0, 0
    while done < 11:
        run = Processes(stopped, images, 1, dict(seconds=0.2), **WORKERS)
        run.wait_for_iteration(done + rng.randint(2, 4))
        time.sleep(rng.uniform(0, 0.4))
        run.send_to_group(rng.choice([signal.SIGTERM, signal.SIGUSR1]))
        assert run.statuses(120) == [75], run.outputs()
        assert run.output().count('goes on from there') == 1
        assert 'Traceback' not in run.output()
        done = int((stopped / 'last_checkpoint').read_text().split('_')[-1][:-4])
        assert f'finished {done}\n' in run.output()
        assert f'finished {done + 1}\n' not in run.output()
        tries += 1
    assert Processes(stopped, images, **WORKERS).statuses() == [0]
    assert_same(stopped / 'epoch_3.pth', straight / 'epoch_3.pth')
    record_property('tries', tries)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
@fault(
    PART,
    'SIGTERM or Ctrl-C while an image does not arrive',
    'saved at once, status 75 (Ctrl-C: 130)',
)
def test_a_stop_while_data_are_waited_for(number, images, tmp_path):
    run = Processes(tmp_path, images, 1, dict(hangs_at=5))
    run.wait_until(lambda: 'hangs\n' in run.output())
    run.send(number, 0)
    assert run.statuses(120) == [130 if number == signal.SIGINT else 75]
    assert (tmp_path / 'iter_2.pth').is_file()


@fault(PART, 'Ctrl-C twice', 'ends at once, status 130 from the tools; nothing saved')
def test_ctrl_c_twice(images, tmp_path):
    run = Processes(tmp_path, images, 1, dict(seconds=60))
    run.wait_until(lambda: 'begun 0\n' in run.output())
    run.send(signal.SIGINT, 0)
    run.wait_until(lambda: 'Ctrl-C again' in run.output())
    run.send(signal.SIGINT, 0)
    run.statuses(50)
    assert 'KeyboardInterrupt' in run.output()
    assert not list(tmp_path.glob('*.pth'))
