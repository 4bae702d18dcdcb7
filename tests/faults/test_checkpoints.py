# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What happens to a run when its checkpoints are damaged or cannot be written."""

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from cmid_mm.checkpoints import read_checkpoint
from cmid_mm.checkpoints.damage import damaged_entry
from cmid_mm.checkpoints.openmmlab import register_loaders
from cmid_mm.engine import checkpoint_writer, launch
from cmid_mm.engine.fault_tolerant_runner import FaultTolerantRunner
from cmid_mm.engine.hooks import (
    LogHistoryHook,
    VerifiedCheckpointHook,
    verified_checkpoint_hook,
)
from cmid_mm.engine.start import read_start
from tests.end_to_end.pretraining import toy_run, write_images
from tests.engine.damage import DAMAGES
from tests.engine.hooks import test_verified_checkpoint_hook as tiny
from tests.faults.forked import die, start
from tests.faults.rows import fault
from tests.full_disk import full_disk

PART = 'Checkpoints'
#: Iterations of a run, and of the last but one checkpoint.
END, BEFORE = 15, 14


def train(images: Path, work_dir: Path, *hooks: Hook, **changes) -> None:
    """What tools/train.py --resume does with the tiny run."""
    cfg = toy_run(images, work_dir, **changes)
    cfg.default_hooks.checkpoint = dict(
        type='CheckpointHook', by_epoch=False, interval=2, max_keep_ckpts=1
    )
    cfg.log_level = 'INFO'
    cfg.experiment_name = f'{work_dir.name}-{time.time_ns()}'
    launch.set_resume(cfg, 'auto')
    register_loaders(read := {})
    runner = FaultTolerantRunner.from_cfg(cfg)
    for hook in hooks:
        runner.register_hook(hook)
    read |= read_start(runner)
    runner.train()


def finish(images: Path, work_dir: Path, *hooks: Hook) -> str:
    """Let a run go on to its end; what it says."""
    log = work_dir / 'said at the end'
    process = start(train, images, work_dir, *hooks, log=log)
    process.join()
    assert process.exitcode == 0, log.read_text()
    return log.read_text()


def state_of(work_dir: Path, step: int = END) -> dict[str, torch.Tensor]:
    """Everything that training goes on from: weights, queue, optimizer."""
    checkpoint = read_checkpoint(work_dir / f'iter_{step}.pth')
    state = dict(checkpoint['state_dict'])
    for index, moments in checkpoint['optimizer']['state'].items():
        state |= {
            f'{index}.{name}': torch.as_tensor(value) for name, value in moments.items()
        }
    return state


def assert_equal(work_dir: Path, straight: Path) -> None:
    got, expected = state_of(work_dir), state_of(straight)
    assert got.keys() == expected.keys()
    assert [n for n in got if not torch.equal(got[n], expected[n])] == []


class AtIteration(Hook):
    """Does something before an iteration, and something else before another.

    What was saved until then is on the disk.
    """

    def __init__(self, **actions):
        self.actions = {int(name[1:]): action for name, action in actions.items()}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if action := self.actions.get(runner.iter):
            for hook in runner.hooks:
                if isinstance(hook, VerifiedCheckpointHook):
                    hook.finish_writing()
            action()


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp('images'))


@pytest.fixture(scope='module')
def straight(images, tmp_path_factory):
    """The folder of a run that nothing happened to, beside what it was in the midst."""
    folder = tmp_path_factory.mktemp('runs') / 'straight'
    folder.mkdir()
    midst = folder.with_name('midst')
    finish(images, folder, AtIteration(_9=lambda: shutil.copytree(folder, midst)))
    return folder


@pytest.fixture
def run(straight, tmp_path):
    """A copy of the run."""
    return copied(straight, tmp_path)


@pytest.fixture
def begun(straight, tmp_path):
    """A copy of the run when it had done 9 iterations, 8 of them saved."""
    return copied(straight.with_name('midst'), tmp_path)


def copied(folder: Path, place: Path) -> Path:
    copy = Path(shutil.copytree(folder, place / 'run'))
    latest = Path((copy / 'last_checkpoint').read_text()).name
    (copy / 'last_checkpoint').write_text(str(copy / latest))
    return copy


def checkpoints(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.glob('*.pth*'))


