# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Data that fail while a run goes on."""

import multiprocessing
import os
import shutil
import signal

import pytest
from mmengine.runner import Runner

from cmid_mm.datasets.imagery import TooManyUnreadableError
from cmid_mm.engine.data_faults import saved_on_data_fault
from cmid_mm.explaining import explain
from tests.end_to_end.pretraining import toy_run, train, write_images
from tests.end_to_end.test_resume import assert_same
from tests.faults.rows import fault

PART = 'Data'


def run_until_data_fail(images, work_dir, fail, **changes):
    """A training whose data fail in its seventh iteration."""
    cfg = toy_run(images, work_dir, **changes)
    cfg.experiment_name = f'{work_dir.name}-fails'
    runner = Runner.from_cfg(cfg)
    train_step = runner.model.train_step

    def fail_and_step(*args, **kwargs):
        if runner.iter == 6:
            fail()
        return train_step(*args, **kwargs)

    runner.model.train_step = fail_and_step
    with saved_on_data_fault(runner):
        runner.train()


def kill_a_worker():
    worker = multiprocessing.active_children()[0]
    os.kill(worker.pid, signal.SIGKILL)
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)


@pytest.fixture(scope='module')
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp('straight')
    images = write_images(folder / 'images')
    train(toy_run(images, folder / 'run'))
    return images, folder / 'run' / 'iter_14.pth'


@fault(
    PART,
    'a worker of the data loader killed (as when memory is full) in the middle of an '
    'iteration',
    'the iteration ends, a checkpoint is saved, the run ends with status 1 and worker, '
    'signal, file and advice; resumed, it ends bit-identical to a straight run',
)
def test_run_goes_on_bit_identically_after_a_worker_was_killed(straight, tmp_path):
    images, expected = straight
    workers = {'train_dataloader.num_workers': 2, 'train_dataloader.timeout': 60}
    with pytest.raises(RuntimeError) as caught:
        run_until_data_fail(images, tmp_path, kill_a_worker, **workers)
    assert 'was killed by SIGKILL' in explain(caught.value)
    saved = tmp_path / 'iter_7.pth'
    assert (tmp_path / 'last_checkpoint').read_text() == str(saved)
    train(toy_run(images, tmp_path, resume=True, load_from=str(saved)))
    assert_same(tmp_path / 'iter_14.pth', expected)


@fault(
    PART,
    'folder of the images unmounted while training',
    'above max_unreadable the run ends with the names, a checkpoint saved; resumed '
    'with the folder back, it ends bit-identical to a straight run',
)
def test_run_goes_on_bit_identically_after_its_folder_was_away(straight, tmp_path):
    images, expected = straight
    mine = tmp_path / 'images'
    shutil.copytree(images, mine)
    with pytest.raises(TooManyUnreadableError, match=r'(?s)2 of 10 .*/00\d\.png'):
        run_until_data_fail(
            mine, tmp_path / 'run', lambda: mine.rename(tmp_path / 'away')
        )
    (tmp_path / 'away').rename(mine)
    saved = tmp_path / 'run' / 'iter_7.pth'
    resume = dict(resume=True, load_from=str(saved))
    train(toy_run(mine, tmp_path / 'run', **resume))
    assert_same(tmp_path / 'run/iter_14.pth', expected)
