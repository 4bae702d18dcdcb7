# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Data that fail while a run goes on."""

import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS
from mmengine.runner import Runner

from cmid_mm.being_read import being_read
from cmid_mm.datasets.imagery import TooManyUnreadableError
from cmid_mm.engine import data_faults
from cmid_mm.engine.data_faults import saved_on_data_fault
from cmid_mm.explaining import explain
from cmid_mm.waiting import waiting_ends
from cmid_mm_cli import user_errors
from tests.end_to_end.pretraining import toy_run, train, write_images
from tests.end_to_end.test_resume import assert_same
from tests.faults import forked
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


@contextmanager
def started(images, work_dir, **changes):
    """``tools/train.py`` with two workers, in a process of its own."""
    changes = {
        'train_dataloader.num_workers': 2,
        # One that is stopped as its epoch ends would be replaced by a new one.
        'train_dataloader.persistent_workers': True,
        'custom_imports': dict(imports=['cmid_mm']),
        'train_cfg.max_epochs': 3000,
        **changes,
    }
    cfg = toy_run(images, work_dir, **changes)
    work_dir.mkdir()
    cfg.dump(work_dir / 'config.py')
    tool = Path(__file__).parents[2] / 'tools' / 'train.py'
    with subprocess.Popen(
        [sys.executable, tool, work_dir / 'config.py', '--work-dir', work_dir],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            # What hangs; workers that are left hold the pipe open.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def worker_of(process, work_dir):
    """A worker of a run that has begun to train."""
    while not list(work_dir.glob('iter_*.pth')):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    children = Path(f'/proc/{process.pid}/task/{process.pid}/children')
    return int(children.read_text().split()[-1])


def assert_saved(work_dir):
    """A checkpoint is there besides those that a run saves now and then."""
    (log,) = work_dir.glob('*/*.log')
    (path,) = re.findall(r'The data failed after .* saved (\S+)\.', log.read_text())
    assert (work_dir / 'last_checkpoint').read_text() == path
    assert Path(path).is_file()


@fault(
    PART,
    'a worker that is stopped, as one whose storage stalls',
    'after timeout (here 5 s, by default 600 s) the run saves a checkpoint, names '
    'worker and file, ends the workers and itself with status 1',
)
def test_stopped_worker(straight, tmp_path):
    images, _ = straight
    work_dir = tmp_path / 'run'
    with started(images, work_dir, **{'train_dataloader.timeout': 5}) as process:
        worker = worker_of(process, work_dir)
        os.kill(worker, signal.SIGSTOP)
        _, told = process.communicate(timeout=300)
    assert process.returncode == 1
    assert 'no data came from the workers of a data loader for 5 seconds' in told
    assert f'(process {worker}) is stopped' in told and '.png' in told
    assert 'Traceback' not in told.splitlines()[-1]
    assert not Path(f'/proc/{worker}').exists()
    assert_saved(work_dir)


@fault(
    PART,
    'a worker that is stopped when it has done its last work',
    'the run ends with status 0; the worker with it',
)
def test_worker_stopped_at_the_end(straight, tmp_path):
    images, _ = straight

    def run():
        cfg = toy_run(images, tmp_path / 'run', **{'train_dataloader.num_workers': 2})
        runner = Runner.from_cfg(cfg)
        train_step = runner.model.train_step

        def stop_and_step(*args, **kwargs):
            if runner.iter == 14:
                worker = multiprocessing.active_children()[0]
                os.kill(worker.pid, signal.SIGSTOP)
                print('stopped', worker.pid)
            return train_step(*args, **kwargs)

        runner.model.train_step = stop_and_step
        user_errors(runner.train)()

    process = forked.start(run, log=tmp_path / 'log')
    process.join(60)
    process.kill()
    told = (tmp_path / 'log').read_text()
    assert process.exitcode == 0, told
    worker = re.search(r'stopped (\d+)', told)[1]
    assert not Path(f'/proc/{worker}').exists()


@TRANSFORMS.register_module()
class StallAt(BaseTransform):
    """The storage stalls at the n-th image, where no signal is heard any more."""

    def __init__(self, left: int) -> None:
        self.left = left

    def transform(self, results):
        self.left -= 1
        with being_read(results['img_path']):
            if self.left == 0:
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
                time.sleep(600)
        return results


@fault(
    PART,
    'storage that stalls while the training itself reads (num_workers=0)',
    'when a file has taken too long (here 2 s, by default 600 s) the run saves a '
    'checkpoint, names the file, and ends with status 1; resumed, it ends '
    'bit-identical to a straight run',
)
def test_stalled_storage_without_workers(straight, tmp_path, monkeypatch):
    images, expected = straight
    work_dir = tmp_path / 'run'
    monkeypatch.setattr(
        data_faults, 'waiting_ends', partial(waiting_ends, without_workers=2)
    )

    def run():
        cfg = toy_run(images, work_dir)
        cfg.train_dataloader.dataset.pipeline.insert(0, dict(type='StallAt', left=14))
        cfg.experiment_name = 'stalls'
        runner = Runner.from_cfg(cfg)
        with saved_on_data_fault(runner):
            runner.train()

    process = forked.start(run, log=tmp_path / 'log')
    process.join(120)
    process.kill()
    told = (tmp_path / 'log').read_text()
    assert process.exitcode == 1, told
    assert '.png is being read for 2 seconds' in told
    saved = work_dir / 'iter_6.pth'
    assert (work_dir / 'last_checkpoint').read_text() == str(saved)
    assert f'failed after 6 iterations; saved {saved}.' in told
    train(toy_run(images, work_dir, resume=True, load_from=str(saved)))
    assert_same(work_dir / 'iter_14.pth', expected)


@fault(
    PART,
    'a worker of the training command killed',
    'a checkpoint is saved; one message with worker, signal, file and advice; status 1',
)
def test_killed_worker_of_the_command(straight, tmp_path):
    images, _ = straight
    work_dir = tmp_path / 'run'
    with started(images, work_dir) as process:
        worker = worker_of(process, work_dir)
        os.kill(worker, signal.SIGKILL)
        _, told = process.communicate(timeout=300)
    assert process.returncode == 1, told
    lines = [line for line in told.splitlines() if line.startswith('error: ')]
    assert len(lines) == 1, told
    (line,) = lines
    assert f'(process {worker}) was killed by SIGKILL' in line
    assert '.png' in line and 'out of memory' in line
    assert_saved(work_dir)


@fault(
    PART,
    'images deleted, cut off, made unreadable or empty while training, fewer than '
    'max_unreadable',
    'reported once each, counted, listed in unreadable.txt; training goes on',
)
@pytest.mark.parametrize('way', ['deleted', 'cut off', 'folder instead', 'empty'])
def test_images_that_fail_are_skipped(tmp_path, way):
    images = write_images(tmp_path / 'images')
    changes = {'train_dataloader.dataset.max_unreadable': 0.2}

    def fail():
        for name in ('003.png', '007.png'):
            path = images / name
            content = path.read_bytes()
            path.unlink()
            if way == 'folder instead':
                path.mkdir()
            elif way != 'deleted':
                path.write_bytes(content[: 100 if way == 'cut off' else 0])

    run_until_data_fail(images, tmp_path / 'run', fail, **changes)
    listed = (tmp_path / 'run' / 'unreadable.txt').read_text().split()
    assert [Path(path).name for path in listed] == ['003.png', '007.png']
    assert (tmp_path / 'run' / 'iter_14.pth').is_file()
