# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Networks of Hugging Face, DINOv2 and DINOv3 by their documented names.

The names are what transformers writes; each network was once run there and gave the
features that it gives here.
"""

import re

import pytest
import timm
import torch
from mmengine.model import PretrainedInit
from mmpretrain.models import (
    ConvNeXt,
    ResNet,
    SwinTransformer,
    TIMMBackbone,
    VisionTransformer,
)
from torch import Tensor, nn

from cmid_mm.checkpoints import (
    EXPORT_LAYOUTS,
    CheckpointError,
    export_backbone,
    load_backbone,
)

State = dict[str, Tensor]
WIDTH = 16


@torch.no_grad()
def drawn(module: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for value in module.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) - 0.4)
    module.eval()  # returns nothing for some of OpenMMLab's
    return module


def renamed(state: State, names: dict[str, str]) -> State:
    """Names by patterns and their replacements, all in turn."""
    result = {}
    for name, value in state.items():
        for old, new in names.items():
            name = re.sub(old, new, name)
        result[name] = value
    return result


def in_three(state: State, qkv: str, parts: tuple[str, str, str]) -> State:
    """Queries, keys and values apart, in the order of a file of safetensors."""
    result = {}
    for name, value in state.items():
        if qkv in name:
            thirds = zip(parts, value.chunk(3), strict=True)
            result |= {name.replace(qkv, part): third for part, third in thirds}
        else:
            result[name] = value
    return dict(sorted(result.items()))


def vit(**settings) -> VisionTransformer:
    arch = dict(embed_dims=WIDTH, num_layers=2, num_heads=2, feedforward_channels=32)
    return VisionTransformer(arch, img_size=32, patch_size=8, **settings)


def dinov2() -> VisionTransformer:
    return vit(layer_scale_init_value=1e-5)


QKV = tuple(f'attention.attention.{name}' for name in ('query', 'key', 'value'))
EMBEDDINGS = {
    '^(cls_token)': r'embeddings.\1',
    '^pos_embed': 'embeddings.position_embeddings',
    '^patch_embed': 'embeddings.patch_embeddings',
    '^ln1': 'layernorm',
    r'^layers\.': 'encoder.layer.',
    r'attn\.proj': 'attention.output.dense',
}
VIT = EMBEDDINGS | {
    r'ffn\.layers\.0\.0': 'intermediate.dense',
    r'ffn\.layers\.1': 'output.dense',
    r'\.ln1': '.layernorm_before',
    r'\.ln2': '.layernorm_after',
}
DINOV2 = EMBEDDINGS | {
    r'ffn\.layers\.0\.0': 'mlp.fc1',
    r'ffn\.layers\.1': 'mlp.fc2',
    r'\.ln': '.norm',
    r'attn\.gamma1\.weight': 'layer_scale1.lambda1',
    r'ffn\.gamma2\.weight': 'layer_scale2.lambda1',
}
#: transformers 5 keeps other names than it writes.
VIT_IN_MEMORY = VIT | {
    r'^layers\.': 'layers.',
    r'attn\.proj': 'attention.o_proj',
    r'ffn\.layers\.0\.0': 'mlp.fc1',
    r'ffn\.layers\.1': 'mlp.fc2',
}
QKV_IN_MEMORY = tuple(f'attention.{name}_proj' for name in 'qkv')


def swin() -> SwinTransformer:
    arch = dict(embed_dims=8, depths=[1, 1, 2, 1], num_heads=[1, 2, 2, 2])
    return SwinTransformer(arch)


def merging(state: State) -> State:
    """Patch merging with the neighbours before the channels."""
    result = {}
    for name, value in state.items():
        if '.downsample.' in name:
            groups = value.unflatten(-1, (-1, 2, 2))  # ... C, row, column
            value = groups.movedim(-3, -1).transpose(-3, -2).flatten(-3)
        result[name] = value
    return result


SWIN = {
    r'^patch_embed\.projection': 'embeddings.patch_embeddings.projection',
    r'^patch_embed\.norm': 'embeddings.norm',
    '^norm3': 'layernorm',
    r'^stages\.': 'encoder.layers.',
    r'attn\.w_msa\.rel': 'attention.self.rel',
    r'attn\.w_msa\.proj': 'attention.output.dense',
    r'\.norm1': '.layernorm_before',
    r'\.norm2': '.layernorm_after',
    r'ffn\.layers\.0\.0': 'intermediate.dense',
    r'ffn\.layers\.1': 'output.dense',
}
SWIN_QKV = tuple(f'attention.self.{name}' for name in ('query', 'key', 'value'))


def convnext() -> ConvNeXt:
    return ConvNeXt(dict(depths=[1, 1, 2, 1], channels=[4, 4, 8, 8]))


CONVNEXT = {
    r'^downsample_layers\.0\.0': 'embeddings.patch_embeddings',
    r'^downsample_layers\.0\.1': 'embeddings.layernorm',
    r'^downsample_layers\.(\d)': r'encoder.stages.\1.downsampling_layer',
    r'^stages\.(\d+)\.(\d+)': r'encoder.stages.\1.layers.\2',
    'depthwise_conv': 'dwconv',
    'pointwise_conv': 'pwconv',
    r'\.norm': '.layernorm',
    'gamma': 'layer_scale_parameter',
    '^norm3': 'layernorm',
}


def resnet(depth: int) -> ResNet:
    return ResNet(depth, stem_channels=4, base_channels=4)


RESNET = {
    r'^conv1': 'embedder.embedder.convolution',
    r'^bn1': 'embedder.embedder.normalization',
    **{rf'^layer{i + 1}\.(\d+)': rf'encoder.stages.{i}.layers.\1' for i in range(4)},
    **{rf'\.conv{i + 1}': f'.layer.{i}.convolution' for i in range(3)},
    **{rf'\.bn{i + 1}': f'.layer.{i}.normalization' for i in range(3)},
    r'downsample\.0': 'shortcut.convolution',
    r'downsample\.1': 'shortcut.normalization',
}

#: Class: (module, prefix, what the weights go through, whose names, other weights).
NETWORKS = {
    'ViTModel': (
        vit,
        '',
        lambda s: in_three(renamed(s, VIT), 'attn.qkv', QKV),
        'ViT names of Hugging Face',
        ['pooler.dense.weight'],
    ),
    'ViTForImageClassification': (
        vit,
        'vit.',
        lambda s: in_three(renamed(s, VIT), 'attn.qkv', QKV),
        'ViT names of Hugging Face',
        ['classifier.weight'],
    ),
    'ViTMAEForPreTraining': (
        vit,
        'vit.',
        lambda s: in_three(renamed(s, VIT), 'attn.qkv', QKV),
        'ViT names of Hugging Face',
        ['decoder.mask_token', 'decoder.decoder_norm.weight'],
    ),
    'Dinov2Model': (
        dinov2,
        '',
        lambda s: in_three(renamed(s, DINOV2), 'attn.qkv', QKV),
        'ViT names of Hugging Face',
        ['embeddings.mask_token'],
    ),
    'ViT in memory': (
        vit,
        '',
        lambda s: in_three(renamed(s, VIT_IN_MEMORY), 'attn.qkv', QKV_IN_MEMORY),
        'ViT names of Hugging Face in memory',
        [],
    ),
    'SwinForImageClassification': (
        swin,
        'swin.',
        lambda s: in_three(renamed(merging(s), SWIN), 'attn.w_msa.qkv', SWIN_QKV),
        'Swin names of Hugging Face',
        ['classifier.weight'],
    ),
    'ConvNextForImageClassification': (
        convnext,
        'convnext.',
        lambda s: renamed(s, CONVNEXT),
        'ConvNeXt names of Hugging Face',
        ['classifier.weight'],
    ),
    'ResNetModel, basic': (
        lambda: resnet(18),
        '',
        lambda s: renamed(s, RESNET),
        'ResNet names of Hugging Face',
        [],
    ),
    'ResNetForImageClassification': (
        lambda: resnet(50),
        'resnet.',
        lambda s: renamed(s, RESNET),
        'ResNet names of Hugging Face',
        ['classifier.1.weight'],
    ),
    'DINOv2 in training': (
        dinov2,
        'student.backbone.',
        lambda s: renamed(
            s,
            {
                r'^patch_embed\.projection': 'patch_embed.proj',
                '^ln1': 'norm',
                r'^layers\.(\d)': r'blocks.\1.\1',  # a chunk for each block
                r'\.ln': '.norm',
                r'ffn\.layers\.0\.0': 'mlp.fc1',
                r'ffn\.layers\.1': 'mlp.fc2',
                r'attn\.gamma1\.weight': 'ls1.gamma',
                r'ffn\.gamma2\.weight': 'ls2.gamma',
            },
        ),
        'DINOv2 checkpoint, ViT names of DINOv2 in chunks',
        ['student.dino_head.mlp.0.weight', 'student.backbone.mask_token'],
    ),
}


@pytest.mark.parametrize('network', NETWORKS)
def test_every_weight_arrives(tmp_path, network):
    build, prefix, to_file, told, others = NETWORKS[network]
    source = drawn(build())
    state = {
        name: value
        for name, value in source.state_dict().items()
        if not name.endswith('relative_position_index')
    }
    written = {prefix + name: value for name, value in to_file(state).items()}
    assert not set(written) & set(state)
    written |= {name: torch.ones(1) for name in others}
    torch.save(dict(model=written), tmp_path / 'a.pth')
    module = drawn(build(), seed=1)
    report = load_backbone(module, tmp_path / 'a.pth')
    torch.testing.assert_close(module.state_dict(), source.state_dict())
    assert report.loaded == len(state)
    assert f'{told})' in str(report)


def test_teacher_of_dinov2_in_training(tmp_path):
    build, _, to_file, told, _ = NETWORKS['DINOv2 in training']
    source = drawn(build())
    state = to_file(source.state_dict())
    written = {
        **{f'student.backbone.{name}': value + 1 for name, value in state.items()},
        **{f'teacher.backbone.{name}': value for name, value in state.items()},
        'teacher.dino_head.mlp.0.weight': torch.ones(1),
    }
    torch.save(dict(model=written), tmp_path / 'a.pth')
    report = load_backbone(build(), tmp_path / 'a.pth')
    assert 'taken: model.student.backbone' in str(report)
    module = drawn(build(), seed=1)
    report = load_backbone(module, tmp_path / 'a.pth', 'teacher')
    torch.testing.assert_close(module.state_dict(), source.state_dict())
    assert told in str(report)


def test_parts_without_a_place_are_refused(tmp_path):
    """BEiT of Hugging Face shares ViT's names and has more."""
    build, _, to_file, _, _ = NETWORKS['ViTModel']
    state = to_file(drawn(build()).state_dict())
    state['encoder.layer.0.lambda_1'] = torch.ones(WIDTH)
    torch.save(state, tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match=r'in the module: 1 \(layers\.0\.lambda'):
        load_backbone(build(), tmp_path / 'a.pth')


