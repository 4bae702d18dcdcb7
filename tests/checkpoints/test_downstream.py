# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The published fine-tuned networks: documented names and shapes, our numbers.

Backbones are those of the published tables of names. Heads have the names of the
projects that made them: a linear layer, UperNet of mmseg 0.x, Oriented R-CNN of
mmrotate 0.3, BIT of its release. All tensors are windows into one block of memory, so
that files and models of full size stay small.
"""

import runpy
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from cmid_mm.checkpoints import CheckpointError, convert_checkpoint, read_checkpoint
from cmid_mm.checkpoints.downstream import _WithoutNumbers
from cmid_mm.configs import build_model, load_config

ROOT = Path(__file__).parents[2]
Shapes = dict[str, tuple[int, ...]]
BLOCK = torch.rand(20_000, generator=torch.manual_seed(0))


def numbers(shapes: Shapes) -> dict[str, Tensor]:
    state = {}
    for index, (name, shape) in enumerate(shapes.items()):
        is_integer = name.endswith(('num_batches_tracked', 'position_index'))
        state[name] = (
            torch.full(shape, index)
            if is_integer
            # All strides are 1: rows overlap.
            else BLOCK.as_strided(shape, (1,) * len(shape), index)
        )
    return state


def conv(name: str, inputs: int, outputs: int, side: int, bias: bool = True) -> Shapes:
    shapes = {f'{name}.weight': (outputs, inputs, side, side)}
    return {**shapes, f'{name}.bias': (outputs,)} if bias else shapes


def linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f'{name}.weight': (outputs, inputs), f'{name}.bias': (outputs,)}


def norm(name: str, width: int) -> Shapes:
    return {f'{name}.weight': (width,), f'{name}.bias': (width,)}


def batch_norm(name: str, width: int) -> Shapes:
    buffers = {f'{name}.{kind}': (width,) for kind in ('running_mean', 'running_var')}
    return {**norm(name, width), **buffers, f'{name}.num_batches_tracked': ()}


def conv_module(name: str, inputs: int, outputs: int, side: int) -> Shapes:
    return conv(f'{name}.conv', inputs, outputs, side, bias=False) | batch_norm(
        f'{name}.bn', outputs
    )


def listed(name: str, prefix: str = '') -> Shapes:
    """Names behind a prefix in a published table."""
    shapes = {}
    table = ROOT / f'tests/data/official_keys/{name}.tsv'
    for line in table.read_text().splitlines():
        key, size, _ = line.split('\t')
        if key.startswith(prefix) and not key.startswith('head.'):
            shape = [] if size == 'scalar' else [int(side) for side in size.split('x')]
            shapes[key.removeprefix(prefix)] = tuple(shape)
    return shapes


def resnet50(task: str) -> Shapes:
    shapes = listed('r50', 'online_encoder.model.')
    # torchvision's classifier stays in the network, unused.
    return shapes | linear('fc', 2048, 1000) if task == 'change' else shapes


def swin_b(task: str) -> Shapes:
    norms: Shapes = {}
    for stage in range(3):
        norms |= norm(f'norm{stage}', 128 * 2**stage)
    shapes = listed('swin_b', 'online_encoder.model.')
    return shapes if task == 'scenes' else norms | shapes


def rvsa(name: str) -> Callable[[str], Shapes]:
    def build(task: str) -> Shapes:
        side = dict(scenes=14, change=16, segmentation=32, detection=64)[task]
        dense = task in ('segmentation', 'detection')
        shapes = listed(f'{name}_b_rvsa')
        for key in shapes:
            attention = key.removesuffix('rel_pos_h').removesuffix('rel_pos_w')
            is_global = f'{attention}sampling_angles.2.weight' not in shapes
            if attention != key and is_global:
                shapes[key] = (2 * side - 1, 64)
        # Those of dense tasks have no place for a class token, and a pyramid.
        shapes['pos_embed'] = (1, side**2 + (not dense), 768)
        if dense:
            del shapes['norm.weight'], shapes['norm.bias']
            for layer in ('fpn1.0', 'fpn1.3', 'fpn2.0'):
                shapes |= conv(layer, 768, 768, 2)
            shapes |= norm('fpn1.1.ln', 768)
        return shapes

    return build


BACKBONES = {
    'r50': (resnet50, (256, 512, 1024, 2048)),
    'swin-b': (swin_b, (128, 256, 512, 1024)),
    'rvsa-vit-b': (rvsa('vit'), (768,) * 4),
    'rvsa-vitae-b': (rvsa('vitae'), (768,) * 4),
}


def upernet(widths: tuple[int, ...], classes: int = 5) -> Shapes:
    head = 'decode_head'
    shapes = conv(f'{head}.conv_seg', 512, classes, 1)
    for index in range(4):
        shapes |= conv_module(f'{head}.psp_modules.{index}.1', widths[3], 512, 1)
    shapes |= conv_module(f'{head}.bottleneck', widths[3] + 4 * 512, 512, 3)
    for index in range(3):
        shapes |= conv_module(f'{head}.lateral_convs.{index}', widths[index], 512, 1)
        shapes |= conv_module(f'{head}.fpn_convs.{index}', 512, 512, 3)
    shapes |= conv_module(f'{head}.fpn_bottleneck', 4 * 512, 512, 3)
    shapes |= conv('auxiliary_head.conv_seg', 256, classes, 1)
    return shapes | conv_module('auxiliary_head.convs.0', widths[2], 256, 3)


def oriented_rcnn(widths: tuple[int, ...], classes: int = 15) -> Shapes:
    shapes: Shapes = {}
    for index, width in enumerate(widths):
        shapes |= conv(f'neck.lateral_convs.{index}.conv', width, 256, 1)
        shapes |= conv(f'neck.fpn_convs.{index}.conv', 256, 256, 3)
    shapes |= conv('rpn_head.rpn_conv', 256, 256, 3)
    shapes |= conv('rpn_head.rpn_cls', 256, 3, 1)
    shapes |= conv('rpn_head.rpn_reg', 256, 3 * 6, 1)
    head = 'roi_head.bbox_head'
    shapes |= linear(f'{head}.shared_fcs.0', 256 * 7 * 7, 1024)
    shapes |= linear(f'{head}.shared_fcs.1', 1024, 1024)
    shapes |= linear(f'{head}.fc_cls', 1024, classes + 1)
    return shapes | linear(f'{head}.fc_reg', 1024, 5)


def bit(width: int) -> Shapes:
    shapes: Shapes = {'pos_embedding': (1, 8, 32)}
    shapes |= conv('conv_pred', width, 32, 3) | conv('conv_a', 32, 4, 1, bias=False)
    for blocks, depth in (('transformer', 1), ('transformer_decoder', 8)):
        for index in range(depth):
            block = f'{blocks}.layers.{index}'
            shapes |= norm(f'{block}.0.fn.norm', 32)
            if blocks == 'transformer':
                shapes[f'{block}.0.fn.fn.to_qkv.weight'] = (3 * 512, 32)
            else:
                for part in 'qkv':
                    shapes[f'{block}.0.fn.fn.to_{part}.weight'] = (512, 32)
            shapes |= linear(f'{block}.0.fn.fn.to_out.0', 512, 32)
            shapes |= norm(f'{block}.1.fn.norm', 32)
            shapes |= linear(f'{block}.1.fn.fn.net.0', 32, 64)
            shapes |= linear(f'{block}.1.fn.fn.net.3', 64, 32)
    shapes |= conv('classifier.0', 32, 32, 3, bias=False)
    return shapes | batch_norm('classifier.1', 32) | conv('classifier.3', 32, 2, 3)


POTSDAM = ('impervious_surface', 'building', 'low_vegetation', 'tree', 'car')
DOTA = (
    *('plane', 'baseball-diamond', 'bridge', 'ground-track-field', 'small-vehicle'),
    *('large-vehicle', 'ship', 'tennis-court', 'basketball-court', 'storage-tank'),
    *('soccer-ball-field', 'roundabout', 'harbor', 'swimming-pool', 'helicopter'),
)


class MetricStorage:
    """Stands for an object of the trainer's own."""

    def __init__(self) -> None:
        self.best = 99.22


