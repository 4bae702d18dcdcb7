# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from mmengine.config import Config
from mmengine.runner.checkpoint import CheckpointLoader

from cmid_mm.checkpoints import CheckpointError
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


def test_options_override_and_may_add_a_last_name():
    cfg = config()
    options = {
        'train_dataloader.batch_size': 8,
        'optim_wrapper.clip_grad': dict(max_norm=1.0),
        'param_scheduler.0.end': 3,
        'resume': True,
    }
    launch.merge_options(cfg, options)
    assert cfg.train_dataloader.batch_size == 8
    assert cfg.optim_wrapper.clip_grad.max_norm == 1.0
    assert cfg.param_scheduler[0].end == 3
    assert cfg.resume is True


@pytest.mark.parametrize(
    ('path', 'message'),
    [
        ('modle.momentum', "no 'modle' there; did you mean 'model'"),
        ('model.encodr.stride', "no 'encodr' there; did you mean 'encoder'"),
        ('batch_size', "no 'batch_size' there"),
        ('param_scheduler.4.end', "no '4' there"),
        ('train_dataloader.batch_size.x', "no 'x' there"),
    ],
)
def test_option_that_leads_nowhere_is_named(path, message):
    with pytest.raises(KeyError, match=message):
        launch.merge_options(config(), {path: 1})


def test_packaged_configs_are_found():
    cfg = launch.load_config('mmpretrain::resnet/resnet50_8xb32_in1k.py')
    assert cfg.model.backbone.depth == 50
    assert launch.load_config('cmid_mm::cmid/cmid_r18_demo.py').model.type == 'CMID'


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('no_such_config.py', 'no_such_config.py does not exist'),
        ('nopackage::a.py', 'package nopackage is not installed'),
        ('mmpretrain::resnet/nothing.py', 'mmpretrain has no resnet/nothing.py'),
    ],
)
def test_missing_configs_are_named(name, message):
    with pytest.raises(FileNotFoundError, match=message):
        launch.load_config(name)


def test_data_root_reaches_wrapped_data_sets():
    cfg = config(val_dataloader=dict(dataset=dict(dataset=dict(type='D'))))
    launch.set_data_root(cfg, 'images')
    assert cfg.train_dataloader.dataset.data_root == 'images'
    assert cfg.val_dataloader.dataset.dataset.data_root == 'images'
    with pytest.raises(ValueError, match='no data set'):
        launch.set_data_root(Config(dict(model={})), 'images')


def test_backbone_checkpoint(tmp_path):
    file = tmp_path / 'backbone.pth'
    file.touch()
    cfg = config()
    launch.set_backbone_checkpoint(cfg, str(file))
    assert cfg.model.encoder.backbone.init_cfg == dict(
        type='PretrainedBackbone', checkpoint=str(file)
    )
    stock = Config(dict(model=dict(pretrained='x', backbone=dict(type='ResNet'))))
    launch.set_backbone_checkpoint(stock, str(file))
    assert stock.model.get('pretrained') is None
    with pytest.raises(FileNotFoundError, match='missing.pth does not exist'):
        launch.set_backbone_checkpoint(cfg, str(tmp_path / 'missing.pth'))


@pytest.mark.skipif(torch.cuda.is_available(), reason='the CPU fallback')
def test_amp_config_trains_in_float32_without_a_gpu(capsys):
    cfg = config()
    launch.use_amp(cfg)
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    launch.fall_back_to_float32(cfg)
    assert cfg.optim_wrapper == config().optim_wrapper
    assert 'training in float32' in capsys.readouterr().out


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


def test_latest_checkpoint_survives_a_lost_record(tmp_path):
    assert launch.latest_checkpoint(str(tmp_path)) is None
    for age, name in enumerate(['epoch_10.pth', 'epoch_9.pth']):
        file = tmp_path / name
        file.touch()
        import os

        os.utime(file, (1000 - age, 1000 - age))
    (tmp_path / 'last_checkpoint').write_text('')
    assert launch.latest_checkpoint(str(tmp_path)) == str(tmp_path / 'epoch_10.pth')
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_9.pth'))
    assert launch.latest_checkpoint(str(tmp_path)) == str(tmp_path / 'epoch_9.pth')


def test_resume_settings(tmp_path):
    cfg = config(work_dir=str(tmp_path))
    launch.set_resume(cfg, 'auto')
    assert 'resume' not in cfg
    (tmp_path / 'iter_4.pth').touch()
    launch.set_resume(cfg, 'auto')
    assert cfg.resume and cfg.load_from == str(tmp_path / 'iter_4.pth')
    with pytest.raises(FileNotFoundError, match='iter_9.pth does not exist'):
        launch.set_resume(cfg, str(tmp_path / 'iter_9.pth'))


class Payload:
    """Something whose loading would need code."""


def test_checkpoints_with_code_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    torch.save({'state_dict': Payload()}, tmp_path / 'bad.pth')
    launch.refuse_unsafe_checkpoints()
    with pytest.raises(CheckpointError, match='Payload'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'bad.pth'))


@pytest.mark.parametrize(
    ('error', 'text'),
    [
        (FileNotFoundError('images/x is missing'), 'images/x is missing'),
        (KeyError('no such key'), 'no such key'),
        (
            ValueError(
                'Caught ValueError in DataLoader worker process 0.\nOriginal Traceback '
                '(most recent call last):\n  File "x"\nValueError: a.tif has 4 bands'
            ),
            'a.tif has 4 bands',
        ),
    ],
)
def test_user_errors_are_one_line(error, text, monkeypatch):
    @launch.user_errors
    def main():
        raise error

    with pytest.raises(SystemExit) as caught:
        main()
    assert str(caught.value).startswith(f'error: {text} (')
    monkeypatch.setenv(launch.TRACEBACK_VARIABLE, '1')
    with pytest.raises(type(error)):
        main()