# -- Networks that timm has ------------------------------------------------------


def in_timm(name: str, **settings) -> TIMMBackbone:
    size = dict(embed_dim=WIDTH, depth=2, num_heads=2, img_size=32) | settings
    return TIMMBackbone(name, **size)


def plain_timm(name: str, **settings) -> nn.Module:
    size = dict(embed_dim=WIDTH, depth=2, num_heads=2, img_size=32) | settings
    return timm.create_model(name, num_classes=0, **size)


def meta_dinov3(state: State, biases: bool) -> State:
    """timm's names of DINOv3 -> those of its authors, with what timm leaves out."""
    result: State = {
        'mask_token': torch.ones(1, WIDTH),
        'rope_embed.periods': torch.ones(2),
    }
    state = renamed(
        state,
        {
            'reg_token': 'storage_tokens',
            'gamma_(.)': r'ls\1.gamma',
            'mlp.fc1_g': 'mlp.w1',
            'mlp.fc1_x': 'mlp.w2',
        }
        | ({r'mlp\.fc2': 'mlp.w3'} if 'blocks.0.mlp.fc1_g.bias' in state else {}),
    )
    for name, value in state.items():
        if name.endswith('qkv.weight'):
            attention = name.removesuffix('qkv.weight')
            zero = torch.zeros(WIDTH)
            query, key = state.get(f'{attention}q_bias', zero), torch.ones(WIDTH)
            bias = query, key, state.get(f'{attention}v_bias', zero)
            result[f'{attention}qkv.bias'] = torch.cat(bias)
            result[f'{attention}qkv.bias_mask'] = torch.ones(3 * WIDTH)
        if not name.endswith('_bias'):
            result[name] = value
    return result


