# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import functools
import multiprocessing
import os
import time

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper

from cmid_mm.checkpoints import CheckpointError
from cmid_mm.configs import load_config
from cmid_mm.engine import launch


def config(**changes):
    return Config(
        dict(
            model=dict(encoder=dict(backbone=dict(type='ResNet', depth=18))),
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=1)),
            train_dataloader=dict(batch_size=2, dataset=dict(type='D')),
            param_scheduler=[dict(type='LinearLR')],
            **changes,
        )
    )


def test_misspelt_keys_are_told(capsys):
    variables = dict(test_pipeline=[], test_dataset={}, val_evaluator_abs={}, lr=1)
    launch.warn_of_misspelt_keys(config(work_dir='a', tta_model={}, **variables))
    assert capsys.readouterr().out == ''
    launch.warn_of_misspelt_keys(config(val_dataloder={}, custom_hook=[]))
    assert capsys.readouterr().out == (
        "Nothing reads 'val_dataloder' of the config; did you mean 'val_dataloader'?\n"
        "Nothing reads 'custom_hook' of the config; did you mean 'custom_hooks'?\n"
    )


@pytest.mark.parametrize(
    ('given', 'expected'),
    [
        (dict(), dict(type='StepGuardHook')),
        (dict(default_hooks=dict(step_guard=None)), None),
        (dict(default_hooks=dict(step_guard=dict(type='X'))), dict(type='X')),
        (dict(custom_hooks=[dict(type='StepGuardHook', keep=1)]), None),
    ],
)
def test_every_run_is_guarded_unless_its_config_says_how(given, expected):
    cfg = config(**given)
    launch.guard_steps(cfg)
    hooks = cfg.get('default_hooks') or {}
    assert hooks == ({} if expected is None else dict(step_guard=expected))


def test_data_root_reaches_wrapped_data_sets():
    cfg = config(
        val_dataloader=dict(dataset=dict(dataset=dict(type='D'))),
        test_dataloader=dict(dataset=dict(datasets=[dict(type='D'), dict(type='E')])),
    )
    launch.set_data_root(cfg, 'images')
    assert cfg.train_dataloader.dataset.data_root == 'images'
    assert cfg.val_dataloader.dataset.dataset.data_root == 'images'
    assert 'data_root' not in cfg.val_dataloader.dataset
    assert [d.data_root for d in cfg.test_dataloader.dataset.datasets] == ['images'] * 2
    with pytest.raises(ValueError, match='no data set'):
        launch.set_data_root(Config(dict(model={})), 'images')


def test_data_root_reaches_the_annotations_of_a_metric():
    cfg = load_config('mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py')
    cfg.test_evaluator = [cfg.test_evaluator, dict(type='M', ann_file='other/a.json')]
    launch.set_data_root(cfg, 'images')
    expected = 'images/annotations/instances_val2017.json'
    assert cfg.val_evaluator.ann_file == expected
    assert cfg.test_evaluator[0].ann_file == expected
    assert cfg.test_evaluator[1].ann_file == 'other/a.json'


def test_data_root_leaves_other_folders_whose_names_begin_alike():
    cfg = config(
        val_dataloader=dict(dataset=dict(type='D', data_root='data/coco')),
        val_evaluator=[
            dict(type='M', ann_file='data/coco2017/a.json'),
            dict(type='M', ann_file='data/coco/a.json'),
        ],
    )
    launch.set_data_root(cfg, 'images')
    files = [evaluator.ann_file for evaluator in cfg.val_evaluator]
    assert files == ['data/coco2017/a.json', 'images/a.json']


@pytest.mark.skipif(torch.cuda.is_available(), reason='the CPU fallback')
def test_amp_config_trains_in_float32_without_a_gpu(capsys):
    cfg = config()
    launch.use_amp(cfg)
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    launch.fall_back_to_float32(cfg)
    assert cfg.optim_wrapper == config().optim_wrapper
    assert 'training in float32' in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason='the CPU fallback')
@pytest.mark.parametrize('kind', [AmpOptimWrapper, 'mmengine.AmpOptimWrapper'])
def test_mixed_precision_is_known_by_its_class(kind):
    cfg = config()
    cfg.optim_wrapper.update(type=kind, loss_scale='dynamic')
    launch.fall_back_to_float32(cfg)
    assert cfg.optim_wrapper == config().optim_wrapper


@pytest.mark.parametrize('gpu', [True, False])
def test_memory_is_pinned_for_a_gpu(gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
    cfg = config(test_dataloader=dict(pin_memory=False))
    launch.pin_memory(cfg)
    assert cfg.train_dataloader.get('pin_memory', False) is gpu
    assert cfg.test_dataloader.pin_memory is False


def test_auto_scale_lr_needs_its_base():
    with pytest.raises(ValueError, match='base_batch_size'):
        launch.enable_auto_scale_lr(config())
    cfg = config(auto_scale_lr=dict(enable=False, base_batch_size=256))
    launch.enable_auto_scale_lr(cfg)
    assert cfg.auto_scale_lr.enable is True


def test_resume_settings(tmp_path):
    cfg = config(work_dir=str(tmp_path))
    launch.set_resume(cfg, 'auto')
    assert 'resume' not in cfg
    torch.save(dict(meta=dict(iter=4)), tmp_path / 'iter_4.pth')
    launch.set_resume(cfg, 'auto')
    assert cfg.resume and cfg.load_from == str(tmp_path / 'iter_4.pth')
    with pytest.raises(FileNotFoundError, match='iter_9.pth does not exist'):
        launch.set_resume(cfg, str(tmp_path / 'iter_9.pth'))
    (tmp_path / 'iter_9.pth').write_bytes(b'PK half of a checkpoint')
    beside = r'iter_9\.pth is truncated.*this one is whole: --resume \S+iter_4\.pth'
    with pytest.raises(CheckpointError, match=beside):
        launch.set_resume(cfg, str(tmp_path / 'iter_9.pth'))


def test_a_run_that_would_overwrite_another_says_so(tmp_path, capsys):
    cfg = config(work_dir=str(tmp_path))
    launch.set_resume(cfg, None)
    assert capsys.readouterr().out == ''
    (tmp_path / 'epoch_3.pth').write_bytes(b'')
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_3.pth'))
    launch.set_resume(cfg, None)
    assert 'an earlier run, up to epoch_3.pth, whose' in capsys.readouterr().out
    assert 'resume' not in cfg


def test_batchnorm_is_not_synchronised_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch.distributed, 'init_process_group', lambda backend: None)
    monkeypatch.setattr(launch.atexit, 'register', lambda function: None)
    for launcher, kept in (('none', True), ('pytorch', False)):
        cfg = config(sync_bn='torch')
        launch.set_launcher(cfg, launcher)
        assert ('sync_bn' in cfg) == kept


def _hang_at_the_end(errors):
    os.dup2(os.open(errors, os.O_CREAT | os.O_WRONLY), 2)
    launch._LEAVE_SECONDS = 0.3
    torch.distributed.destroy_process_group = functools.partial(time.sleep, 60)
    launch._leave_process_group()


def test_a_process_that_cannot_leave_the_others_is_ended(tmp_path):
    errors = tmp_path / 'errors.txt'
    process = multiprocessing.get_context('fork').Process(
        target=_hang_at_the_end, args=(errors,)
    )
    process.start()
    process.join(30)
    assert process.exitcode == 1
    assert '_leave_process_group' in errors.read_text()