class BASE_Transformer(nn.Module):
    """Stands for the class of which change detectors were saved whole."""


def tree(state: dict[str, Tensor], module: nn.Module) -> nn.Module:
    """Put tensors into modules inside each other, by their names."""
    for name, value in state.items():
        *path, last = name.split('.')
        owner = module
        for part in path:
            if part not in owner._modules:
                owner.add_module(part, nn.Module())
            owner = owner._modules[part]
        if last in ('running_mean', 'running_var') or not value.is_floating_point():
            owner.register_buffer(last, value)
        else:
            owner.register_parameter(last, nn.Parameter(value, requires_grad=False))
    return module


@pytest.fixture
def trainers(monkeypatch):
    """Other programs' names for these classes, for as long as a file is written."""
    for cls, home in (
        (MetricStorage, 'trainer'),
        (BASE_Transformer, 'models.networks'),
    ):
        monkeypatch.setattr(cls, '__module__', home)
        for name in {home, home.split('.')[0]}:
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        setattr(sys.modules[home], cls.__name__, cls)
    return monkeypatch


def network(task: str, backbone: str) -> dict[str, Tensor]:
    build, widths = BACKBONES[backbone]
    shapes = {f'backbone.{name}': shape for name, shape in build(task).items()}
    if task == 'scenes':
        shapes |= linear('cls_head', widths[3], 21)
    elif task == 'change':
        shapes |= bit(widths[2])
    else:
        shapes |= dict(segmentation=upernet, detection=oriented_rcnn)[task](widths)
    return numbers(shapes)