def hugging_face_dinov3(state: State, biases: bool) -> State:
    gated = 'blocks.0.mlp.fc1_g.bias' in state
    names = {
        '^(cls_token)': r'embeddings.\1',
        '^reg_token': 'embeddings.register_tokens',
        r'^patch_embed\.proj': 'embeddings.patch_embeddings',
        r'^blocks\.': 'layer.',
        r'attn\.([qv])_bias': r'attention.\1_proj.bias',
        r'attn\.proj': 'attention.o_proj',
        'gamma_(.)': r'layer_scale\1.lambda1',
        r'mlp\.fc1_g': 'mlp.gate_proj',
        r'mlp\.fc1_x' if gated else r'mlp\.fc1': 'mlp.up_proj',
        r'mlp\.fc2': 'mlp.down_proj',
    }
    result = in_three(renamed(state, names), 'attn.qkv', QKV_IN_MEMORY)
    if not biases:
        for name in [name for name in result if name.endswith('q_proj.weight')]:
            for part in 'qv':
                bias = name.replace('q_proj.weight', f'{part}_proj.bias')
                result[bias] = torch.zeros(WIDTH)
    return result | {'embeddings.mask_token': torch.ones(1, 1, WIDTH)}


@pytest.mark.parametrize('to_file', [meta_dinov3, hugging_face_dinov3, None])
@pytest.mark.parametrize(
    'name',
    [
        'vit_small_patch16_dinov3',
        'vit_small_patch16_dinov3_qkvb',
        'vit_small_plus_patch16_dinov3_qkvb',
    ],
)
@torch.no_grad()
def test_dinov3_gives_the_features_of_timm(tmp_path, name, to_file):
    source = drawn(plain_timm(name))
    state = source.state_dict()
    has_biases = 'blocks.0.attn.q_bias' in state
    written = to_file(state, has_biases) if to_file else state
    torch.save(written, tmp_path / 'a.pth')
    images = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    module = in_timm(name)
    module.eval()
    report = load_backbone(module, tmp_path / 'a.pth')
    assert report.loaded == len(state) and not report.new
    torch.testing.assert_close(module(images)[0], source.forward_features(images))

    maps = in_timm(name, features_only=True, out_indices=(0, 1))
    maps.eval()
    load_backbone(maps, tmp_path / 'a.pth')
    last = source.forward_intermediates(images, norm=False, intermediates_only=True)
    torch.testing.assert_close(maps(images), tuple(last))


