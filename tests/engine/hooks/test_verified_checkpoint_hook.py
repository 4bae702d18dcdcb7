# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import os
import shutil
import threading

import pytest
import torch
from mmengine import dist
from mmengine.evaluator import BaseMetric
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import METRICS
from torch import nn

from cmid_mm.checkpoints import CheckpointError, read_checkpoint
from cmid_mm.engine import checkpoint_writer
from cmid_mm.engine.fault_tolerant_runner import FaultTolerantRunner
from cmid_mm.engine.hooks import LogHistoryHook, VerifiedCheckpointHook
from cmid_mm.engine.hooks.verified_checkpoint_hook import save_now
from cmid_mm.files import hold_folder
from tests.engine.hooks import short_runs


class Tiny(nn.Module):
    """What a runner trains."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(300))

    def train_step(self, data, optim_wrapper):
        optim_wrapper.update_params(self.weight.square().sum())
        return {}

    def val_step(self, data):
        return [0]


def train(work_dir, *hooks, max_epochs=4, validation=None, **checkpoint):
    defaults = dict(type='CheckpointHook', interval=1, max_keep_ckpts=1)
    return short_runs.train(
        Tiny(),
        work_dir,
        *hooks,
        max_epochs=max_epochs,
        default_hooks=dict(checkpoint=defaults | checkpoint),
        runner_type=FaultTolerantRunner,
        **validation or {},
    )


class AtIteration(Hook):
    """Does something at iterations, before others do."""

    priority = 'VERY_HIGH'

    def __init__(self, **actions):
        self.actions = {int(name[1:]): action for name, action in actions.items()}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.actions.get(runner.iter, lambda runner: None)(runner)


def saved(folder):
    return sorted(file.name for file in folder.glob('*.pth*'))


@pytest.fixture
def disk(monkeypatch):
    """A disk that can be filled: what is written then is half a file."""
    full = set()

    def write(path, content):
        if full:
            with whole_file(path) as part:
                part.write_bytes(content[: len(content) // 2])
                raise OSError(28, 'No space left on device', str(part))
        proven(path, content)

    whole_file, proven = checkpoint_writer.whole_file, checkpoint_writer._write_proven
    monkeypatch.setattr(checkpoint_writer, '_write_proven', write)
    return full


def test_every_run_has_the_hooks(tmp_path):
    hooks = train(tmp_path, max_epochs=1).hooks
    kinds = [type(hook) for hook in hooks]
    assert kinds.count(VerifiedCheckpointHook) == kinds.count(LogHistoryHook) == 1
    assert CheckpointHook not in kinds


def test_two_are_kept_of_one(tmp_path):
    runner = train(tmp_path)
    assert saved(tmp_path) == ['epoch_3.pth', 'epoch_4.pth']
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_4.pth')
    content = read_checkpoint(tmp_path / 'epoch_4.pth')
    assert content['meta']['epoch'] == 4 and content['meta']['iter'] == 12
    assert torch.equal(content['state_dict']['weight'], runner.model.weight)


def test_the_state_is_that_of_the_save(tmp_path, monkeypatch):
    """Training changes the weights while they are written."""
    proven, seen = checkpoint_writer._write_proven, {}

    def slow(path, content):
        hook.resumed.wait(10)
        proven(path, content)

    class Steps(Hook):
        def __init__(self):
            self.resumed = threading.Event()

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            seen[runner.iter + 1] = runner.model.weight.detach().clone()
            if runner.iter == 5:
                self.resumed.set()

    hook = Steps()
    monkeypatch.setattr(checkpoint_writer, '_write_proven', slow)
    train(tmp_path, hook, max_epochs=2)
    weight = read_checkpoint(tmp_path / 'epoch_1.pth')['state_dict']['weight']
    assert torch.equal(weight, seen[3]) and not torch.equal(weight, seen[4])


def test_full_disk_loses_no_checkpoint_and_is_said(tmp_path, disk, capsys):
    fill = AtIteration(_6=lambda _: disk.add(1), _12=lambda _: disk.clear())
    runner = train(tmp_path, fill, max_epochs=5)
    # Of the third and fourth there is nothing; the two before them were kept.
    assert saved(tmp_path) == ['epoch_2.pth', 'epoch_5.pth']
    said = capsys.readouterr().out
    assert said.count('could NOT be saved: No space left on device') == 2
    assert 'epoch_3.pth could NOT' in said and 'failed in a row: 2' in said
    assert '2 saves of checkpoints FAILED in this run' in said
    assert runner.message_hub.get_info('kept_ckpts') == ['epoch_2.pth', 'epoch_5.pth']


def test_it_stops_after_failures_in_a_row(tmp_path, disk):
    fill = AtIteration(_6=lambda _: disk.add(1))
    with pytest.raises(CheckpointError, match=r'^2 saves.*epoch_4.*stands is \S+_2\.'):
        train(tmp_path, fill, max_epochs=9, max_failures=2)
    assert saved(tmp_path) == ['epoch_1.pth', 'epoch_2.pth']


def test_the_end_of_a_run_has_to_be_saved(tmp_path, disk):
    fill = AtIteration(_9=lambda _: disk.add(1))
    with pytest.raises(CheckpointError, match=r'1 saves.*epoch_4\.pth'):
        train(tmp_path, fill)


def test_all_processes_stop(tmp_path, monkeypatch):
    """The second has written nothing, and hears of the failures of the first."""

    def broadcast(objects):
        objects[0] = ['a.pth', 'b.pth', 'c.pth']

    monkeypatch.setattr(dist, 'broadcast_object_list', broadcast)
    with pytest.raises(CheckpointError, match=r'3 saves in a row failed.*of c\.pth'):
        train(tmp_path, max_epochs=1)


def test_what_is_read_again_is_compared(tmp_path, monkeypatch, capsys):
    """A storage that takes what it is given and keeps something else."""

    def lossy(path):
        content = bytearray(path.read_bytes()) if path.is_file() else b''
        if len(content) > 1000:
            content[len(content) // 2] ^= 1
            path.write_bytes(content)

    monkeypatch.setattr(checkpoint_writer, 'send_to_disk', lossy)
    with pytest.raises(CheckpointError):
        train(tmp_path, max_epochs=1)
    assert saved(tmp_path) == []
    assert 'is not what was written' in capsys.readouterr().out


def test_half_files_of_killed_saves_go_at_the_start(tmp_path):
    tmp_path.joinpath('epoch_9.pth.elsewhere-12.part').write_bytes(b'PK')
    tmp_path.joinpath('notes.part').touch()
    train(tmp_path, max_epochs=1)
    assert saved(tmp_path) == ['epoch_1.pth']
    assert tmp_path.joinpath('notes.part').exists()


def test_mode_follows_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        train(tmp_path, max_epochs=1)
    finally:
        os.umask(old)
    for name in ('epoch_1.pth', 'last_checkpoint'):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o640


def test_saved_between_the_intervals(tmp_path):
    class Now(Hook):
        priority = 'LOWEST'
        paths = []

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            if runner.iter == 3:
                self.paths.append(save_now(runner))
                self.paths.append(sorted(saved(tmp_path)))

    train(tmp_path, Now(), max_epochs=2)
    path, there = Now.paths
    assert path == str(tmp_path / 'iter_4.pth')
    assert there == ['epoch_1.pth', 'iter_4.pth']  # it is on the disk already
    meta = read_checkpoint(path)['meta']
    assert (meta['epoch'], meta['iter']) == (1, 4)
    assert saved(tmp_path) == ['epoch_2.pth', 'iter_4.pth']


@METRICS.register_module()
class Scores(BaseMetric):
    """Scores of a script, one at each validation."""

    scores: list = []

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return dict(acc=self.scores.pop(0))


VALIDATION = dict(
    val_dataloader=dict(
        dataset=short_runs.NoisyImages(),
        batch_size=6,
        num_workers=0,
        sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
    ),
    val_cfg={},
    val_evaluator=dict(type='Scores'),
)


def test_the_best_stands_until_a_better_one_does(tmp_path, disk):
    Scores.scores = [0.5, 0.9, 0.7]
    fill = AtIteration(_3=lambda _: disk.add(1), _6=lambda _: disk.clear())
    runner = train(
        tmp_path,
        fill,
        max_epochs=3,
        save_best='acc',
        validation=VALIDATION,
    )
    # The second could not be saved: it is not the best, for nobody can have it.
    assert [n for n in saved(tmp_path) if 'best' in n] == ['best_acc_epoch_3.pth']
    assert runner.message_hub.get_info('best_score') == 0.7


def test_small_best_ones_do_not_hide_that_nothing_else_is_saved(tmp_path, monkeypatch):
    def write(path, content):
        if not path.name.startswith('best_'):
            raise OSError(28, 'No space left on device')
        path.write_bytes(content)

    monkeypatch.setattr(checkpoint_writer, '_write_proven', write)
    Scores.scores = [0.1, 0.2, 0.3, 0.4, 0.5]
    with pytest.raises(CheckpointError, match=r'^4 saves in a row.*epoch_2\.pth'):
        train(tmp_path, max_epochs=5, save_best='acc', validation=VALIDATION)


def test_a_metric_that_the_validation_lacks_is_told_by_its_key(tmp_path):
    Scores.scores = [0.5]
    message = r"checkpoint\.save_best='ac': the validation has no such.*'acc'"
    with pytest.raises(ValueError, match=message):
        train(tmp_path, save_best='ac', rule='greater', validation=VALIDATION)


def test_a_copy_of_a_work_folder_leaves_the_best_of_the_original(tmp_path):
    Scores.scores = [0.5, 0.9]
    options = dict(save_best='acc', validation=VALIDATION)
    train(tmp_path / 'a', max_epochs=1, **options)
    shutil.copytree(tmp_path / 'a', tmp_path / 'b')
    options['validation'] = VALIDATION | dict(resume=True)
    train(tmp_path / 'b', max_epochs=2, **options)
    for name, epoch in (('a', 1), ('b', 2)):
        best = [file.name for file in (tmp_path / name).glob('best_*')]
        assert best == [f'best_acc_epoch_{epoch}.pth']


def test_two_runs_do_not_save_in_the_same_folder(tmp_path):
    held, release = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        hold_folder(tmp_path)
        os.write(held[1], b'x')
        os.read(release[0], 1)
        os._exit(0)
    os.read(held[0], 1)
    try:
        with pytest.raises(BlockingIOError, match=rf'-{child}, writes here; wait'):
            train(tmp_path, max_epochs=1)
    finally:
        os.write(release[1], b'x')
        os.waitpid(child, 0)
    train(tmp_path, max_epochs=1)  # whoever has ended holds nothing
    assert saved(tmp_path) == ['epoch_1.pth']
