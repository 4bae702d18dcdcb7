# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import os
import shutil

import pytest
import torch
from mmengine.config import Config
from mmengine.runner.checkpoint import CheckpointLoader

from cmid_mm import cli, configs
from cmid_mm.checkpoints import CheckpointError
from cmid_mm.engine import backbone_checkpoint, launch


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
    configs.merge_options(cfg, options)
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
        configs.merge_options(config(), {path: 1})


def test_packaged_configs_are_found():
    cfg = configs.load_config('mmpretrain::resnet/resnet50_8xb32_in1k.py')
    assert cfg.model.backbone.depth == 50
    assert configs.load_config('cmid_mm::cmid/cmid_r18_demo.py').model.type == 'CMID'


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
        configs.load_config(name)


def test_bases_of_packages_are_found(tmp_path):
    file = tmp_path / 'mine.py'
    file.write_text(
        "_base_ = 'mmseg::upernet/upernet_r50_4xb4-80k_ade20k-512x512.py'\n"
        'model = dict(backbone=dict(depth=18))\n'
        'copied = _base_.model\n'
    )
    cfg = configs.load_config(str(file))
    assert cfg.model.backbone.depth == 18 and cfg.model.decode_head.type == 'UPerHead'
    assert cfg.copied['_scope_'] == 'mmseg'  # as mmengine marks what was copied
    assert cfg.default_scope == 'mmseg'
    file.write_text(
        "_base_ = 'cmid_mm::_base_/models/cmid_r18.py'\ncopied = _base_.model\n"
    )
    cfg = configs.load_config(str(file))
    assert cfg.model.type == 'CMID' and '_scope_' not in cfg.copied
    for base in ('mmseg::upernet/upernet_r51.py', 'nopackage::a.py'):
        file.write_text(f'_base_ = {base!r}\n')
        with pytest.raises(FileNotFoundError, match=f'config {base}'):
            configs.load_config(str(file))


def test_close_names_of_packaged_configs_are_suggested():
    with pytest.raises(FileNotFoundError, match='mean resnet50_8xb32_in1k.py'):
        configs.load_config('mmpretrain::resnet/resnet50_8xb32_in1.py')


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
    cfg = configs.load_config('mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py')
    cfg.test_evaluator = [cfg.test_evaluator, dict(type='M', ann_file='other/a.json')]
    launch.set_data_root(cfg, 'images')
    expected = 'images/annotations/instances_val2017.json'
    assert cfg.val_evaluator.ann_file == expected
    assert cfg.test_evaluator[0].ann_file == expected
    assert cfg.test_evaluator[1].ann_file == 'other/a.json'


@pytest.fixture
def backbone_file(tmp_path):
    """A file that says how its images were normalised."""
    source = 'data_preprocessor = dict(mean=[10, 20.5, 30], std=[1, 2, 3])'
    torch.save(dict(state_dict={}, meta=dict(cfg=source)), tmp_path / 'backbone.pth')
    return str(tmp_path / 'backbone.pth')


def test_backbone_checkpoint(backbone_file, tmp_path):
    cfg = config()
    backbone_checkpoint.set_backbone_checkpoint(cfg, backbone_file)
    assert cfg.model.encoder.backbone.init_cfg == dict(
        type='PretrainedBackbone', checkpoint=backbone_file
    )
    stock = Config(dict(model=dict(pretrained='x', backbone=dict(type='ResNet'))))
    backbone_checkpoint.set_backbone_checkpoint(stock, backbone_file)
    assert stock.model.get('pretrained') is None
    with pytest.raises(FileNotFoundError, match='missing.pth does not exist'):
        backbone_checkpoint.set_backbone_checkpoint(cfg, str(tmp_path / 'missing.pth'))
    (tmp_path / 'empty.pth').touch()
    with pytest.raises(CheckpointError, match='empty.pth is empty'):
        backbone_checkpoint.set_backbone_checkpoint(cfg, str(tmp_path / 'empty.pth'))


def test_outermost_backbone_is_meant(backbone_file):
    inner = dict(type='D', backbone=dict(type='R'), neck=dict(backbone=dict(type='X')))
    cfg = Config(dict(model=dict(detector=inner, data_preprocessor=dict(type='P'))))
    backbone_checkpoint.set_backbone_checkpoint(cfg, backbone_file)
    assert cfg.model.detector.backbone.init_cfg.checkpoint == backbone_file
    assert 'init_cfg' not in cfg.model.detector.neck.backbone


