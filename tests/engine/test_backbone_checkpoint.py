# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from mmengine.config import Config

from cmid_mm.checkpoints import CheckpointError
from cmid_mm.engine.backbone_checkpoint import set_backbone_checkpoint


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


@pytest.fixture
def backbone_file(tmp_path):
    """A file that says how its images were normalised."""
    source = 'data_preprocessor = dict(mean=[10, 20.5, 30], std=[1, 2, 3])'
    torch.save(dict(state_dict={}, meta=dict(cfg=source)), tmp_path / 'backbone.pth')
    return str(tmp_path / 'backbone.pth')


def test_backbone_checkpoint(backbone_file, tmp_path):
    cfg = config()
    set_backbone_checkpoint(cfg, backbone_file)
    assert cfg.model.encoder.backbone.init_cfg == dict(
        type='PretrainedBackbone', checkpoint=backbone_file
    )
    stock = Config(dict(model=dict(pretrained='x', backbone=dict(type='ResNet'))))
    set_backbone_checkpoint(stock, backbone_file)
    assert stock.model.get('pretrained') is None
    with pytest.raises(FileNotFoundError, match='missing.pth does not exist'):
        set_backbone_checkpoint(cfg, str(tmp_path / 'missing.pth'))
    (tmp_path / 'empty.pth').touch()
    with pytest.raises(CheckpointError, match='empty.pth is empty'):
        set_backbone_checkpoint(cfg, str(tmp_path / 'empty.pth'))


def test_outermost_backbone_is_meant(backbone_file):
    inner = dict(type='D', backbone=dict(type='R'), neck=dict(backbone=dict(type='X')))
    cfg = Config(dict(model=dict(detector=inner, data_preprocessor=dict(type='P'))))
    set_backbone_checkpoint(cfg, backbone_file)
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
        set_backbone_checkpoint(Config(dict(model=model, **others)), backbone_file)


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
    set_backbone_checkpoint(Config(where(other)), backbone_file)
    text = capsys.readouterr().out
    assert 'on images with mean [10,20.5,30] and std [1,2,3], this' in text
    assert 'with mean [123.675,116.28,103.53] and std [58.395,57.12,57.375]' in text
    assert f"{path}_preprocessor.mean=[10,20.5,30]' " in text
    assert 'in RGB order' in text
    set_backbone_checkpoint(Config(where(dict(to_rgb=True))), backbone_file)
    text = capsys.readouterr().out
    assert 'normalises with mean none and' in text and 'RGB order' not in text
    same = dict(mean=[10.0, 20.5, 30.0], std=(1, 2, 3))
    set_backbone_checkpoint(Config(where(same)), backbone_file)
    assert capsys.readouterr().out == ''