@fault(
    PART,
    'SIGKILL at random moments, then `--resume`',
    'bit for bit the run that was not killed',
)
def test_killed_at_random(images, straight, tmp_path, record_property):
    moments, kills = random.Random(0), 0
    while kills < 7:
        process = start(train, images, tmp_path, log=tmp_path / 'said')
        deadline = time.monotonic() + 60
        latest = tmp_path / 'last_checkpoint'
        begun = latest.exists() and latest.read_text()
        # Each run gets on before it is killed, so that all have an end.
        while process.is_alive() and time.monotonic() < deadline:
            if latest.exists() and latest.read_text() != begun:
                break
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.4))
        process.kill()
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL, (tmp_path / 'said').read_text()
        kills += 1
    finish(images, tmp_path)
    record_property('tries', kills)
    assert kills >= 3
    assert_equal(tmp_path, straight)


_write_bytes = Path.write_bytes


def in_each_write(action: Callable[[Path], None]) -> None:
    """Do something when half of a checkpoint is written."""

    def write(path: Path, content: bytes) -> int:
        if '.pth' in path.name:
            _write_bytes(path, content[: len(content) // 2])
            action(path)
        return _write_bytes(path, content)

    Path.write_bytes = write


def half_written():
    in_each_write(lambda path: die())


def before_its_name():
    checkpoint_writer.damaged_entry = lambda part: die()


def before_the_record():
    verified_checkpoint_hook.write_bytes = lambda *args: die()


def before_the_old_one_goes():
    verified_checkpoint_hook._PostponedRemoval.remove_now = lambda *args: die()


@pytest.mark.parametrize(
    'moment',
    [half_written, before_its_name, before_the_record, before_the_old_one_goes],
)
@fault(
    PART,
    'SIGKILL within a save, `max_keep_ckpts=1`',
    'the checkpoint before it is there; bit for bit the run that was not killed; '
    'nothing half-written is left',
)
def test_killed_within_a_save(images, straight, tmp_path, moment):
    log = tmp_path / 'said'
    # The second save is that of iteration 4.
    process = start(train, images, tmp_path, AtIteration(_2=moment), log=log)
    process.join()
    assert process.exitcode == -signal.SIGKILL, log.read_text()
    assert 'iter_2.pth' in checkpoints(tmp_path)
    assert [file for file in tmp_path.glob('*.pth') if damaged_entry(file)] == []
    said = finish(images, tmp_path)
    assert 'resumed epoch: 0, iter: ' in said
    assert_equal(tmp_path, straight)
    assert checkpoints(tmp_path) == [f'iter_{BEFORE}.pth', f'iter_{END}.pth']


@pytest.mark.parametrize('damage', DAMAGES)
@fault(
    PART,
    'latest truncated, empty, bytes changed, or gone',
    'said by name; the one before is taken; bit for bit the undamaged run',
)
def test_damaged_latest(images, straight, run, damage):
    damage(run / f'iter_{END}.pth')
    said = finish(images, run)
    assert f'going on from {run}/iter_{BEFORE}.pth, iteration {BEFORE}' in said
    assert f'{run}/iter_{END}.pth' in said.partition('going on')[0]
    assert_equal(run, straight)


@pytest.mark.parametrize('content', [b'\xff\xfe\x00\x01', b'epoch_7.pth', b'', None])
@fault(
    PART,
    '`last_checkpoint` holds rubbish, names a file that is gone, or is missing',
    'the checkpoint furthest in training is taken, whatever the times of the files',
)
def test_rubbish_record(images, straight, run, content):
    os.utime(run / f'iter_{END}.pth', (1, 1))
    record = run / 'last_checkpoint'
    record.unlink()
    if content is not None:
        record.write_bytes(content)
    launch.set_resume(cfg := toy_run(images, run), 'auto')
    assert cfg.resume and cfg.load_from == str(run / f'iter_{END}.pth')


@pytest.mark.parametrize('damage', DAMAGES)
@fault(
    PART,
    'all checkpoints of a run damaged or gone',
    'error that names the files and what to do, exit status 1; not "starting anew"',
)
def test_none_left(run, damage, images):
    for file in run.glob('*.pth'):
        damage(file)
    log = run / 'said'
    process = start(train, images, run, log=log)
    process.join()
    assert process.exitcode == 1
    said = log.read_text().rpartition('Traceback')[2]
    assert f'{run}/' in said and 'start anew without --resume' in said


@fault(
    PART,
    'the same by `tools/train.py --resume`',
    'one line of error, exit status 1',
)
def test_none_left_for_the_tool(tmp_path):
    (tmp_path / 'last_checkpoint').write_text('epoch_9.pth')  # which is gone
    root = Path(__file__).parents[2]
    tool = subprocess.run(
        [sys.executable, 'tools/train.py', 'configs/cmid/cmid_r18_demo.py']
        + ['--work-dir', str(tmp_path), '--resume'],
        cwd=root,
        env=os.environ | dict(PYTHONPATH=str(root)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert tool.returncode == 1
    assert tool.stderr.startswith('error: --resume: a run has saved checkpoints in')
    assert 'Traceback' not in tool.stderr


def failing_with(number: int):
    """Make every save fail halfway, until :func:`working_again`."""

    def fail(path):
        raise OSError(number, os.strerror(number), str(path))

    return lambda: in_each_write(fail)


def working_again():
    Path.write_bytes = _write_bytes


@pytest.mark.parametrize(
    'number', [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE]
)
@fault(
    PART,
    'disk full, quota used up, file system read-only, unreadable or gone for two saves',
    'training goes on and ends like the undisturbed run; said each time, counted, said '
    'again at the end; the checkpoint before stays; no half file',
)
def test_saves_that_fail(images, straight, begun, number):
    said = finish(
        images, begun, AtIteration(_8=failing_with(number), _13=working_again)
    )
    assert said.count(f'could NOT be saved: {os.strerror(number)}') == 2
    assert '2 saves of checkpoints FAILED in this run' in said
    assert_equal(begun, straight)
    assert checkpoints(begun) == [f'iter_{BEFORE}.pth', f'iter_{END}.pth']


@fault(
    PART,
    'disk full for three saves in a row (`max_failures`)',
    'the run stops with an error, exit status 1; the two checkpoints before stay',
)
def test_saves_that_fail_in_a_row(images, begun):
    log = begun / 'said'
    there = checkpoints(begun)
    fill = AtIteration(_8=failing_with(errno.ENOSPC))
    process = start(train, images, begun, fill, log=log)
    process.join()
    assert process.exitcode == 1
    assert 'CheckpointError: 3 saves in a row failed' in log.read_text()
    assert len(there) == 2 and checkpoints(begun) == there


@fault(
    PART,
    'no room for a single line of the log or number of the curves',
    'training ends like the undisturbed run; said and counted on standard error',
)
def test_log_without_room(images, straight, begun):
    disk = ExitStack()
    # Between two saves.
    fill = AtIteration(_10=lambda: disk.enter_context(full_disk(100)), _11=disk.close)
    # Not to a file, which would be full as well.
    read_end, write_end = os.pipe()
    process = start(train, images, begun, fill, log=write_end)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        said = pipe.read()
    process.join()
    assert process.exitcode == 0, said
    assert 'of the log could NOT be written: [Errno 27] File too large' in said
    assert 'lines and pictures of the log could NOT be written; the reason' in said
    assert_equal(begun, straight)


@pytest.mark.parametrize(('umask', 'mode'), [(0o022, 0o644), (0o007, 0o660)])
@fault(PART, 'a umask of the user', 'checkpoints have the mode that it says')
def test_umask(images, begun, umask, mode):
    finish(images, begun, AtIteration(_8=lambda: os.umask(umask)))
    for name in (f'iter_{END}.pth', 'last_checkpoint'):
        assert (begun / name).stat().st_mode & 0o777 == mode


@fault(PART, 'a run four times as long', 'checkpoints of the same size')
def test_growth(tmp_path, monkeypatch):
    monkeypatch.setattr(LogHistoryHook.__init__, '__defaults__', (30,))
    sizes = {}

    class Look(Hook):
        def after_train_epoch(self, runner):
            for file in tmp_path.glob('epoch_*.pth'):
                sizes[file.name] = file.stat().st_size

    tiny.train(tmp_path, Look(), max_epochs=90, interval=20)
    assert abs(sizes['epoch_80.pth'] - sizes['epoch_20.pth']) < 500