@pytest.mark.parametrize(
    ('model', 'others', 'message'),
    [
        ({}, {}, r"no 'backbone' among its parts \(none\); .* init_cfg="),
        (
            dict(image_encoder=dict(type='A'), decode_head=dict(type='B')),
            {},
            r'parts \(image_encoder, decode_head\)',
        ),
        (
            dict(detector=dict(backbone={}), reid=dict(backbone={})),
            {},
            'several backbones, model.detector.backbone and model.reid.backbone',
        ),
        (
            dict(backbone={}),
            dict(load_from='coco.pth'),
            'loads coco.pth over the backbone; add --cfg-options load_from=None',
        ),
        (
            dict(detector=dict(backbone={}), init_cfg=dict(checkpoint='b.pth')),
            {},
            'model.init_cfg of the config loads b.pth',
        ),
        (
            dict(d=dict(backbone={}, init_cfg=dict(checkpoint='b.pth'))),
            {},
            'options model.d.init_cfg=None',
        ),
    ],
)
def test_backbone_checkpoint_needs_one_place(backbone_file, model, others, message):
    with pytest.raises(ValueError, match=message):
        backbone_checkpoint.set_backbone_checkpoint(
            Config(dict(model=model, **others)), backbone_file
        )


@pytest.mark.parametrize(
    ('where', 'path'),
    [
        (lambda p: dict(model=dict(backbone={}, data_preprocessor=p)), 'model.data'),
        (lambda p: dict(model=dict(backbone={}), data_preprocessor=p), "'data"),
        (
            lambda p: dict(
                model=dict(
                    detector=dict(backbone={}),
                    data_preprocessor=dict(data_preprocessor=p),
                )
            ),
            'model.data_preprocessor.data',
        ),
    ],
)
def test_other_normalization_is_said(backbone_file, where, path, capsys):
    other = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
    backbone_checkpoint.set_backbone_checkpoint(Config(where(other)), backbone_file)
    text = capsys.readouterr().out
    assert 'on images with mean [10,20.5,30] and std [1,2,3], this' in text
    assert 'with mean [123.675,116.28,103.53] and std [58.395,57.12,57.375]' in text
    assert f"{path}_preprocessor.mean=[10,20.5,30]' " in text
    assert 'in RGB order' in text
    backbone_checkpoint.set_backbone_checkpoint(
        Config(where(dict(to_rgb=True))), backbone_file
    )
    text = capsys.readouterr().out
    assert 'normalises with mean none and' in text and 'RGB order' not in text
    same = dict(mean=[10.0, 20.5, 30.0], std=(1, 2, 3))
    backbone_checkpoint.set_backbone_checkpoint(Config(where(same)), backbone_file)
    assert capsys.readouterr().out == ''


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


def test_latest_checkpoint_of_a_copied_folder_is_its_own(tmp_path):
    original, copy = tmp_path / 'original', tmp_path / 'copy'
    original.mkdir()
    (original / 'epoch_9.pth').touch()
    (original / 'last_checkpoint').write_text(str(original / 'epoch_9.pth'))
    shutil.copytree(original, copy)
    assert launch.latest_checkpoint(str(copy)) == str(copy / 'epoch_9.pth')
    # Unless checkpoints are kept elsewhere on purpose.
    (copy / 'epoch_9.pth').unlink()
    assert launch.latest_checkpoint(str(copy)) == str(original / 'epoch_9.pth')


def test_latest_checkpoint_survives_a_lost_record(tmp_path):
    assert launch.latest_checkpoint(str(tmp_path)) is None
    for age, name in enumerate(['epoch_10.pth', 'epoch_9.pth']):
        file = tmp_path / name
        file.touch()
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
    @cli.user_errors
    def main():
        raise error

    with pytest.raises(SystemExit) as caught:
        main()
    assert str(caught.value).startswith(f'error: {text} (')
    monkeypatch.setenv(cli.TRACEBACK_VARIABLE, '1')
    with pytest.raises(type(error)):
        main()


def test_batchnorm_is_not_synchronised_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch.distributed, 'init_process_group', lambda backend: None)
    monkeypatch.setattr(launch.atexit, 'register', lambda function: None)
    for launcher, kept in (('none', True), ('pytorch', False)):
        cfg = config(sync_bn='torch')
        launch.set_launcher(cfg, launcher)
        assert ('sync_bn' in cfg) == kept
