# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Released weights of other projects: their documented names and shapes, our numbers.

docs/pretrained_weights.md says where each release documents its layout. ResNets have
their full size. Of transformers the width and the number of blocks are smaller, which
changes no name.
"""

import argparse
import functools
import pickle
import re
import sys
import types

import pytest
import torch
import torchvision
from mmpretrain.models import ConvNeXt, ResNet, SwinTransformer, VisionTransformer
from torch import Tensor, nn
from torchvision.models.convnext import CNBlockConfig

from cmid_mm.checkpoints import (
    CheckpointError,
    export_backbone,
    load_backbone,
    match_backbone,
    read_checkpoint,
)
from cmid_mm.checkpoints.inert import InertObject
from cmid_mm.engine.initializers import PretrainedBackbone

Shapes = dict[str, tuple[int, ...]]
WIDTH = 16


def numbers(shapes: Shapes) -> dict[str, Tensor]:
    """Random numbers: windows into one block of memory, no two the same."""
    longest = max(torch.Size(shape).numel() for shape in shapes.values())
    block = torch.rand(longest + len(shapes), generator=torch.manual_seed(0)) + 0.1
    state = {}
    for index, (name, shape) in enumerate(shapes.items()):
        window = block[index : index + torch.Size(shape).numel()].view(shape)
        is_counter = name.endswith('num_batches_tracked')
        state[name] = torch.tensor(index) if is_counter else window
    return state


def under(prefix: str, shapes: Shapes) -> Shapes:
    return {prefix + name: shape for name, shape in shapes.items()}


def shapes_of(module: nn.Module) -> Shapes:
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f'{name}.weight': (outputs, inputs), f'{name}.bias': (outputs,)}


def norm(name: str, width: int = WIDTH) -> Shapes:
    return {f'{name}.weight': (width,), f'{name}.bias': (width,)}


def batch_norm(name: str, width: int) -> Shapes:
    buffers = {f'{name}.{kind}': (width,) for kind in ('running_mean', 'running_var')}
    return {**norm(name, width), **buffers, f'{name}.num_batches_tracked': ()}


def resnet50(bands: int = 3, sequential: bool = False) -> Shapes:
    """torchvision's ResNet-50 without classifier, or the list of its children."""
    with torch.device('meta'):
        module: nn.Module = torchvision.models.resnet50()
        module.conv1 = nn.Conv2d(bands, 64, 7, bias=False)
        module.fc = nn.Identity()
        if sequential:
            module = nn.Sequential(*list(module.children())[:-1], nn.Flatten())
    return shapes_of(module)


#: Where nn.Sequential has what torchvision names.
CHILDREN = {'0': 'conv1', '1': 'bn1', **{str(i + 3): f'layer{i}' for i in range(1, 5)}}


