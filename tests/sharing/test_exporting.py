# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Exported networks compute what the models do, and predict the same maps."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from mmengine.config import Config
from mmengine.model import BaseModule
from mmengine.registry import MODELS, DefaultScope
from rasterio.transform import from_origin
from torch import nn

from cmid_mm.checkpoints import CheckpointError
from cmid_mm.configs import build_model, load_config
from cmid_mm.inference import Inferencer
from cmid_mm.inference.exported import ExportedNetworkError, side_car
from cmid_mm.inference.segmentation import Probabilities
from cmid_mm.sharing import exporting, graphs
from cmid_mm.sharing.exporting import ExportError, export_network
from tests.toy import toy_bit

SLOW = pytest.mark.slow
ROOT = Path(__file__).parents[2]
BANDS = 5
PLACE = dict(crs='EPSG:32650', transform=from_origin(5e5, 3e6, 0.5, 0.5))
LOADING = dict(bands=[5, 4, 3, 2, 1], value_range=(0, 4000))
STATISTICS = dict(mean=[90.0, 80, 70, 60, 50], std=[40.0] * 5)


@MODELS.register_module()
class TwoStages(BaseModule):
    """Two convolutions, of which the second sees half of the pixels."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, stride=2, padding=1)

    def forward(self, images):
        first = self.first(images).relu()
        return first, self.second(first).relu()


def config(task, **model):
    """A config of a task on images of five bands."""
    scope, kind, loader = 'mmseg', 'MultiBandSegPreprocessor', 'LoadImagery'
    packing = 'PackSegInputs'
    head = dict(
        type='FCNHead', num_convs=0, concat_input=False, in_channels=8, channels=8
    )
    whole = dict(
        type='EncoderDecoder',
        backbone=dict(type='TwoStages', in_channels=BANDS),
        decode_head=dict(head, in_index=1, num_classes=3, align_corners=False),
        test_cfg=dict(mode='whole'),
    )
    classes = ('road', 'house', 'tree')
    if task == 'change':
        kind, loader = 'BitemporalPreprocessor', 'LoadImagePair'
        whole = toy_bit(BANDS, 4)
        classes = ('unchanged', 'changed')
    preprocessor = dict(type=kind, **STATISTICS)
    if task == 'classification':
        scope, packing = 'mmpretrain', 'PackInputs'
        whole = dict(
            type='ImageClassifier',
            backbone=dict(type='TwoStages', in_channels=BANDS),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=3, in_channels=8),
        )
        preprocessor = STATISTICS
    steps = [dict(type=loader, **LOADING), dict(type=packing)]
    if task == 'classification':
        steps.insert(1, dict(type='Resize', scale=(48, 40)))
    dataset = dict(
        type='BaseDataset',
        metainfo=dict(classes=classes, palette=[[0, 0, 0], [9, 9, 9], [99, 0, 0]]),
        window=48,
        pipeline=steps,
    )
    return Config(
        dict(
            default_scope=scope,
            model={**whole, 'data_preprocessor': preprocessor, **model},
            test_dataloader=dict(dataset=dataset),
        )
    )


@torch.no_grad()
def save_model(path, cfg):
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = build_model(cfg)
    for name, value in model.named_parameters():
        if value.ndim > 1:
            nn.init.xavier_normal_(value, 3 if 'backbone' not in name else 1)
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)


@pytest.fixture
def scenes(tmp_path):
    """Two dates of a scene, 110 x 90 pixels of five bands, some without data."""
    paths = []
    for seed, name in enumerate(('a', 'b')):
        coarse = np.random.default_rng(seed).integers(1, 4500, (BANDS, 12, 10))
        pixels = coarse.repeat(10, 1).repeat(10, 2)[:, :110, :90].astype(np.uint16)
        pixels[:, 50:60, 20:] = 0
        paths.append(tmp_path / f'{name}.tif')
        shape = dict(height=110, width=90, count=BANDS, dtype='uint16', nodata=0)
        with rasterio.open(paths[-1], 'w', driver='GTiff', **shape, **PLACE) as file:
            file.write(pixels)
    return paths


def read(path):
    with rasterio.open(path) as file:
        return file.read()


def maps(inferencer, images, folder):
    """Mask and probabilities in the file of an image."""
    inferencer.task.probabilities = Probabilities('classes', 16)
    saved = list(inferencer.predict_to(folder, images, batch_size=3))
    assert len(saved) == 1
    return read(folder / 'a.tif'), read(folder / 'a_prob.tif').astype(int)


@pytest.mark.parametrize(
    ('task', 'ending'),
    [
        pytest.param('segmentation', '.onnx', marks=SLOW),
        ('segmentation', '.pt2'),
        pytest.param('change', '.onnx', marks=SLOW),
        pytest.param('change', '.pt2', marks=SLOW),
    ],
)
def test_maps_of_exported_networks_are_those_of_the_model(
    tmp_path, scenes, task, ending
):
    cfg, checkpoint = config(task), tmp_path / 'run.pth'
    save_model(checkpoint, cfg)
    images = [tuple(scenes)] if task == 'change' else scenes[:1]
    named = scenes if task == 'change' else scenes[:1]
    target = tmp_path / f'net{ending}'
    said = export_network(cfg, checkpoint, target, named)
    assert said == json.loads(side_car(target).read_text())
    assert said['checked']['largest_difference'] < 1e-5
    channels = BANDS * (2 if task == 'change' else 1)
    assert said['input'] == ['batch', channels, 'height', 'width']
    assert said['bands']['bands'] == [5, 4, 3, 2, 1] and said['window'] == 48
    assert said['mean'][:5] == STATISTICS['mean']
    assert said['opset'] == (18 if ending == '.onnx' else None)

    expected = maps(Inferencer(cfg, checkpoint), images, tmp_path / 'model')
    exported = Inferencer.of_exported(target)
    found = maps(exported, images, tmp_path / 'exported')
    assert exported.task.classes == list(said['classes'])
    assert len(np.unique(expected[0])) > 2
    assert (expected[0] != found[0]).mean() < 1e-3
    assert abs(expected[1] - found[1]).max() <= 7  # of 65534


def test_scores_of_an_exported_classifier(tmp_path, scenes):
    cfg, checkpoint = config('classification'), tmp_path / 'run.pth'
    save_model(checkpoint, cfg)
    said = export_network(cfg, checkpoint, tmp_path / 'net.pt2', scenes)
    assert said['output'] == ['batch', 3] and said['task'] == 'classification'
    for expected, found in zip(
        Inferencer(cfg, checkpoint)(scenes),
        Inferencer.of_exported(tmp_path / 'net.pt2')(scenes),
        strict=True,
    ):
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
        assert found.best[0][0] == expected.best[0][0]


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    """A segmentor as a program of torch.export, and its config and checkpoint."""
    folder = tmp_path_factory.mktemp('exported')
    cfg = config('segmentation')
    save_model(folder / 'run.pth', cfg)
    pixels = np.random.default_rng(0).integers(0, 4000, (BANDS, 64, 64), np.uint16)
    shape = dict(height=64, width=64, count=BANDS, dtype='uint16')
    with rasterio.open(folder / 'a.tif', 'w', driver='GTiff', **shape) as file:
        file.write(pixels)
    export_network(cfg, folder / 'run.pth', folder / 'net.pt2', [folder / 'a.tif'])
    return folder


def test_export_that_differs_is_refused(tmp_path, exported, monkeypatch):
    monkeypatch.setattr(exporting, 'traceable', Wrong)
    arguments = (config('segmentation'), exported / 'run.pth', tmp_path / 'net.pt2')
    with pytest.raises(ExportError, match='differs from the model by .* 0.0001'):
        export_network(*arguments, [exported / 'a.tif'])
    assert not list(tmp_path.iterdir())


class Wrong(nn.Module):
    """A network that is off by a little."""

    def __init__(self, right):
        super().__init__()
        self.right = right

    def forward(self, images):
        return 1.001 * self.right(images)


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (lambda said: said.update(sha256='00' * 32), 'belongs to another file'),
        (lambda said: said.pop('task'), "no side-car of cmid-mm export: 'task'"),
        (lambda said: said.update(task='backbone'), 'a backbone, which predicts'),
        (
            lambda said: said['config']['model'].update(type='os.system'),
            "'os.system' is no registered name",
        ),
    ],
)
def test_side_car_that_does_not_suit_is_refused(tmp_path, exported, damage, message):
    target = tmp_path / 'net.pt2'
    target.write_bytes((exported / 'net.pt2').read_bytes())
    with pytest.raises(ExportedNetworkError, match='json is missing'):
        Inferencer.of_exported(target)
    said = json.loads(side_car(exported / 'net.pt2').read_text())
    damage(said)
    side_car(target).write_text(json.dumps(said))
    with pytest.raises(ExportedNetworkError, match=message):
        Inferencer.of_exported(target)


def test_what_is_no_exported_network_is_refused(tmp_path, exported):
    with pytest.raises(ExportedNetworkError, match='expected a file ending in .onnx'):
        Inferencer.of_exported(exported / 'run.pth')
    with pytest.raises(ExportedNetworkError, match='none.onnx does not exist; expec'):
        Inferencer.of_exported(tmp_path / 'none.onnx')
    with pytest.raises(ExportError, match='expected a name in .onnx or .pt2'):
        export_network(config('segmentation'), 'a', tmp_path / 'net.pth', [])
    with pytest.raises(ExportError, match='--size 0: expected a number of pixels'):
        export_network(config('segmentation'), 'a', tmp_path / 'n.pt2', [], size=0)


def test_commands(tmp_path, exported, monkeypatch, capsys):
    cfg = config('segmentation')
    cfg.dump(tmp_path / 'config.py')

    def run(tool, *arguments):
        script = str(ROOT / 'tools' / tool)
        monkeypatch.setattr('sys.argv', [script, *map(str, arguments)])
        runpy.run_path(script, run_name='__main__')

    files = tmp_path / 'config.py', exported / 'run.pth', tmp_path / 'n.pt2'
    run('export.py', *files, '--images', exported / 'a.tif')
    assert 'segmentation, input batch x 5 x height x width' in capsys.readouterr().out
    run(
        'predict.py', '--onnx', files[2], exported / 'a.tif', '--out', tmp_path / 'maps'
    )
    assert {p.name for p in (tmp_path / 'maps').iterdir()} == {'a.png', 'a_overlay.jpg'}
    with pytest.raises(SystemExit, match='--half .*not for exported networks'):
        run(
            'predict.py',
            exported / 'a.tif',
            '--out',
            'x',
            f'--onnx={files[2]}',
            '--half',
        )


@pytest.mark.parametrize('cells', [1, (3, 2)])
@pytest.mark.parametrize('size', [(7, 5), (12, 18), (2, 3)])
def test_pools_are_pytorchs(cells, size):
    module = nn.Sequential(nn.AdaptiveAvgPool2d(cells))
    features = torch.randn(2, 4, *size)
    ours = graphs.traceable(module)(features)
    torch.testing.assert_close(ours, module(features))


def test_windows_of_swin_are_joined_as_mmpretrain_joins_them():
    from mmpretrain.models.utils import ShiftWindowMSA

    windows = torch.randn(2 * 6, 4, 4, 5)
    expected = ShiftWindowMSA.window_reverse(windows, 8, 12, 4)
    found = graphs._join_windows(None, windows, 8, 12, 4)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


SCOPE = dict(default_scope='mmpretrain')
ALL = dict(out_indices=(0, 1, 2, 3))
SWIN = dict(embed_dims=8, depths=[1, 2, 2, 1], num_heads=[1, 2, 2, 2])
VIT = dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=24)
RVSA = dict(embed_dims=32, depth=4, num_heads=4, img_size=64, interval=3)
BACKBONES = {
    'resnet18': dict(type='ResNet', depth=18, base_channels=8),
    'resnet50': dict(type='ResNet', depth=50, stem_channels=16, base_channels=4),
    'swin': dict(type='SwinTransformer', arch=SWIN, pad_small_map=True),
    'vit': dict(
        type='VisionTransformer',
        arch=VIT,
        img_size=64,
        patch_size=8,
        out_type='featmap',
    ),
    'convnext': dict(
        type='ConvNeXt',
        arch=dict(depths=[1, 1, 2, 1], channels=[4, 4, 8, 8]),
        gap_before_final_norm=False,
    ),
    'rvsa': dict(type='RVSAViT', **RVSA),
    'rvsa vitae': dict(type='RVSAViTAE', **RVSA),
}


@SLOW
@pytest.mark.parametrize('ending', ['.onnx', '.pt2'])
@pytest.mark.parametrize('name', BACKBONES)
def test_backbone_of_every_family(tmp_path, scenes, name, ending):
    backbone = {**BACKBONES[name], **ALL, 'in_channels': BANDS}
    save_backbone(tmp_path / 'run.pth', backbone)
    pretraining = Config(dict(SCOPE, model=dict(backbone=backbone)))
    target = tmp_path / f'net{ending}'
    convolutional = name in ('resnet18', 'resnet50', 'convnext')
    size = 96 if convolutional else 64  # the former are checked at 72 too
    said = export_network(pretraining, tmp_path / 'run.pth', target, scenes, size=size)
    assert said['task'] == 'backbone' and len(said['output']) == 4
    sides = ['height', 'width'] if convolutional else [64, 64]
    assert said['input'] == ['batch', BANDS, *sides]
    assert said['checked']['images'] == 2
    assert said['checked']['largest_difference'] < 1e-5
    assert said['bands']['bands'] == [5, 4, 3, 2, 1]


def test_a_config_of_another_backbone_is_refused(tmp_path, scenes):
    save_backbone(tmp_path / 'run.pth', {**BACKBONES['resnet18'], 'in_channels': BANDS})
    target = tmp_path / 'net.pt2'
    for name, bands, match in (
        ('swin', BANDS, 'the file holds a ResNet-18 .* the module is a Swin'),
        ('resnet50', BANDS, 'the file holds a ResNet-18, the module is a ResNet-50'),
        ('resnet18', 3, f'the file has {BANDS}, the module 3'),
    ):
        backbone = {**BACKBONES[name], 'in_channels': bands}
        other = Config(dict(SCOPE, model=dict(backbone=backbone)))
        with pytest.raises(CheckpointError, match=match):
            export_network(other, tmp_path / 'run.pth', target, scenes)
        assert not target.exists()


def test_what_a_checkpoint_does_not_tell_is_the_configs(tmp_path, scenes):
    backbone = {**BACKBONES['resnet18'], 'in_channels': BANDS}
    save_backbone(tmp_path / 'run.pth', backbone)
    run = torch.load(tmp_path / 'run.pth', weights_only=True)
    torch.save(dict(state_dict=run['state_dict']), tmp_path / 'bare.pth')
    pipeline = [dict(type='LoadImagery', **LOADING, size=64)]
    cfg = Config(
        dict(
            SCOPE,
            model=dict(encoder=dict(backbone=backbone), data_preprocessor=STATISTICS),
            train_dataloader=dict(dataset=dict(pipeline=pipeline)),
        )
    )
    arguments = cfg, tmp_path / 'bare.pth', scenes, 'student', 64
    _, samples, said = exporting._backbone(*arguments)
    assert samples[0].shape == (1, BANDS, 64, 64)
    assert (said['mean'], said['std']) == (STATISTICS['mean'], STATISTICS['std'])
    assert said['bands']['bands'] == [5, 4, 3, 2, 1]
    assert said['bands']['value_range'] == [0, 4000] and said['bands']['size'] is None
    del cfg.model['data_preprocessor']
    with pytest.raises(ExportError, match=r'bare.pth nor the config tells how images'):
        exporting._backbone(*arguments)


@torch.no_grad()
def save_backbone(path, backbone):
    torch.manual_seed(0)
    network = MODELS.build(backbone)
    pipeline = [dict(type='LoadImagery', **LOADING)]
    cfg = Config(
        dict(
            model=dict(backbone=backbone, data_preprocessor=STATISTICS),
            train_dataloader=dict(dataset=dict(pipeline=pipeline)),
        )
    ).pretty_text
    state = {f'student.backbone.{k}': v for k, v in network.state_dict().items()}
    torch.save(dict(meta=dict(cfg=cfg), state_dict=state), path)


@SLOW
@pytest.mark.parametrize('ending', ['.onnx', '.pt2'])
@pytest.mark.parametrize('name', ['resnet18', 'swin'])
def test_upernet(tmp_path, scenes, name, ending):
    backbone = {**BACKBONES[name], **ALL, 'in_channels': BANDS}
    kind = f'mmpretrain.{backbone["type"]}'
    head = dict(
        type='UPerHead',
        in_channels=[8, 16, 32, 64],
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=8,
        num_classes=3,
        align_corners=False,
    )
    cfg = config('segmentation', backbone={**backbone, 'type': kind}, decode_head=head)
    save_model(tmp_path / 'run.pth', cfg)
    target = tmp_path / f'net{ending}'
    export_network(cfg, tmp_path / 'run.pth', target, scenes)
    expected = maps(Inferencer(cfg, tmp_path / 'run.pth'), scenes[:1], tmp_path / 'a')
    found = maps(Inferencer.of_exported(target), scenes[:1], tmp_path / 'b')
    assert (expected[0] != found[0]).mean() < 1e-3
    assert abs(expected[1] - found[1]).max() <= 7  # of 65534
    if name == 'swin':
        with pytest.raises(ExportedNetworkError, match='48 x 48 pixels alone, got 32'):
            Inferencer.of_exported(target)(scenes[0], window=32)


@SLOW
def test_detectors_are_refused_by_name(tmp_path, scenes):
    pytest.importorskip('mmrotate')
    cfg = load_config('configs/detection/oriented-rcnn_r18_demo.py')
    model = build_model(cfg)
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'run.pth')
    arguments = cfg, tmp_path / 'run.pth', tmp_path / 'net.pt2', scenes
    with pytest.raises(
        ExportError, match='FasterRCNN cannot be exported: .*--backbone'
    ):
        export_network(*arguments)
