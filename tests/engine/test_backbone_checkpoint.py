# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import pytest
from mmengine.config import Config

from cmid_mm.checkpoints import LoadReport, stored_images
from cmid_mm.engine.backbone_checkpoint import (
    compare_images,
    set_backbone_checkpoint,
    stem_option,
)
from cmid_mm.images import Reading


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
    """A file; what is in it does not matter before the model is built."""
    (tmp_path / 'backbone.pth').touch()
    return str(tmp_path / 'backbone.pth')


def report(**told):
    """What a file told of its images, besides weights."""
    return LoadReport('backbone.pth', 'run of cmid_mm', 1, [], [], [], **told)


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


@pytest.mark.parametrize(
    ('text', 'stem'),
    [('repeat', 'repeat'), ('3,2,1,mean,0', [3, 2, 1, None, 0]), ('2', [2])],
)
def test_stem(backbone_file, text, stem):
    cfg = config()
    set_backbone_checkpoint(cfg, backbone_file, stem_option(text))
    assert cfg.model.encoder.backbone.init_cfg.stem == stem


def test_source(backbone_file):
    cfg = config()
    set_backbone_checkpoint(cfg, backbone_file, source='state_dict_ema')
    assert cfg.model.encoder.backbone.init_cfg == dict(
        type='PretrainedBackbone', checkpoint=backbone_file, source='state_dict_ema'
    )


@pytest.mark.parametrize('text', ['all', '1,x', '-1', ''])
def test_unknown_stem(text):
    with pytest.raises(ValueError, match=f'--stem {text}: expected repeat, mean, fir'):
        stem_option(text)


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
def test_other_normalization_is_said(where, path, capsys):
    file = report(normalization=dict(mean=[10, 20.5, 30], std=[1, 2, 3]))
    other = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
    compare_images(Config(where(other)), file)
    text = capsys.readouterr().out
    assert 'on images with mean [10,20.5,30] and std [1,2,3], this' in text
    assert 'with mean [123.675,116.28,103.53] and std [58.395,57.12,57.375]' in text
    assert f"{path}_preprocessor.mean=[10,20.5,30]' " in text
    assert 'in RGB order' in text
    compare_images(Config(where(dict(to_rgb=True))), file)
    text = capsys.readouterr().out
    assert 'normalises with mean none and' in text and 'RGB order' not in text
    same = dict(mean=[10.0, 20.5, 30.0], std=(1, 2, 3))
    compare_images(Config(where(same)), file)
    compare_images(Config(where(other)), report())
    compare_images(Config(where(other)), replace(file, stem='made for 5 bands'))
    assert capsys.readouterr().out == ''


RANGES = ((0.0, 3000.0), (0.0, 5000.0), (0.0, 5000.0))


@pytest.mark.parametrize(
    ('step', 'said'),
    [
        (dict(type='LoadImagery', bands=[4, 3, 2], value_range=RANGES), False),
        (dict(type='LoadImagery', bands=[4, 3, 2], value_range=(0, 3000)), True),
        (dict(type='LoadImagery', bands=[2, 3, 4], value_range=RANGES), True),
        (dict(type='LoadImageFromFile'), True),
        (dict(type='LoadSomething'), False),
    ],
)
def test_other_reading_is_said(step, said, monkeypatch):
    messages = []
    monkeypatch.setattr(
        stored_images, 'print_log', lambda message, *_, **__: messages.append(message)
    )
    file = report(reading=Reading(3, (4, 3, 2), RANGES, size=96))
    cfg = Config(
        dict(model={}, train_dataloader=dict(dataset=dict(type='D', pipeline=[step])))
    )
    compare_images(cfg, file)
    assert len(messages) == said
    for text in messages:
        assert text.startswith('backbone.pth learnt from images read with num_bands=3')
        assert 'bands=[4, 3, 2], value_range=[[0.0, 3000.0], [0.0, 5000.0], ' in text
        assert 'here they are read with num_bands=3, bands=' in text