def named(sequential: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's names for its ResNet as nn.Sequential."""
    renamed = {}
    for name, value in sequential.items():
        index, _, rest = name.partition('.')
        renamed[f'{CHILDREN[index]}.{rest}'] = value
    return renamed


def vit_blocks(blocks: str, width: int = WIDTH, depth: int = 2) -> Shapes:
    shapes: Shapes = {}
    for block in range(depth):
        name = f'{blocks}.{block}'
        shapes |= norm(f'{name}.norm1', width)
        shapes |= linear(f'{name}.attn.qkv', width, 3 * width)
        shapes |= linear(f'{name}.attn.proj', width, width)
        shapes |= norm(f'{name}.norm2', width)
        shapes |= linear(f'{name}.mlp.fc1', width, 4 * width)
        shapes |= linear(f'{name}.mlp.fc2', 4 * width, width)
    return shapes


def timm_vit(bands: int = 3) -> Shapes:
    """timm's ViT without classifier, which MAE, MoCo v3 and DINO share."""
    return {
        'cls_token': (1, 1, WIDTH),
        'pos_embed': (1, 197, WIDTH),
        'patch_embed.proj.weight': (WIDTH, bands, 16, 16),
        'patch_embed.proj.bias': (WIDTH,),
        **vit_blocks('blocks'),
        **norm('norm'),
    }


def mae(bands: int = 3) -> Shapes:
    return {
        **timm_vit(bands),
        'mask_token': (1, 1, 8),
        'decoder_pos_embed': (1, 197, 8),
        **linear('decoder_embed', WIDTH, 8),
        **vit_blocks('decoder_blocks', width=8),
        **norm('decoder_norm', 8),
        **linear('decoder_pred', 8, 256 * bands),
    }


@functools.cache  # its initialisation takes long
def mmpretrain_resnet50(bands: int = 3) -> ResNet:
    return ResNet(50, in_channels=bands)


def blank(module: nn.Module) -> nn.Module:
    for value in module.state_dict().values():
        value.zero_()
    return module


def vit(bands: int = 3, **settings) -> VisionTransformer:
    arch = dict(
        embed_dims=WIDTH, num_layers=2, num_heads=4, feedforward_channels=4 * WIDTH
    )
    return VisionTransformer(arch, in_channels=bands, **settings)


VIT_NAMES = {
    'patch_embed.proj': 'patch_embed.projection',
    'blocks.': 'layers.',
    '.norm1.': '.ln1.',
    '.norm2.': '.ln2.',
    'mlp.fc1': 'ffn.layers.0.0',
    'mlp.fc2': 'ffn.layers.1',
}


def in_mmpretrain(timm: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of timm's ViT by mmpretrain's names."""
    renamed = {}
    for name, value in timm.items():
        for old, new in VIT_NAMES.items():
            name = name.replace(old, new)
        renamed['ln1' + name.removeprefix('norm') if name[:5] == 'norm.' else name] = (
            value
        )
    return renamed


def part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in state.items()
        if name.startswith(prefix)
    }


def only(state: dict[str, Tensor], shapes: Shapes) -> dict[str, Tensor]:
    return {name: state[name] for name in shapes}


def sgd() -> dict:
    return dict(state={}, param_groups=[dict(lr=0.03, momentum=0.9, params=[0, 1])])


class AttributeDict(dict):
    """Stands for the class that Lightning keeps hyper-parameters in."""


class ModelCheckpoint:
    """Stands for Lightning's callback, whose class is a key in its checkpoints."""


class ListConfig(list):
    """Stands for a list with a class of its own."""


@pytest.fixture
def lightning(monkeypatch):
    """Other packages' names for these classes, for as long as a file is written."""
    for cls, home in (
        (ModelCheckpoint, 'pytorch_lightning.callbacks.model_checkpoint'),
        (AttributeDict, 'pytorch_lightning.utilities.parsing'),
        (ListConfig, 'omegaconf.listconfig'),
    ):
        monkeypatch.setattr(cls, '__module__', home)
        parts = home.split('.')
        for end in range(1, len(parts) + 1):
            name = '.'.join(parts[:end])
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        setattr(sys.modules[home], cls.__name__, cls)
    return monkeypatch


def seco() -> tuple[dict, dict, dict]:
    backbone = resnet50(sequential=True)
    shapes = {**under('encoder_q.', backbone), **under('encoder_k.', backbone)}
    for heads in ('heads_q', 'heads_k'):
        for space in range(3):
            shapes |= linear(f'{heads}.{space}.0', 2048, 2048)
            shapes |= linear(f'{heads}.{space}.2', 2048, 128)
    shapes |= dict(queue=(3, 128, 16384), queue_ptr=(3, 1))
    state = numbers(shapes)
    checkpoint = {
        'epoch': 199,
        'global_step': 156200,
        'pytorch-lightning_version': '1.1.8',
        'callbacks': {ModelCheckpoint: dict(best_model_path='epoch=199.ckpt')},
        'optimizer_states': [sgd()],
        'lr_schedulers': [],
        'state_dict': state,
        'hparams_name': 'kwargs',
        'hyper_parameters': AttributeDict(base_encoder='resnet50', emb_spaces=3),
    }
    return (
        checkpoint,
        named(part(state, 'encoder_q.')),
        named(part(state, 'encoder_k.')),
    )


def sen12ms(bands: int = 10) -> tuple[dict, dict]:
    backbone = resnet50(bands, sequential=True)
    shapes = {'conv1.weight': (64, bands, 7, 7), **under('encoder.', backbone)}
    state = numbers({**shapes, **linear('FC', 2048, 10)})
    state['encoder.0.weight'] = state['conv1.weight']  # one layer by two names
    checkpoint = dict(
        epoch=99,
        arch='ResNet50',
        model_state_dict=state,
        optimizer_state_dict=sgd(),
        best_prec=0.7,
    )
    return checkpoint, named(part(state, 'encoder.'))


def moco(bands: int = 3) -> tuple[dict, dict, dict]:
    shapes: Shapes = {}
    for encoder in ('module.encoder_q.', 'module.encoder_k.'):
        head = {**linear('fc.0', 2048, 2048), **linear('fc.2', 2048, 128)}
        shapes |= under(encoder, {**resnet50(bands), **head})
    shapes |= {'module.queue': (128, 65536), 'module.queue_ptr': (1,)}
    state = numbers(shapes)
    checkpoint = dict(epoch=800, arch='resnet50', state_dict=state, optimizer=sgd())
    encoders = [
        only(part(state, f'module.encoder_{e}.'), resnet50(bands)) for e in 'qk'
    ]
    return checkpoint, *encoders


def moco_v3(bands: int = 13) -> tuple[dict, dict, dict]:
    shapes: Shapes = {}
    for encoder in ('module.base_encoder.', 'module.momentum_encoder.'):
        head = {'head.0.weight': (32, WIDTH), **batch_norm('head.1', 32)}
        shapes |= under(encoder, {**timm_vit(bands), **head})
    shapes |= {'module.predictor.0.weight': (32, 32)}
    state = numbers(shapes)
    checkpoint = dict(
        epoch=100, arch='vit_small', state_dict=state, optimizer=sgd(), scaler={}
    )
    encoders = [
        in_mmpretrain(only(part(state, f'module.{e}_encoder.'), timm_vit(bands)))
        for e in ('base', 'momentum')
    ]
    return checkpoint, *encoders


def dino(backbone: Shapes) -> tuple[dict, dict, dict]:
    """Student and teacher of DINO; a network without BatchNorm is wrapped once less."""
    head = {
        **linear('head.mlp.0', 16, 32),
        'head.last_layer.weight_g': (64, 1),
        'head.last_layer.weight_v': (64, 32),
    }
    wrapped = under('backbone.', backbone) | head
    student = numbers(under('module.', wrapped))
    teacher = numbers(wrapped)
    teacher = {name: value + 1 for name, value in teacher.items()}
    checkpoint = dict(
        student=student,
        teacher=teacher,
        optimizer=sgd(),
        epoch=100,
        args=argparse.Namespace(arch='vit_small', lr=1e-3),
        dino_loss=dict(center=torch.zeros(1, 64)),
    )
    return checkpoint, part(student, 'module.backbone.'), part(teacher, 'backbone.')


def barlow_twins() -> tuple[dict, dict]:
    head = {f'projector.{i}.weight': (64, 64) for i in (0, 3, 6)}
    head |= batch_norm('projector.1', 64)
    head |= {k: v for k, v in batch_norm('bn', 64).items() if 'running' in k}
    state = numbers(under('module.', under('backbone.', resnet50()) | head))
    checkpoint = dict(epoch=1000, model=state, optimizer=sgd())
    return checkpoint, part(state, 'module.backbone.')


def swav() -> tuple[dict, dict]:
    head = {
        **linear('projection_head.0', 2048, 2048),
        **batch_norm('projection_head.1', 2048),
        **linear('projection_head.3', 2048, 128),
        'prototypes.weight': (3000, 128),
    }
    state = numbers(under('module.', resnet50() | head))
    return state, only(part(state, 'module.'), resnet50())


def byol() -> tuple[dict, dict, dict]:
    shapes: Shapes = {}
    for network in ('module.online_network.', 'module.target_network.'):
        head = {
            **linear('projetion.l1', 2048, 64),  # spelt like this
            **batch_norm('projetion.bn1', 64),
            **linear('projetion.l2', 64, 32),
        }
        encoder = under('encoder.', resnet50(sequential=True))
        shapes |= under(network, encoder | head)
    shapes |= linear('module.predictor.predictor.l1', 32, 64)
    state = numbers(shapes)
    checkpoint = dict(config={}, epoch=300, model=state, optimizer=sgd(), amp={})
    encoders = [
        named(part(state, f'module.{network}_network.encoder.'))
        for network in ('online', 'target')
    ]
    return checkpoint, *encoders


def openmmlab_byol() -> tuple[dict, dict]:
    shapes = under('backbone.', resnet50()) | under('target_net.module.0.', resnet50())
    state = numbers(shapes | linear('neck.fc0', 2048, 64))
    return dict(meta=dict(epoch=200), state_dict=state), part(state, 'backbone.')


def mae_checkpoint(bands: int = 3, extra: Shapes | None = None) -> tuple[dict, dict]:
    state = numbers({**mae(bands), **(extra or {})})
    checkpoint = dict(
        model=state,
        optimizer=sgd(),
        epoch=799,
        scaler=dict(scale=65536.0),
        args=argparse.Namespace(model='mae_vit_large_patch16', lr=1e-3),
    )
    return checkpoint, in_mmpretrain(only(state, timm_vit(bands)))


def scale_mae() -> tuple[dict, dict]:
    extra = {
        'mask_token_decoder': (1, 1, 8),
        'fpn.do1.0.weight': (8, 8, 2, 2),
        'fcn_high.convs1.0.weight': (8, 8, 1, 1),
    }
    return mae_checkpoint(extra=extra)


def plain(shapes: Shapes, head: Shapes) -> tuple[dict, dict]:
    state = numbers(shapes | head)
    return state, only(state, shapes)


def timm_vit_file() -> tuple[dict, dict]:
    state, backbone = plain(timm_vit(), linear('head', WIDTH, 5))
    return state, in_mmpretrain(backbone)


def timm_dinov2() -> tuple[dict, dict]:
    """timm's ViT with a layer scale in each block, as DINOv2 and SoftCon."""
    scales = {f'blocks.{i}.{s}.gamma': (WIDTH,) for i in (0, 1) for s in ('ls1', 'ls2')}
    state = numbers(timm_vit() | scales)
    expected = {}
    for name, value in in_mmpretrain(state).items():
        name = name.replace('ls1.gamma', 'attn.gamma1.weight')
        expected[name.replace('ls2.gamma', 'ffn.gamma2.weight')] = value
    return state, expected


RESNET_NAMES = 'ResNet names of torchvision and OpenMMLab'
CHILDREN_NAMES = 'ResNet names of torchvision in nn.Sequential'


def student_of(release):
    return lambda: release()[:2]


def teacher_of(release):
    return lambda: release()[::2]


def dino_vit() -> tuple[dict, dict, dict]:
    checkpoint, *halves = dino(timm_vit(13))
    return checkpoint, *map(in_mmpretrain, halves)


#: Release: (checkpoint and backbone, module, what the report says, source).
RELEASES = {
    'SeCo': (
        student_of(seco),
        mmpretrain_resnet50,
        f'SeCo (Lightning MoCo) checkpoint, {CHILDREN_NAMES}',
        'student',
    ),
    'SeCo teacher': (
        teacher_of(seco),
        mmpretrain_resnet50,
        f'SeCo (Lightning MoCo) checkpoint, {CHILDREN_NAMES}',
        'teacher',
    ),
    'SEN12MS': (
        sen12ms,
        lambda: mmpretrain_resnet50(10),
        f'SEN12MS checkpoint, {CHILDREN_NAMES}',
        'student',
    ),
    'MoCo v2': (
        student_of(moco),
        mmpretrain_resnet50,
        f'MoCo checkpoint, {RESNET_NAMES}',
        'student',
    ),
    'Barlow Twins': (
        barlow_twins,
        mmpretrain_resnet50,
        f'Barlow Twins checkpoint, {RESNET_NAMES}',
        'student',
    ),
    'SwAV': (swav, mmpretrain_resnet50, f'SwAV checkpoint, {RESNET_NAMES}', 'student'),
    'BYOL-PyTorch': (
        student_of(byol),
        mmpretrain_resnet50,
        f'BYOL-PyTorch checkpoint, {CHILDREN_NAMES}',
        'student',
    ),
    'BYOL-PyTorch teacher': (
        teacher_of(byol),
        mmpretrain_resnet50,
        f'BYOL-PyTorch checkpoint, {CHILDREN_NAMES}',
        'teacher',
    ),
    'BYOL of OpenMMLab': (
        openmmlab_byol,
        mmpretrain_resnet50,
        f'OpenMMLab checkpoint, {RESNET_NAMES}',
        'student',
    ),
    'torchvision and timm': (
        lambda: plain(resnet50(), linear('fc', 2048, 10)),
        mmpretrain_resnet50,
        f'plain state dict, {RESNET_NAMES}',
        'student',
    ),
    'SSL4EO-S12 MoCo': (
        student_of(lambda: moco(13)),
        lambda: mmpretrain_resnet50(13),
        f'MoCo checkpoint, {RESNET_NAMES}',
        'student',
    ),
    'SSL4EO-S12 MoCo teacher': (
        teacher_of(lambda: moco(13)),
        lambda: mmpretrain_resnet50(13),
        f'MoCo checkpoint, {RESNET_NAMES}',
        'teacher',
    ),
    'SSL4EO-S12 DINO': (
        teacher_of(lambda: dino(resnet50(13))),
        lambda: mmpretrain_resnet50(13),
        f'DINO checkpoint, {RESNET_NAMES}',
        'teacher',
    ),
    'SSL4EO-S12 DINO ViT student': (
        student_of(dino_vit),
        lambda: vit(13),
        'DINO checkpoint, ViT names of timm',
        'student',
    ),
    'SSL4EO-S12 DINO ViT': (
        teacher_of(dino_vit),
        lambda: vit(13),
        'DINO checkpoint, ViT names of timm',
        'teacher',
    ),
    'SSL4EO-S12 MoCo v3': (
        student_of(moco_v3),
        lambda: vit(13),
        'MoCo v3 checkpoint, ViT names of timm',
        'student',
    ),
    'SSL4EO-S12 MoCo v3 teacher': (
        teacher_of(moco_v3),
        lambda: vit(13),
        'MoCo v3 checkpoint, ViT names of timm',
        'teacher',
    ),
    'SSL4EO-S12 MAE': (
        lambda: mae_checkpoint(13),
        lambda: vit(13),
        'MAE checkpoint, ViT names of timm',
        'student',
    ),
    'SatMAE and RVSA': (
        mae_checkpoint,
        vit,
        'MAE checkpoint, ViT names of timm',
        'student',
    ),
    'Scale-MAE': (
        scale_mae,
        vit,
        'Scale-MAE checkpoint, ViT names of timm',
        'student',
    ),
    'timm ViT': (timm_vit_file, vit, 'plain state dict, ViT names of timm', 'student'),
    'timm DINOv2': (
        timm_dinov2,
        lambda: vit(layer_scale_init_value=1e-5),
        'plain state dict, ViT names of timm',
        'student',
    ),
}


@pytest.mark.parametrize('release', RELEASES)
def test_every_weight_of_a_release_arrives(release, tmp_path, lightning):
    build, module, report, source = RELEASES[release]
    checkpoint, expected = build()
    torch.save(checkpoint, tmp_path / 'a.pth')
    lightning.undo()  # whoever reads the file lacks these classes

    module = blank(module())
    PretrainedBackbone(str(tmp_path / 'a.pth'), source)(module)
    torch.testing.assert_close(dict(module.state_dict()), expected, rtol=0, atol=0)
    found = match_backbone(module, tmp_path / 'a.pth', source)[1]
    told = f'Loaded {len(expected)} backbone tensors from {found.path} ({report}'
    rest = str(found).removeprefix(told)
    other = 'teacher' if source == 'student' else 'student'
    has_both = re.search('SeCo|MoCo|BYOL|S12 DINO', release) is not None
    assert rest.startswith((')', '; taken: '))
    assert (f'other choices: source={other!r} (' in rest) is has_both
    assert not (found.new or found.resized)


@pytest.mark.parametrize('zipped', [True, False])
def test_objects_beside_weights_are_skipped(tmp_path, lightning, zipped):
    checkpoint, *_ = seco()
    checkpoint['list'] = ListConfig([1, 2])
    torch.save(checkpoint, tmp_path / 'a', _use_new_zipfile_serialization=zipped)
    lightning.undo()
    with pytest.raises(CheckpointError, match=r'was refused.* pytorch_lightning\.'):
        read_checkpoint(tmp_path / 'a')
    content = read_checkpoint(tmp_path / 'a', skip_objects=True)
    ((callback, saved),) = content['callbacks'].items()
    assert issubclass(callback, InertObject)
    assert saved == dict(best_model_path='epoch=199.ckpt')
    assert content['hyper_parameters'] == dict(base_encoder='resnet50', emb_spaces=3)
    assert content['list'] == [1, 2]
    assert torch.equal(
        content['state_dict']['queue'], checkpoint['state_dict']['queue']
    )


@pytest.mark.parametrize('function', [exec, eval])
def test_code_in_a_file_is_never_run(tmp_path, function):
    trace = tmp_path / 'trace'

    class Attack:
        def __reduce__(self):
            return function, (f'open({str(trace)!r}, "w")',)

    state = {'conv1.weight': torch.ones(2)}
    torch.save(dict(extra=Attack(), state_dict=state), tmp_path / 'a.pth')
    content = read_checkpoint(tmp_path / 'a.pth', skip_objects=True)
    assert isinstance(content['extra'], InertObject)
    assert content['extra'].args == (f'open({str(trace)!r}, "w")',)
    assert content['state_dict']['conv1.weight'].tolist() == [1, 1]
    assert not trace.exists()


@pytest.mark.parametrize('wrap', [lambda module: module, lambda m: dict(model=m)])
@pytest.mark.parametrize('zip_format', [True, False])
def test_whole_modules_arrive(tmp_path, wrap, zip_format):
    network = torchvision.models.resnet18()
    torch.save(
        wrap(network),
        tmp_path / 'a.pth',
        _use_new_zipfile_serialization=zip_format,
    )
    module = blank(ResNet(18))
    report = load_backbone(module, tmp_path / 'a.pth')
    assert report.unused == ['fc.weight', 'fc.bias']
    expected = network.state_dict()
    for name, value in module.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_haiku_pickles_of_byol_are_refused(tmp_path):
    content = dict(experiment_state=dict(online_params={'res_net50/~/conv': {'w': 1}}))
    (tmp_path / 'a.pkl').write_bytes(pickle.dumps(content, protocol=4))
    with pytest.raises(CheckpointError, match='pickle that torch.save did not write'):
        load_backbone(ResNet(18), tmp_path / 'a.pkl')


def test_only_one_half_of_dino(tmp_path):
    checkpoint, _, teacher = dino(resnet50(13))
    del checkpoint['student']
    torch.save(checkpoint, tmp_path / 'a.pth')
    with pytest.raises(
        CheckpointError, match="no student .*source='teacher' .[a-z_.]*.$"
    ):
        load_backbone(mmpretrain_resnet50(13), tmp_path / 'a.pth')


@pytest.mark.parametrize(
    ('build', 'module', 'bands'),
    [
        (lambda: moco(13)[0], mmpretrain_resnet50, 13),
        (lambda: sen12ms(10)[0], mmpretrain_resnet50, 10),
        (lambda: sen12ms(12)[0], mmpretrain_resnet50, 12),
        (lambda: mae_checkpoint(13)[0], vit, 13),
        (lambda: mae_checkpoint(8)[0], vit, 8),
    ],
)
def test_other_bands_are_refused(tmp_path, build, module, bands):
    torch.save(build(), tmp_path / 'a.pth')
    with pytest.raises(CheckpointError) as error:
        load_backbone(blank(module()), tmp_path / 'a.pth')
    message = str(error.value)
    assert f'input bands: the file has {bands}, the module 3; set' in message
    assert f'in_channels={bands} (--cfg-options model.backbone.in_channels' in message
    assert 'take weights of 3, or say how the first kernel is made' in message
    assert "stem='repeat'" in message
    assert '\n' not in message


def dinov3() -> dict[str, Tensor]:
    shapes = timm_vit() | {
        'storage_tokens': (1, 4, WIDTH),
        'mask_token': (1, WIDTH),
        'rope_embed.periods': (1,),
        **norm('local_cls_norm'),
    }
    for block in range(2):
        shapes[f'blocks.{block}.attn.qkv.bias_mask'] = (3 * WIDTH,)
        shapes[f'blocks.{block}.ls1.gamma'] = (WIDTH,)
        shapes[f'blocks.{block}.ls2.gamma'] = (WIDTH,)
    del shapes['pos_embed']
    return numbers(shapes)


def grouped_satmae() -> dict:
    shapes = mae()
    for group, bands in enumerate((4, 4, 2)):
        shapes[f'patch_embed.{group}.proj.weight'] = (WIDTH, bands, 8, 8)
        shapes[f'patch_embed.{group}.proj.bias'] = (WIDTH,)
        shapes |= linear(f'decoder_pred.{group}', 8, 64 * bands)
    del shapes['patch_embed.proj.weight'], shapes['patch_embed.proj.bias']
    shapes |= dict(pos_embed=(1, 145, WIDTH - 4), channel_embed=(1, 3, 4))
    return dict(model=numbers(shapes | dict(decoder_channel_embed=(1, 4, 2))))


def clip() -> Shapes:
    """timm's ViT with a norm before its blocks."""
    shapes = timm_vit() | norm('norm_pre')
    del shapes['patch_embed.proj.bias']
    return shapes


def data2vec() -> dict:
    shapes = timm_vit()
    for block in range(2):
        del shapes[f'blocks.{block}.attn.qkv.bias']
        shapes |= {f'blocks.{block}.attn.{b}_bias': (WIDTH,) for b in 'qv'}
        shapes |= {f'blocks.{block}.gamma_{i}': (WIDTH,) for i in (1, 2)}
    return dict(model=numbers(shapes), args=argparse.Namespace())


@pytest.mark.parametrize(
    ('build', 'message'),
    [
        (dinov3, r'a DINOv3 2 .*mmpretrain\.TIMMBackbone'),
        (grouped_satmae, 'SatMAE ViT for groups of bands.*RGB release'),
        (
            lambda: dict(model=numbers(mae() | dict(pos_embed=(1, 197, WIDTH - 6)))),
            'has 10 of the 16 channels, as in temporal SatMAE',
        ),
        (data2vec, 'BEiT or data2vec'),
        (
            lambda: numbers(timm_vit() | dict(reg_token=(1, 4, WIDTH))),
            'register tokens',
        ),
        (
            lambda: numbers(timm_vit() | dict(dist_token=(1, 1, WIDTH))),
            'DistilledVisionTransformer',
        ),
        (lambda: numbers(clip()), 'pre_norm=True'),
        (lambda: timm_dinov2()[0], 'layer_scale_init_value=1e-5'),
    ],
)
def test_networks_that_compute_something_else(tmp_path, build, message):
    torch.save(build(), tmp_path / 'a.pth')
    module = vit()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(CheckpointError, match=message) as error:
        load_backbone(module, tmp_path / 'a.pth')
    assert '\n' not in str(error.value)
    torch.testing.assert_close(dict(module.state_dict()), before, rtol=0, atol=0)


def test_norm_before_the_blocks(tmp_path):
    state = numbers(clip())
    torch.save(state, tmp_path / 'a.pth')
    module = vit(pre_norm=True)
    assert load_backbone(module, tmp_path / 'a.pth').loaded == len(state)
    assert torch.equal(module.pre_norm.weight, state['norm_pre.weight'])


@pytest.mark.parametrize('layout', ['children', 'names'])
def test_resnet_computes_what_torchvision_computes(tmp_path, layout):
    torch.manual_seed(0)
    source = torchvision.models.resnet18().eval()
    for module in source.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
    source.fc = nn.Identity()
    sequence = nn.Sequential(*list(source.children())[:-1], nn.Flatten())
    state = (sequence if layout == 'children' else source).state_dict()
    torch.save(state, tmp_path / 'a.pth')
    module = ResNet(18)
    module.eval()
    load_backbone(module, tmp_path / 'a.pth')
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(module(images)[-1].mean((2, 3)), source(images))


def renamed(state: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    """State by other names: patterns and their replacements, all in turn."""
    result = {}
    for name, value in state.items():
        for old, new in names.items():
            name = re.sub(old, new, name)
        result[name] = value
    return result


def drawn(module: nn.Module) -> nn.Module:
    """A module with every weight from a normal distribution, none at its initial 0."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2)
    return module.eval()


#: Names of torchvision's ViT -> timm's and MAE's, and those in its own first files.
VITS = {
    'torchvision': {},
    'torchvision file': {'mlp.0': 'mlp.linear_1', 'mlp.3': 'mlp.linear_2'},
    'timm': {
        '^class_token': 'cls_token',
        '^conv_proj': 'patch_embed.proj',
        '^encoder.pos_embedding': 'pos_embed',
        '^encoder.layers.encoder_layer_': 'blocks.',
        '^encoder.ln': 'norm',
        'ln_': 'norm',
        'self_attention.in_proj_': 'attn.qkv.',
        'self_attention.out_proj': 'attn.proj',
        'mlp.0': 'mlp.fc1',
        'mlp.3': 'mlp.fc2',
        '^heads.head': 'head',
    },
}


@pytest.mark.parametrize('library', VITS)
def test_vit_computes_what_torchvision_computes(tmp_path, library):
    source = drawn(
        torchvision.models.vision_transformer.VisionTransformer(
            32, 8, num_layers=2, num_heads=4, hidden_dim=WIDTH, mlp_dim=32
        )
    )
    torch.save(renamed(source.state_dict(), VITS[library]), tmp_path / 'a.pth')
    source.heads = nn.Identity()
    arch = dict(embed_dims=WIDTH, num_layers=2, num_heads=4, feedforward_channels=32)
    module = VisionTransformer(arch, img_size=32, patch_size=8)
    module.eval()
    report = load_backbone(module, tmp_path / 'a.pth')
    assert len(report.unused) == 2 and 'head' in report.unused[0]
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(module(images)[-1], source(images))


_SWIN = {
    r'^features\.0\.0': 'patch_embed.proj',
    r'^features\.0\.2': 'patch_embed.norm',
    **{rf'^features\.{2 * i + 1}\.': f'layers.{i}.blocks.' for i in range(4)},
    r'mlp\.0': 'mlp.fc1',
    r'mlp\.3': 'mlp.fc2',
}
#: Names of torchvision's Swin -> those of others, who merge patches elsewhere.
SWINS = {
    'torchvision': {},
    'timm': {
        **_SWIN,
        **{rf'^features\.{2 * i + 2}': f'layers.{i + 1}.downsample' for i in range(3)},
        '^head': 'head.fc',
    },
    'Microsoft': {
        **_SWIN,
        **{rf'^features\.{2 * i + 2}': f'layers.{i}.downsample' for i in range(3)},
    },
}


@pytest.mark.parametrize('library', SWINS)
def test_swin_computes_what_torchvision_computes(tmp_path, library):
    source = drawn(
        torchvision.models.swin_transformer.SwinTransformer(
            [4, 4], 8, [1, 2, 1, 1], [1, 2, 4, 8], [7, 7]
        )
    )
    torch.save(renamed(source.state_dict(), SWINS[library]), tmp_path / 'a.pth')
    source.head = nn.Identity()
    module = SwinTransformer(
        dict(embed_dims=8, depths=[1, 2, 1, 1], num_heads=[1, 2, 4, 8])
    )
    module.eval()
    report = load_backbone(module, tmp_path / 'a.pth')
    assert f'Swin names of {library}' in report.origin
    assert len(report.unused) == 2 and 'head' in report.unused[0]
    images = torch.randn(1, 3, 224, 224)
    features = module(images)[-1].mean((2, 3))
    torch.testing.assert_close(features, source(images), rtol=1e-4, atol=1e-5)


def _convnext(stage: str, block: str, downsample: str) -> dict[str, str]:
    return {
        **{rf'^features\.{2 * i + 1}\.': stage.format(i) for i in range(4)},
        **{rf'^features\.{2 * i}': downsample.format(i) for i in range(1, 4)},
        r'block\.0': block,
        r'block\.2': 'norm',
        'layer_scale': 'gamma',
    }


#: Names of torchvision's ConvNeXt -> those of others, whose layer scale is a vector.
CONVNEXTS = {
    'torchvision': {},
    'timm': {
        **_convnext('stages.{}.blocks.', 'conv_dw', 'stages.{}.downsample'),
        r'^features\.0': 'stem',
        r'block\.3': 'mlp.fc1',
        r'block\.5': 'mlp.fc2',
        r'^classifier\.0': 'head.norm',
        r'^classifier\.2': 'head.fc',
    },
    'Facebook': {
        **_convnext('stages.{}.', 'dwconv', 'downsample_layers.{}'),
        r'^features\.0': 'downsample_layers.0',
        r'block\.3': 'pwconv1',
        r'block\.5': 'pwconv2',
        r'^classifier\.0': 'norm',
        r'^classifier\.2': 'head',
    },
}


@pytest.mark.parametrize('library', CONVNEXTS)
def test_convnext_computes_what_torchvision_computes(tmp_path, library):
    widths = (4, 4, 8, 8, None)
    source = drawn(
        torchvision.models.convnext.ConvNeXt(
            [CNBlockConfig(widths[i], widths[i + 1], 1) for i in range(4)]
        )
    )
    state = renamed(source.state_dict(), CONVNEXTS[library])
    state = {k: v.flatten() if 'gamma' in k else v for k, v in state.items()}
    torch.save(state, tmp_path / 'a.pth')
    source.classifier[2] = nn.Identity()
    module = ConvNeXt(dict(depths=[1, 1, 1, 1], channels=list(widths[:4])))
    module.eval()
    report = load_backbone(module, tmp_path / 'a.pth')
    assert f'ConvNeXt names of {library}' in report.origin
    assert len(report.unused) == 2
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(module(images)[-1], source(images))


def test_inside_the_wrapper_of_timm(tmp_path):
    """timm's ResNets have torchvision's names; timm itself is not needed here."""
    source = torchvision.models.resnet18()
    source.fc = nn.Identity()
    children = nn.Sequential(*list(source.children())[:-1])
    torch.save(children.state_dict(), tmp_path / 'a.pth')
    wrapper = nn.Module()
    wrapper.timm_model = torchvision.models.resnet18()
    wrapper.timm_model.fc = nn.Identity()
    report = load_backbone(wrapper, tmp_path / 'a.pth')
    assert report.loaded == 120
    expected = dict(source.state_dict())
    loaded = dict(wrapper.timm_model.state_dict())
    torch.testing.assert_close(loaded, expected, rtol=0, atol=0)


def test_export_of_a_release(tmp_path, lightning):
    checkpoint, expected, _ = seco()
    torch.save(checkpoint, tmp_path / 'a.ckpt')
    lightning.undo()
    export_backbone(tmp_path / 'a.ckpt', tmp_path / 'b.pth', layout='timm')
    exported = read_checkpoint(tmp_path / 'b.pth')['state_dict']
    torch.testing.assert_close(exported, expected, rtol=0, atol=0)