def saved(task: str, state: dict[str, Tensor]) -> object:
    """What the training of a task saves."""
    if task == 'scenes':
        return dict(
            epoch=200, num_gpus=1, model=state, optimizer={},
            metric_storage=MetricStorage(), hooks=[],
        )  # fmt: skip
    if task == 'change':
        return tree(state, BASE_Transformer())
    classes = POTSDAM if task == 'segmentation' else DOTA
    meta = dict(mmcv_version='1.6.0', CLASSES=classes, PALETTE=[[0, 0, 0]])
    return dict(meta=meta, state_dict=state, optimizer={})


CONFIGS = dict(
    scenes='classification/{}_ucmerced.py',
    segmentation='segmentation/upernet_{}_potsdam.py',
    detection='detection/oriented-rcnn_{}_dota.py',
    change='change_detection/bit_{}_cdd.py',
)
#: Where names of the head went, each with a part of the tensor that it holds.
SAMPLES = dict(
    scenes={'cls_head.bias': 'head.fc.bias'},
    segmentation={
        name: name
        for name in (
            'decode_head.fpn_bottleneck.bn.running_var',
            'auxiliary_head.convs.0.conv.weight',
        )
    },
    detection={
        name: name
        for name in ('rpn_head.rpn_reg.bias', 'roi_head.bbox_head.fc_cls.weight')
    },
    change={
        'pos_embedding': 'decode_head.position_embedding',
        'conv_pred.bias': 'decode_head.reduce.bias',
        'conv_a.weight': 'decode_head.tokenizer.weight',
        'transformer.layers.0.0.fn.norm.bias': (
            'decode_head.encoder.0.attention_norm.bias'
        ),
        'transformer_decoder.layers.7.0.fn.fn.to_k.weight': (
            'decode_head.decoder.7.attention.key.weight'
        ),
        'transformer_decoder.layers.3.0.fn.fn.to_out.0.bias': (
            'decode_head.decoder.3.attention.output.bias'
        ),
        'transformer_decoder.layers.3.1.fn.norm.weight': (
            'decode_head.decoder.3.feedforward_norm.weight'
        ),
        'transformer_decoder.layers.3.1.fn.fn.net.3.bias': (
            'decode_head.decoder.3.feedforward.2.bias'
        ),
        'classifier.0.weight': 'decode_head.refine.conv.weight',
        'classifier.1.running_mean': 'decode_head.refine.bn.running_mean',
        'classifier.3.bias': 'decode_head.conv_seg.bias',
    },
)