def test_biases_of_dinov3(tmp_path):
    state = drawn(plain_timm('vit_small_patch16_dinov3_qkvb')).state_dict()
    torch.save(meta_dinov3(state, True), tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='with _qkvb behind'):
        load_backbone(in_timm('vit_small_patch16_dinov3'), tmp_path / 'a.pth')
    state = drawn(plain_timm('vit_small_patch16_dinov3')).state_dict()
    torch.save(meta_dinov3(state, False), tmp_path / 'a.pth')
    module = in_timm('vit_small_patch16_dinov3_qkvb')
    report = load_backbone(module, tmp_path / 'a.pth')
    assert len(report.new) == 4  # zero, as in the file
    assert not module.timm_model.blocks[1].attn.v_bias.any()


@pytest.mark.parametrize('layout', EXPORT_LAYOUTS)
def test_export_of_dinov3(tmp_path, layout):
    source = drawn(plain_timm('vit_small_patch16_dinov3'))
    # As in training, where the token of masked patches stands beside the weights.
    written = meta_dinov3(source.state_dict(), False)
    assert 'mask_token' in written
    written = {f'backbone.{name}': value for name, value in written.items()}
    torch.save(dict(teacher=written), tmp_path / 'a.pth')
    export_backbone(tmp_path / 'a.pth', tmp_path / 'b.pth', layout, 'teacher')
    if layout == 'timm':
        module = plain_timm('vit_small_patch16_dinov3')
        exported = torch.load(tmp_path / 'b.pth')['state_dict']
        module.load_state_dict(exported)
    else:
        module = in_timm('vit_small_patch16_dinov3')
        prefix = dict(prefix='backbone.') if layout == 'mmpretrain' else {}
        PretrainedInit(str(tmp_path / 'b.pth'), **prefix)(module)
        module = module.timm_model
    torch.testing.assert_close(module.state_dict(), source.state_dict())
    again = in_timm('vit_small_patch16_dinov3')
    assert load_backbone(again, tmp_path / 'b.pth').loaded == len(source.state_dict())


def test_dinov3_in_another_network(tmp_path):
    state = drawn(plain_timm('vit_small_patch16_dinov3')).state_dict()
    torch.save(meta_dinov3(state, False), tmp_path / 'a.pth')
    with pytest.raises(
        CheckpointError,
        match=r"holds a DINOv3 2 .*type='mmpretrain\.TIMMBackbone', .*model_name",
    ):
        load_backbone(dinov2(), tmp_path / 'a.pth')


@torch.no_grad()
def test_registers_of_dinov2(tmp_path):
    """DINOv2 gives its class token a position, timm adds the two beforehand."""
    name = 'vit_small_patch14_reg4_dinov2'
    source = drawn(plain_timm(name, patch_size=8))
    state = source.state_dict()
    position = torch.rand(1, 1, WIDTH)
    state['cls_token'] = state['cls_token'] - position
    state['pos_embed'] = torch.cat((position, state['pos_embed']), 1)
    state['register_tokens'] = state.pop('reg_token')
    torch.save(state, tmp_path / 'a.pth')
    module = in_timm(name, patch_size=8)
    module.eval()
    load_backbone(module, tmp_path / 'a.pth')
    images = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(module(images)[0], source.forward_features(images))
    with pytest.raises(CheckpointError, match=r'register tokens.*TIMMBackbone'):
        load_backbone(dinov2(), tmp_path / 'a.pth')

    larger = in_timm(name, patch_size=8, img_size=48)
    report = load_backbone(larger, tmp_path / 'a.pth')
    assert report.resized == ['pos_embed']
    assert larger.timm_model.pos_embed.shape == (1, 36, WIDTH)
