# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest
import torch

from cmid_mm.checkpoints.reading import read_checkpoint
from tests.end_to_end.pretraining import toy_run, train, write_images


def assert_same(first: Path, second: Path) -> None:
    """Two final checkpoints hold the same bits, optimiser and all."""
    first, second = read_checkpoint(first), read_checkpoint(second)
    assert first['meta']['iter'] == second['meta']['iter']
    assert first['state_dict'] and first['optimizer']['state']
    for key, value in first['state_dict'].items():
        assert torch.equal(value, second['state_dict'][key]), key
    states = [checkpoint['optimizer']['state'] for checkpoint in (first, second)]
    for key, state in states[0].items():
        for name, value in state.items():
            assert torch.equal(value, states[1][key][name]), (key, name)
    groups = [checkpoint['optimizer']['param_groups'] for checkpoint in (first, second)]
    assert groups[0] == groups[1]


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp('images'))


@pytest.fixture(scope='module')
def uninterrupted(images, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('whole')
    train(toy_run(images, work_dir))
    return work_dir / 'iter_14.pth'


# In the first epoch, at its end, in the middle of the second, in the last.
@pytest.mark.parametrize('kill_at', [3, 5, 8, 13])
def test_killed_run_continues_bit_identically(images, uninterrupted, tmp_path, kill_at):
    work_dir = tmp_path / 'killed'
    train(toy_run(images, work_dir), kill_at=kill_at)
    last = kill_at // 2 * 2
    assert not (work_dir / f'iter_{last + 2}.pth').exists()
    resume = dict(resume=True, load_from=str(work_dir / f'iter_{last}.pth'))
    train(toy_run(images, work_dir, **resume))
    assert_same(work_dir / 'iter_14.pth', uninterrupted)


def test_workers_do_not_change_the_run(images, uninterrupted, tmp_path):
    workers = {
        'train_dataloader.num_workers': 2,
        'train_dataloader.persistent_workers': True,
    }
    train(toy_run(images, tmp_path, **workers))
    assert_same(tmp_path / 'iter_14.pth', uninterrupted)


def test_windows_drawn_anew_are_those_of_an_uninterrupted_run(tmp_path):
    scenes = write_images(tmp_path / 'scenes', count=3, size=160)
    changes = {
        'train_dataloader.dataset.type': 'SceneWindows',
        'train_dataloader.dataset.tile_size': 64,
        'train_dataloader.dataset.per_epoch': 10,
    }
    train(toy_run(scenes, tmp_path / 'whole', **changes))
    train(toy_run(scenes, tmp_path / 'killed', **changes), kill_at=8)
    resume = dict(resume=True, load_from=str(tmp_path / 'killed' / 'iter_8.pth'))
    changes['train_dataloader.num_workers'] = 2
    train(toy_run(scenes, tmp_path / 'killed', **changes, **resume))
    assert_same(tmp_path / 'killed/iter_14.pth', tmp_path / 'whole/iter_14.pth')


def test_another_seed_changes_the_run(images, uninterrupted, tmp_path):
    train(toy_run(images, tmp_path, **{'randomness.seed': 8}))
    with pytest.raises(AssertionError):
        assert_same(tmp_path / 'iter_14.pth', uninterrupted)


def test_seed_of_the_first_start_is_kept(images, uninterrupted, tmp_path):
    train(toy_run(images, tmp_path), kill_at=7)
    resume = dict(resume=True, load_from=str(tmp_path / 'iter_6.pth'))
    train(toy_run(images, tmp_path, randomness=dict(seed=None), **resume))
    assert_same(tmp_path / 'iter_14.pth', uninterrupted)


def test_accumulation_moves_the_teacher_once_a_step(images, tmp_path):
    cfg = toy_run(images, tmp_path, **{'optim_wrapper.accumulative_counts': 2})
    moves = []

    from cmid_mm.models import CMID

    update = CMID.update_teacher

    def counted(self, momentum):
        moves.append(momentum)
        update(self, momentum)

    CMID.update_teacher = counted
    try:
        runner = train(cfg)
    finally:
        CMID.update_teacher = update
    # Iterations 1, 3, ..., 13 of 15 end a step, and the last one does.
    assert runner.iter == 15
    model = runner.model
    expected = [model.momentum_at(i, 15) for i in (1, 3, 5, 7, 9, 11, 13, 14)]
    assert moves == pytest.approx(expected)


def test_training_without_the_teacher_hook_is_refused(images, tmp_path):
    cfg = toy_run(images, tmp_path)
    cfg.custom_hooks = []
    with pytest.raises(ValueError, match='TeacherUpdateHook'):
        train(cfg)