@pytest.mark.parametrize('backbone', BACKBONES)
@pytest.mark.parametrize('task', CONFIGS)
def test_our_config_loads_it_strictly(tmp_path, trainers, task, backbone):
    state = network(task, backbone)
    torch.save(saved(task, state), tmp_path / 'src.pth')
    trainers.undo()  # whoever reads the file lacks these classes
    meta = convert_checkpoint(tmp_path / 'src.pth', tmp_path / 'dst.pth')
    name = 'resnet50' if (task, backbone) == ('scenes', 'r50') else backbone
    assert meta['config'] == f'cmid_mm::{CONFIGS[task].format(name)}'
    assert meta['bands'] == 3

    with _WithoutNumbers():
        model = build_model(load_config(meta['config']))
    converted = read_checkpoint(tmp_path / 'dst.pth')
    model.load_state_dict(converted['state_dict'], strict=True, assign=True)
    loaded = model.state_dict()
    for theirs, ours in SAMPLES[task].items():
        assert torch.equal(loaded[ours], state[theirs]), ours
    for ours, value in loaded.items():
        if ours.startswith('backbone.') and ours != 'backbone.pos_embed':
            assert torch.equal(value, state[ours]), ours
    if task == 'change':
        names = ('query', 'key', 'value')
        parts = [
            loaded[f'decode_head.encoder.0.attention.{name}.weight'] for name in names
        ]
        fused = state['transformer.layers.0.0.fn.fn.to_qkv.weight']
        assert torch.equal(torch.cat(parts), fused)
        assert (meta['mean'], meta['std']) == ([0.0] * 3, [255.0] * 3)
    else:
        assert meta['mean'] == pytest.approx([86.182, 91.928, 85.374], abs=1e-3)
    if backbone.startswith('rvsa') and task in ('segmentation', 'detection'):
        table = loaded['backbone.pos_embed']
        assert not table[:, 0].any()
        assert torch.equal(table[:, 1:], state['backbone.pos_embed'])
    # What the network computes with is all there.
    unused = ('backbone.layer4', 'backbone.fc', 'backbone.stages', 'backbone.norm')
    assert all(name.startswith(unused) for name in meta['left_out'])
    assert bool(meta['left_out']) == (
        task == 'change' and not backbone.startswith('rvsa')
    )


def test_scene_classifier_computes_the_same(tmp_path):
    torch.manual_seed(0)
    original = torchvision.models.resnet50(num_classes=21).eval()
    state = {
        f'cls_head.{name[3:]}' if name[:3] == 'fc.' else f'backbone.{name}': value
        for name, value in original.state_dict().items()
    }
    torch.save(dict(model=state), tmp_path / 'src.pth')
    meta = convert_checkpoint(tmp_path / 'src.pth', tmp_path / 'dst.pth')
    with _WithoutNumbers():
        model = build_model(load_config(meta['config'])).eval()
    converted = read_checkpoint(tmp_path / 'dst.pth')['state_dict']
    model.load_state_dict(converted, strict=True, assign=True)
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(model(images, mode='tensor'), original(images))


def changed(task: str, **meta) -> object:
    """A small change of what a file says beside its weights."""
    content = saved(task, network(task, 'r50'))
    assert isinstance(content, dict)
    return {**content, 'meta': {**content.get('meta', {}), **meta}}


def with_weights(task: str, backbone: str, changes: Shapes) -> object:
    state = {**network(task, backbone), **numbers(changes)}
    return saved(task, {name: v for name, v in state.items() if v.dim() != 7})


ABSENT = (1,) * 7


