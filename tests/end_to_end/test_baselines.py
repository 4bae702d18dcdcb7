# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Baselines train, resume, are evaluated and give their backbone to all tasks."""

import functools
import importlib
import itertools
import json
from pathlib import Path

import cv2
import mmengine.runner.runner
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from torch import nn

from cmid_mm.checkpoints import export_backbone, read_checkpoint
from tests.end_to_end.pretraining import toy_run, train, write_images
from tests.end_to_end.test_resume import assert_same
from tests.toy_baselines import SMALL, build, toy_baseline

BASES = Path(__file__).parents[2] / 'configs' / '_base_' / 'models'


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp('images'))


@pytest.fixture(scope='module')
def uninterrupted(images, tmp_path_factory):
    """Run a baseline to its end, once; returns the last checkpoint."""

    @functools.cache
    def run_baseline(name: str) -> Path:
        work_dir = tmp_path_factory.mktemp(name)
        train(baseline_run(name, images, work_dir))
        return work_dir / 'iter_14.pth'

    return run_baseline


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    """Leave out the report of the machine that opens a log: it takes seconds."""
    monkeypatch.setattr(mmengine.runner.runner, 'collect_env', dict)


def baseline_run(name: str, images: Path, work_dir: Path, **changes) -> Config:
    """Config of three epochs of five iterations, with drop path or queues in use."""
    baseline = toy_baseline(name)
    if baseline.model.type == 'SwAV':
        baseline.model.head.loss.update(queue_length=5, queue_start_epoch=1)
    if baseline.model.type == 'SimMIM':
        baseline.model.backbone.drop_path_rate = 0.2
    cfg = toy_run(images, work_dir)
    cfg.model = baseline.model
    cfg.data_preprocessor = baseline.data_preprocessor
    cfg.custom_hooks = baseline.custom_hooks
    for hook in cfg.custom_hooks:
        if hook.type == 'DenseCLHook':
            hook.start_iters = 7
    cfg.merge_from_dict(changes)
    return cfg


# -- Resuming ----------------------------------------------------------------------

QUICK = ('mae_vit-tiny_scenes', 'mocov2_r18_scenes', 'swav_r18_scenes')


@pytest.mark.parametrize(
    'name',
    [
        pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow)
        for name in SMALL
    ],
)
def test_killed_run_continues_bit_identically(name, images, uninterrupted, tmp_path):
    train(baseline_run(name, images, tmp_path), kill_at=13)
    resume = dict(resume=True, load_from=str(tmp_path / 'iter_12.pth'))
    train(baseline_run(name, images, tmp_path, **resume))
    assert_same(tmp_path / 'iter_14.pth', uninterrupted(name))
    state = read_checkpoint(tmp_path / 'iter_14.pth')['state_dict']
    queues = [key for key in state if 'queue' in key and not key.endswith('ptr')]
    assert bool(queues) == name.startswith(('mocov2', 'densecl', 'swav'))
    for key in queues:
        assert state[key].abs().sum(-1).min() > 0  # it was in use


def test_fixed_predictor_rate_is_resumed(images, tmp_path):
    """The published SimSiam: constant rate of the predictor, scaled to the batch."""
    changes = {
        'custom_hooks': [dict(type='FixedPredictorRateHook')],
        'optim_wrapper.constructor': 'DefaultOptimWrapperConstructor',
        'optim_wrapper.optimizer': dict(type='SGD', lr=0.1, momentum=0.9),
        'optim_wrapper.paramwise_cfg': dict(
            custom_keys=dict(predictor=dict(fix_lr=True))
        ),
        'auto_scale_lr': dict(enable=True, base_batch_size=8),
    }

    def cfg(work_dir: Path, **more) -> Config:
        cfg = baseline_run('simsiam_r18_scenes', images, work_dir, **changes, **more)
        cfg.optim_wrapper.optimizer.pop('weight_decay', None)
        return cfg

    rates = []
    runner = train(cfg(tmp_path / 'whole'))
    for group in runner.optim_wrapper.param_groups:
        if group.get('fix_lr'):
            rates.append(group['initial_lr'])
    assert rates == [pytest.approx(0.1 * 2 / 8)] * len(rates)
    assert rates
    train(cfg(tmp_path / 'killed'), kill_at=9)
    resume = dict(resume=True, load_from=str(tmp_path / 'killed' / 'iter_8.pth'))
    train(cfg(tmp_path / 'killed', **resume))
    assert_same(tmp_path / 'killed' / 'iter_14.pth', tmp_path / 'whole' / 'iter_14.pth')


# -- Evaluating --------------------------------------------------------------------


@pytest.fixture
def scenes(tmp_path):
    """Six images of each of two colours, to learn from and to test on."""
    rng = np.random.default_rng(0)
    colours = {'forest': (30, 160, 30), 'water': (160, 60, 30)}
    for part, (name, bgr) in itertools.product(('train', 'test'), colours.items()):
        folder = tmp_path / 'scenes' / part / name
        folder.mkdir(parents=True)
        for index in range(6):
            pixels = np.array(bgr) + rng.integers(0, 60, (64, 64, 3))
            cv2.imwrite(str(folder / f'{index}.png'), pixels.astype(np.uint8))
    return tmp_path / 'scenes'


