# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import pytest
from mmengine.runner import Runner

from tests.end_to_end.pretraining import toy_run, train, write_images


# Epochs of five iterations: finished epochs and iterations of the checkpoint, as
# checkpoints by epoch and by iteration record them, and where training goes on.
@pytest.mark.parametrize(
    ('recorded', 'expected', 'warns'),
    [
        ((0, 0), (0, 0), False),
        ((1, 5), (1, 5), False),  # by epoch
        ((0, 5), (0, 5), False),  # by iteration, at the end of an epoch
        ((1, 7), (1, 7), False),  # within the second epoch
        ((2, 6), (2, 10), True),  # made with epochs of three iterations
        ((1, 20), (1, 5), True),  # with epochs of twenty
    ],
)
def test_where_a_resumed_run_goes_on(recorded, expected, warns, tmp_path, monkeypatch):
    cfg = toy_run(write_images(tmp_path / 'images'), tmp_path)
    cfg.experiment_name = f'where-{recorded}'
    runner = Runner.from_cfg(cfg)
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    loop = runner.train_loop
    loop._epoch, loop._iter = recorded
    warnings = []
    monkeypatch.setattr(runner.logger, 'warning', lambda *a, **k: warnings.append(a[0]))
    monkeypatch.setattr(loop, 'run_epoch', lambda: setattr(loop, 'stop_training', True))
    monkeypatch.setattr(runner, 'call_hook', lambda *a, **k: None)
    loop.run()
    assert (loop._epoch, loop._iter) == expected
    assert any('other images, batch size' in text for text in warnings) == warns


def test_checkpoints_between_optimiser_steps_are_reported(tmp_path, caplog):
    images = write_images(tmp_path / 'images')
    options = {'optim_wrapper.accumulative_counts': 3, 'train_cfg.max_epochs': 1}
    cfg = toy_run(images, tmp_path / 'work', **options)
    train(cfg)
    log = next((tmp_path / 'work').glob('*/*.log')).read_text()
    assert 'fall between optimiser steps' in log
    assert 'gradients of 3 iterations' in log


def test_a_runner_built_without_a_config(tmp_path):
    cfg = toy_run(write_images(tmp_path / 'images'), tmp_path / 'work')
    cfg.train_cfg.max_epochs = 1
    runner = Runner(
        model={**cfg.model, 'data_preprocessor': cfg.data_preprocessor},
        work_dir=cfg.work_dir,
        train_dataloader=cfg.train_dataloader,
        train_cfg=cfg.train_cfg,
        optim_wrapper=cfg.optim_wrapper,
        custom_hooks=cfg.custom_hooks,
        default_scope='mmpretrain',
        experiment_name='without-config',
    )
    runner.train()
    assert runner.iter == 5


def test_a_run_without_checkpoints(tmp_path):
    cfg = toy_run(write_images(tmp_path / 'images'), tmp_path / 'work')
    cfg.default_hooks.checkpoint = None
    cfg.train_cfg.max_epochs = 2
    assert train(cfg).iter == 10
    assert not list((tmp_path / 'work').glob('*.pth'))


def test_processes_with_seeds_of_their_own_share_the_images(tmp_path, monkeypatch):
    cfg = toy_run(write_images(tmp_path / 'images'), tmp_path / 'work')
    loop = Runner.from_cfg(cfg).train_loop
    loop.runner._seed += 1  # that of the second process, by diff_rank_seed

    def broadcast(data):
        data[0] -= 1  # the first one's

    monkeypatch.setattr(loop.runner, 'call_hook', lambda *a, **k: None)
    monkeypatch.setattr(loop, 'run_iter', lambda *a: None)
    monkeypatch.setattr(
        'cmid_mm.engine.resumable_train_loop.dist.broadcast_object_list', broadcast
    )
    loop.run_epoch()
    assert loop.dataloader.sampler.seed == 7


@pytest.mark.parametrize('hook', [True, False])
def test_a_run_without_a_teacher(tmp_path, hook):
    cfg = toy_run(write_images(tmp_path / 'images'), tmp_path / 'work')
    cfg.train_cfg.max_epochs = 2
    cfg.model.heads.contrastive = cfg.model.heads.assignment = None
    if not hook:
        del cfg.custom_hooks[0]
    runner = train(cfg)
    assert runner.model.teacher is None
    assert runner.iter == 10
    assert 'train/teacher_momentum' not in runner.message_hub.log_scalars


def test_images_that_do_not_fill_a_batch(tmp_path):
    cfg = toy_run(write_images(tmp_path / 'images'), tmp_path / 'work')
    cfg.train_dataloader.batch_size = 16
    with pytest.raises(ValueError, match='10 images do not fill one batch of 16'):
        Runner.from_cfg(cfg).train()