@pytest.mark.parametrize(
    ('build', 'message'),
    [
        (
            lambda: saved('segmentation', numbers(
                {f'backbone.{k}': s for k, s in resnet50('segmentation').items()}
                | upernet(BACKBONES['r50'][1], 6)
            )),
            r'UperNet.*upernet_r50_potsdam\.py does not fit.*'
            r'classes: 6 in the file, 5 in the config.*--config',
        ),
        (
            lambda: with_weights('scenes', 'r50', linear('cls_head', 2048, 30)),
            r'scene classifier.*classes: 30 in the file, 21 in the config',
        ),
        (
            lambda: changed('segmentation', CLASSES=POTSDAM[::-1]),
            r'classes: car, tree, .* in the file, impervious_surface, building, .* in '
            r'the config, which must be the same in the same order',
        ),
        (
            lambda: changed('detection', CLASSES=('plane', 'ship')),
            r'classes: plane, ship in the file',
        ),
        (
            lambda: with_weights('change', 'swin-b', {
                'backbone.norm2.weight': ABSENT, 'conv_a.bias': (4,),
            }),
            r'BIT.*missing in the file: 1 \(backbone\.norm2\.weight\); '
            r'unknown to the model: 1 \(decode_head\.tokenizer\.bias\)',
        ),
        (
            lambda: with_weights(
                'segmentation', 'rvsa-vit-b', norm('backbone.norm', 768)
            ),
            r'norm behind its last block: model\.backbone\.final_norm=True',
        ),
        (
            lambda: changed('detection', mmengine_version='0.10.0'),
            'is no published CMID checkpoint, but one of a present run',
        ),
        (
            lambda: with_weights('scenes', 'r50', {
                'backbone.layer3.5.conv1.weight': ABSENT,
                'backbone.layer3.5.bn1.weight': ABSENT,
            }),
            r'missing in the file: 2 \(backbone\.layer3\.5\.conv1\.weight',
        ),
    ],
)  # fmt: skip
def test_what_does_not_agree_with_the_config_is_refused(
    tmp_path, trainers, build, message
):
    torch.save(build(), tmp_path / 'src.pth')
    with pytest.raises(CheckpointError, match=message):
        convert_checkpoint(tmp_path / 'src.pth', tmp_path / 'dst.pth')
    assert not (tmp_path / 'dst.pth').exists()


def test_other_names_for_the_same_classes_and_clutter_unscored(tmp_path):
    classes = [name.replace('_', ' ').title() for name in POTSDAM]
    content = changed('segmentation', CLASSES=[*classes, 'Clutter'])
    torch.save(content, tmp_path / 'src.pth')
    meta = convert_checkpoint(tmp_path / 'src.pth', tmp_path / 'dst.pth')
    assert meta['dataset_meta']['classes'] == POTSDAM


def test_config_of_ones_own(tmp_path, trainers, capsys, monkeypatch):
    state = with_weights('scenes', 'r50', linear('cls_head', 2048, 30))
    torch.save(state, tmp_path / 'src.pth')
    script = ROOT / 'tools/convert_checkpoint.py'
    paths = [str(tmp_path / name) for name in ('src.pth', 'dst.pth')]
    config = 'cmid_mm::classification/resnet50_aid.py'
    monkeypatch.setattr('sys.argv', [str(script), *paths, '--config', config])
    runpy.run_path(str(script), run_name='__main__')
    said = capsys.readouterr().out
    assert '30 classes: Airport, BareLand' in said
    assert f'tools/test.py {config} {paths[1]}' in said


def test_change_detectors_are_not_normalised(tmp_path, trainers):
    torch.save(saved('change', network('change', 'r50')), tmp_path / 'src.pth')
    config = tmp_path / 'normalised.py'
    base = ROOT / 'configs/change_detection/bit_r50_cdd.py'
    config.write_text(
        f'_base_ = {str(base)!r}\n'
        'model = dict(data_preprocessor=dict(mean=[100.0] * 3, std=[50.0] * 3))\n'
    )
    with pytest.raises(CheckpointError, match=r'divided by 255 and nothing else'):
        convert_checkpoint(tmp_path / 'src.pth', tmp_path / 'dst.pth', str(config))