@pytest.mark.parametrize('name', ['mae_vit-tiny_scenes', 'mocov2_r18_scenes'])
def test_evaluation_tells_scenes_apart_and_changes_nothing(
    name, images, uninterrupted, scenes, tmp_path, run
):
    cfg = baseline_run(name, images, tmp_path / 'evaluated')
    cfg.custom_hooks.append(
        dict(
            type='FeatureEvaluationHook',
            train=dict(root=str(scenes / 'train')),
            test=dict(root=str(scenes / 'test')),
            interval=1,
            size=64,
            num_workers=0,
        )
    )
    runner = train(cfg)
    assert runner.message_hub.get_scalar('features/linear_top1').current() == 100
    last = tmp_path / 'evaluated' / 'iter_14.pth'
    assert_same(last, uninterrupted(name))

    cfg.dump(tmp_path / 'config.py')
    arguments = ['--train', scenes / 'train', '--test', scenes / 'test']
    arguments += ['--size', 64, '--num-workers', 0]
    out = tmp_path / 'out.json'
    for checkpoint, more in ((last, ()), (tmp_path / 'bb.pth', ('--backbone-only',))):
        if more:
            export_backbone(last, checkpoint)
        error = run(
            'evaluate_features.py',
            *(tmp_path / 'config.py', checkpoint, *arguments, *more),
            *('--json', out, '--device', 'cpu'),
        )
        assert error is None
        results = json.loads(out.read_text())
        assert results['linear_top1'] == 100
        assert results['feature_dim'] == {'MAE': 24, 'FlexibleMoCo': 64}[cfg.model.type]


# -- Exporting ---------------------------------------------------------------------

SCOPES = {
    'classifier': 'mmpretrain',
    'upernet': 'mmseg',
    'oriented-rcnn': 'mmrotate',
    'bit': 'mmseg',
}


def resnet(model) -> None:
    """Make a task's model a thin ResNet-18."""
    thin = dict(depth=18, stem_channels=8, base_channels=8)
    model.backbone.update(thin)
    _set_channels(model, [8, 16, 32, 64])


def swin(model) -> None:
    """Make a task's model the tiny Swin; its tables differ in size."""
    arch = dict(embed_dims=8, depths=[1, 1, 2, 1], num_heads=[1, 2, 2, 2])
    if 'embed_dims' in model.backbone:  # mmseg, mmdet
        model.backbone.update(**arch, window_size=4)
    else:
        stages = 3 if model.type == 'SiameseEncoderDecoder' else 4
        arch = {k: v[:stages] if isinstance(v, list) else v for k, v in arch.items()}
        windows = dict(block_cfgs=dict(window_size=2))
        model.backbone.update(arch=arch, stage_cfgs=windows, img_size=64)
    _set_channels(model, [8, 16, 32, 64])


def vit(model) -> None:
    """Make a task's model the tiny ViT, of another image size."""
    arch = dict(embed_dims=24, num_layers=4, num_heads=2, feedforward_channels=48)
    model.backbone.update(arch=arch, img_size=96)
    neck = model.get('neck')
    if neck:
        model.backbone.out_indices = (0, 1, 2, 3)
        (neck[0] if isinstance(neck, list) else neck).embed_dim = 24
    _set_channels(model, [24] * 4)


def _set_channels(model, channels: list[int]) -> None:
    if model.type == 'ImageClassifier':
        model.head.update(in_channels=channels[-1], num_classes=3)
    elif model.type == 'EncoderDecoder':
        model.decode_head.update(in_channels=channels, channels=8)
        model.auxiliary_head.update(in_channels=channels[2], channels=8)
    elif model.type == 'SiameseEncoderDecoder':
        model.decode_head.in_channels = channels[2]
    else:
        neck = model.neck[1] if isinstance(model.neck, list) else model.neck
        neck.in_channels = channels


def task_model(task: str, backbone: str, shrink, checkpoint: Path) -> nn.Module:
    """A task's model, its backbone initialised from a file."""
    importlib.import_module('cmid_mm.models.change_detectors')
    model = Config.fromfile(BASES / f'{task}_{backbone}.py').model
    shrink(model)
    model.backbone.init_cfg = dict(type='PretrainedBackbone', checkpoint=checkpoint)
    scope = SCOPES[task]
    init_default_scope(scope)
    models = importlib.import_module(f'{scope}.registry').MODELS
    model = revert_sync_batchnorm(models.build(model))
    model.init_weights()
    return model.eval()


@pytest.mark.parametrize('task', SCOPES)
@pytest.mark.parametrize(
    ('name', 'backbone', 'shrink'),
    [
        ('mocov2_r18_scenes', 'r50', resnet),
        ('simmim_swin-tiny_scenes', 'swin-b', swin),
        ('mae_vit-tiny_scenes', 'vit-b', vit),
    ],
)
@torch.no_grad()
def test_backbone_goes_into_every_task(name, backbone, shrink, task, tmp_path):
    if task == 'oriented-rcnn':
        pytest.importorskip('mmrotate')
    cfg = toy_baseline(name)
    source = build(cfg)
    for value in source.state_dict().values():
        if value.is_floating_point():
            value.add_(0.1 * torch.rand_like(value))
    content = dict(meta=dict(cfg=cfg.pretty_text), state_dict=source.state_dict())
    torch.save(content, tmp_path / 'run.pth')
    meta = export_backbone(tmp_path / 'run.pth', tmp_path / 'backbone.pth')
    assert meta['mean'] == cfg.data_preprocessor.mean

    model = task_model(task, backbone, shrink, tmp_path / 'backbone.pth')
    images = torch.randn(2, 6 if task == 'bit' else 3, 64, 64)
    features = model.extract_feat(images)[0]
    features = features[0] if task == 'bit' else features  # of the first date
    assert features.isfinite().all()
    own, exported = model.backbone.state_dict(), source.backbone.state_dict()
    same = [
        key for key in own if key in exported and own[key].shape == exported[key].shape
    ]
    assert len(same) > 0.8 * len(own)
    assert all(torch.equal(own[key], exported[key]) for key in same)
