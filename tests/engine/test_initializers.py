# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import copy
import pickle
import weakref
from pathlib import Path

import mmdet.registry
import mmpretrain.registry
import mmseg.registry
import pytest
import torch
from mmdet.utils import register_all_modules as register_mmdet
from mmengine.config import Config
from mmengine.model import BaseModule, ExponentialMovingAverage, initialize
from mmengine.registry import WEIGHT_INITIALIZERS, DefaultScope
from mmpretrain.models import ResNet, SwinTransformer, VisionTransformer
from mmseg.utils import register_all_modules as register_mmseg
from torch import nn

import cmid_mm  # noqa: F401
from cmid_mm.checkpoints import CheckpointError, match_backbone
from cmid_mm.engine import initializers
from cmid_mm.engine.backbone_checkpoint import set_backbone_checkpoint
from cmid_mm.engine.initializers import PretrainedBackbone, check_backbones
from tests.toy import toy_config

REGISTRIES = dict(
    mmpretrain=mmpretrain.registry.MODELS,
    mmseg=mmseg.registry.MODELS,
    mmdet=mmdet.registry.MODELS,
)
SWIN = dict(embed_dims=8, depths=[1, 1, 2, 1], num_heads=[1, 2, 2, 2])
VIT = dict(embed_dims=8, num_layers=2, num_heads=2, feedforward_channels=16)


@pytest.fixture(autouse=True, scope='module')
def backbones_of_every_library():
    register_mmseg(init_default_scope=False)
    register_mmdet(init_default_scope=False)


@pytest.fixture(params=list(REGISTRIES))
def scope(request):
    with DefaultScope.overwrite_default_scope(request.param):
        yield request.param


@torch.no_grad()
def save_run(path, backbone: nn.Module) -> dict[str, torch.Tensor]:
    """Save a run whose student and teacher differ; returns the student's weights."""
    torch.manual_seed(0)
    for value in backbone.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.5, 1)
    state = backbone.state_dict()
    teacher = {f'teacher.{k}': v + 1 for k, v in state.items()}
    student = {f'student.backbone.{k}': v for k, v in state.items()}
    torch.save(dict(state_dict={**student, **teacher}), path)
    return state


def swin_config(scope: str, **kwargs) -> dict:
    if scope == 'mmpretrain':
        return dict(type='SwinTransformer', arch=SWIN, **kwargs)
    return dict(type='SwinTransformer', **SWIN, **kwargs)


