# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Necks and heads against what the backbone gives: refused with the key."""

import re

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

import cmid_mm  # noqa: F401
from cmid_mm.configs import build_model, load_config
from cmid_mm.engine.settings import check_settings
from cmid_mm.engine.settings.widths import faults_of_widths
from tests.wrong_settings import ROOT

SEGMENTATION = 'segmentation/upernet_r18_demo.py'
CHANGE = 'change_detection/bit_r18_demo.py'
SCENES = 'classification/resnet18_demo.py'
BOXES = 'detection/oriented-rcnn_r18_demo.py'
TARGETS = 'baselines/byol_r18_scenes.py'
PYRAMID = dict(type='Feature2Pyramid', embed_dim=64, rescales=[1], norm_cfg=None)


def faults(name, changes):
    """Of the model as it was built."""
    cfg = load_config(str(ROOT / name))
    cfg.merge_from_dict(changes)
    model = build_model(cfg)
    state = torch.get_rng_state()
    found = list(faults_of_widths(model, cfg))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())
    return found


@pytest.mark.parametrize('name', [SEGMENTATION, CHANGE, SCENES, BOXES, TARGETS])
def test_shipped_models_take_what_their_backbones_give(name):
    assert faults(name, {}) == []


@pytest.mark.parametrize(
    ('name', 'changes', 'message'),
    [
        (
            SEGMENTATION,
            {'model.auxiliary_head.in_index': 7},
            'model.auxiliary_head.in_index=7, but ResNet gives 4 map(s): expected -4 t',
        ),
        (
            SEGMENTATION,
            {'model.decode_head.in_channels': [64, 128, 256, 511]},
            'model.decode_head.in_channels=[64, 128, 256, 511], but what it takes of '
            'ResNet has [64, 128, 256, 512] channels; set ',
        ),
        (
            SEGMENTATION,
            {'model.auxiliary_head.in_index': 1},
            'model.auxiliary_head.in_channels=256, but what it takes of ResNet has 128',
        ),
        (
            SEGMENTATION,
            {'model.neck': {**PYRAMID, 'embed_dim': 768}},
            'model.neck.embed_dim=768, but what it takes of ResNet has 512 channels',
        ),
        (
            CHANGE,
            {'model.decode_head.in_channels': 255},
            'model.decode_head.in_channels=255, but what it takes of ResNet has 256 ',
        ),
        (
            SCENES,
            {'model.head.in_channels': 511},
            'model.head.in_channels=511, but what it takes of GlobalAveragePooling has'
            ' 512 channels; set model.head.in_channels=512',
        ),
        (
            TARGETS,
            {'model.neck.in_channels': 8},
            'model.neck.in_channels=8, but what it takes of ResNet has 512 channels; ',
        ),
        (
            TARGETS,
            {'model.head.predictor.in_channels': 8},
            'model.head.predictor.in_channels=8, but what it takes of NonLinearNec',
        ),
        (
            BOXES,
            {'model.neck.in_channels': [64, 128]},
            'model.neck.in_channels=[64, 128], but what it takes of ResNet has [64, 128'
            ', 256] channels',
        ),
        (
            BOXES,
            {'model.rpn_head.in_channels': 32},
            'model.rpn_head.in_channels=32, but what it takes of FPN has 64 channels',
        ),
        (
            BOXES,
            {'model.roi_head.bbox_head.in_channels': 32},
            'model.roi_head.bbox_head.in_channels=32, but the maps of FPN have 64 chan',
        ),
    ],
)
def test_a_fault_is_told_by_its_key(name, changes, message):
    (fault,) = faults(name, changes)
    assert fault.startswith(message)


@pytest.mark.parametrize(
    ('name', 'changes', 'message'),
    [
        (
            SEGMENTATION,
            {'model.decode_head.in_channels': [64, 128, 256]},
            'model.decode_head.in_channels=[64, 128, 256], but model.decode_head.in_in',
        ),
        (
            SEGMENTATION,
            {'model.auxiliary_head.in_channels': [256]},
            'model.auxiliary_head.in_channels=[256], but model.auxiliary_head.in_index',
        ),
        (
            SEGMENTATION,
            {'model.data_preprocessor.size': 64},
            'model.data_preprocessor.size=64: expected height and width in pixels, ',
        ),
        (
            CHANGE,
            {'model.data_preprocessor.size': (64, 64, 3)},
            'model.data_preprocessor.size=(64, 64, 3): expected height and width',
        ),
        (
            SEGMENTATION,
            {'model.data_preprocessor.size_divisor': 32},
            'model.data_preprocessor (SegDataPreProcessor) has both of size and size_',
        ),
        (
            CHANGE,
            {'model.decode_head.loss_decode.use_sigmoid': True},
            'model.decode_head.loss_decode has use_sigmoid=True and class_weight=[1.',
        ),
        (
            CHANGE,
            {'model.data_preprocessor.size': None},
            'model.data_preprocessor (BitemporalPreprocessor) has neither of size and ',
        ),
    ],
)
def test_what_the_config_alone_tells(name, changes, message):
    cfg = load_config(str(ROOT / name))
    cfg.merge_from_dict(changes)
    with pytest.raises(ValueError, match='^' + re.escape(message)):
        check_settings(cfg)


def test_a_runner_refuses_it(tmp_path):
    """At once, in whatever way it was started."""
    model = dict(
        type='ImageClassifier',
        backbone=dict(type='ResNet_CIFAR', depth=18, base_channels=4, stem_channels=4),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=3, in_channels=33),
    )
    cfg = Config(dict(model=model, default_scope='mmpretrain', work_dir=str(tmp_path)))
    with pytest.raises(ValueError, match='^model.head.in_channels=33, but .* has 32 '):
        Runner.from_cfg(cfg)