class Parent(BaseModule):
    """A model around a backbone, as a segmentor or detector."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(1, 1)


@pytest.mark.parametrize('inside', [False, True])
def test_resnet_of_every_scope(tmp_path, scope, inside):
    # ResNet 50 has the residual norms that mmpretrain zeroes after initialising.
    source = ResNet(50, stem_channels=8, base_channels=4)
    path = tmp_path / 'run.pth'
    expected = save_run(path, source)
    backbone = REGISTRIES[scope].build(
        dict(
            type='ResNet',
            depth=50,
            stem_channels=8,
            base_channels=4,
            init_cfg=dict(type='PretrainedBackbone', checkpoint=str(path)),
        )
    )
    (Parent(backbone) if inside else backbone).init_weights()
    torch.testing.assert_close(dict(backbone.state_dict()), dict(expected))
    assert backbone.is_init


@pytest.mark.parametrize('inside', [False, True])
def test_swin_of_every_scope(tmp_path, scope, inside):
    path = tmp_path / 'run.pth'
    expected = save_run(path, SwinTransformer(SWIN))
    backbone = REGISTRIES[scope].build(
        swin_config(
            scope,
            out_indices=(0, 1, 2, 3),
            init_cfg=dict(type='PretrainedBackbone', checkpoint=str(path)),
        )
    )
    (Parent(backbone) if inside else backbone).init_weights()
    state = backbone.state_dict()
    torch.testing.assert_close({k: state[k] for k in expected}, dict(expected))
    assert state['norm0.weight'].eq(1).all() and state['norm0.bias'].eq(0).all()


def test_nothing_fits_is_an_error_in_every_scope(tmp_path, scope):
    torch.save(dict(state_dict={'head.weight': torch.ones(1)}), tmp_path / 'head.pth')
    init_cfg = dict(type='PretrainedBackbone', checkpoint=str(tmp_path / 'head.pth'))
    backbone = REGISTRIES[scope].build(swin_config(scope, init_cfg=init_cfg))
    with pytest.raises(CheckpointError, match='no weight of SwinTransformer'):
        backbone.init_weights()


def test_position_embedding_of_vit_is_kept(tmp_path):
    path = tmp_path / 'run.pth'
    expected = save_run(path, VisionTransformer(VIT, img_size=32))
    init_cfg = dict(type='PretrainedBackbone', checkpoint=str(path))
    backbone = VisionTransformer(VIT, img_size=32, init_cfg=init_cfg)
    backbone.init_weights()
    torch.testing.assert_close(dict(backbone.state_dict()), dict(expected))


def tiny_resnet(path, **kwargs) -> ResNet:
    init_cfg = dict(type='PretrainedBackbone', checkpoint=str(path), **kwargs)
    return ResNet(18, stem_channels=8, base_channels=8, init_cfg=init_cfg)


def test_teacher(tmp_path):
    source = ResNet(18, stem_channels=8, base_channels=8)
    expected = save_run(tmp_path / 'run.pth', source)
    backbone = tiny_resnet(tmp_path / 'run.pth', source='teacher')
    backbone.init_weights()
    torch.testing.assert_close(backbone.conv1.weight, expected['conv1.weight'] + 1)


def test_checkpoint_comes_after_other_initialisers(tmp_path):
    source = ResNet(18, stem_channels=8, base_channels=8)
    expected = save_run(tmp_path / 'run.pth', source)
    pretrained = dict(
        type='mmengine.PretrainedBackbone', checkpoint=str(tmp_path / 'run.pth')
    )
    constant = dict(type='Constant', layer='Conv2d', val=3.0)
    backbone = ResNet(
        18, stem_channels=8, base_channels=8, init_cfg=[pretrained, constant]
    )
    backbone.init_weights()
    torch.testing.assert_close(backbone.conv1.weight, expected['conv1.weight'])


def test_by_class_and_copied(tmp_path):
    source = ResNet(18, stem_channels=8, base_channels=8)
    expected = save_run(tmp_path / 'run.pth', source)
    init_cfg = dict(type=PretrainedBackbone, checkpoint=str(tmp_path / 'run.pth'))
    backbone = ResNet(18, stem_channels=8, base_channels=8, init_cfg=init_cfg)
    twin = copy.deepcopy(backbone)
    twin.init_weights()
    torch.testing.assert_close(twin.conv1.weight, expected['conv1.weight'])
    assert not torch.equal(backbone.conv1.weight, twin.conv1.weight)
    assert isinstance(pickle.loads(pickle.dumps(twin)), ResNet)


def test_found_in_the_root_registry_and_by_initialize(tmp_path):
    assert WEIGHT_INITIALIZERS.get('PretrainedBackbone') is PretrainedBackbone
    source = ResNet(18, stem_channels=8, base_channels=8)
    expected = save_run(tmp_path / 'run.pth', source)
    backbone = ResNet(18, stem_channels=8, base_channels=8)
    path = str(tmp_path / 'run.pth')
    initialize(backbone, dict(type='PretrainedBackbone', checkpoint=path))
    torch.testing.assert_close(backbone.conv1.weight, expected['conv1.weight'])


def test_other_modules_keep_their_method():
    backbone = ResNet(18, stem_channels=8, base_channels=8)
    assert 'init_weights' not in vars(backbone)
    backbone.init_weights()
    assert backbone.layer1[0].bn2.weight.eq(0).all()  # mmpretrain's own default


@pytest.fixture
def reads(monkeypatch):
    """The files that are read, one entry each time."""
    paths = []

    def counting_load(path, *args, **kwargs):
        paths.append(Path(path).name)
        return load(path, *args, **kwargs)

    load = torch.load
    monkeypatch.setattr(torch, 'load', counting_load)
    return paths


@pytest.mark.parametrize('pretraining', [False, True])
def test_read_and_matched_once_a_start(tmp_path, reads, monkeypatch, pretraining):
    source = ResNet(18, stem_channels=8, base_channels=8)
    expected = save_run(tmp_path / 'run.pth', source)
    cfg = Config(dict(model=toy_config()))
    if not pretraining:
        cfg.model = dict(type='Parent', backbone=cfg.model.encoder.backbone)
    set_backbone_checkpoint(cfg, str(tmp_path / 'run.pth'))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        if pretraining:
            model = mmpretrain.registry.MODELS.build(cfg.model)
        else:
            model = Parent(mmpretrain.registry.MODELS.build(cfg.model.backbone))
    kept = []

    def matched(*args):
        kept.append(match_backbone(*args))
        return kept[-1]

    monkeypatch.setattr(initializers, 'match_backbone', matched)
    (report,) = check_backbones(model)
    assert report.loaded == len(expected)
    state = dict(next(iter(initializers._matched.values()))[0])
    kept_tensor = weakref.ref(state['conv1.weight'])
    del state
    assert kept_tensor() is not None
    model.init_weights()
    assert len(kept) == 1
    assert reads == ['run.pth']
    assert kept_tensor() is None and not initializers._matched
    student = model.student.backbone if pretraining else model.backbone
    torch.testing.assert_close(dict(student.state_dict()), dict(expected))
    if pretraining:
        torch.testing.assert_close(dict(model.teacher.state_dict()), dict(expected))


def test_moving_averages_ask_for_no_file(tmp_path):
    save_run(tmp_path / 'run.pth', ResNet(18, stem_channels=8, base_channels=8))
    model = Parent(tiny_resnet(tmp_path / 'run.pth'))
    model.average = ExponentialMovingAverage(model.backbone)
    assert len(check_backbones(model)) == 1


def test_file_may_change_between_check_and_start(tmp_path):
    source = ResNet(18, stem_channels=8, base_channels=8)
    expected = save_run(tmp_path / 'run.pth', source)
    model = Parent(tiny_resnet(tmp_path / 'run.pth'))
    check_backbones(model)
    (tmp_path / 'run.pth').write_bytes(b'')
    model.init_weights()
    torch.testing.assert_close(model.backbone.conv1.weight, expected['conv1.weight'])


def test_stem_for_other_bands(tmp_path):
    source = ResNet(18, stem_channels=8, base_channels=8)
    expected = save_run(tmp_path / 'run.pth', source)
    init_cfg = dict(
        type='PretrainedBackbone', checkpoint=str(tmp_path / 'run.pth'), stem='first'
    )
    backbone = ResNet(
        18, in_channels=5, stem_channels=8, base_channels=8, init_cfg=init_cfg
    )
    (report,) = check_backbones(backbone)
    backbone.init_weights()
    assert 'made for 5 bands' in report.stem
    assert torch.equal(backbone.conv1.weight[:, :3], expected['conv1.weight'])
    assert not backbone.conv1.weight[:, 3:].any()


def test_checked_before_training(tmp_path):
    save_run(tmp_path / 'run.pth', ResNet(18, stem_channels=8, base_channels=8))
    model = Parent(tiny_resnet(tmp_path / 'run.pth'))
    before = model.backbone.conv1.weight.clone()
    check_backbones(model)
    assert torch.equal(model.backbone.conv1.weight, before)
    save_run(tmp_path / 'run.pth', ResNet(34, stem_channels=8, base_channels=8))
    with pytest.raises(CheckpointError, match='holds a ResNet-34'):
        check_backbones(nn.ModuleDict(dict(module=model)))
    torch.save({'backbone.conv1.weight': torch.ones(1)}, tmp_path / 'run.pth')
    with pytest.raises(CheckpointError, match='no teacher backbone'):
        check_backbones(tiny_resnet(tmp_path / 'run.pth', source='teacher'))
