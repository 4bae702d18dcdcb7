# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""ViT: Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mmpretrain.models import VisionTransformer
from torch import Tensor

from ..position_tables import resize_vit_positions
from .family import Architecture, Export, Family, arch_setting, quarters
from .naming import SEPARATE_QKV, Layout, Names, Step

_ARCHS: dict[tuple[int, tuple[int, ...]], str] = {
    (192, (12,)): 'deit-tiny',
    (384, (12,)): 'deit-small',
    (768, (12,)): 'base',
    (1024, (24,)): 'large',
    (1280, (32,)): 'huge',
}


def _registers_without_positions(state: dict[str, Tensor]) -> dict[str, Tensor]:
    state = dict(state)
    if 'register_tokens' in state and 'pos_embed' in state and 'cls_token' in state:
        positions = state['pos_embed']
        state['reg_token'] = state.pop('register_tokens')
        state['cls_token'] = state['cls_token'] + positions[:, :1]
        state['pos_embed'] = positions[:, 1:]
    return state


# DINOv2 adds a position to its class token before it puts in the registers, which have
# none; timm keeps the sum.
_REGISTERS = Step(_registers_without_positions, lambda state: state)

_TIMM = Layout(
    'timm',
    'ViT',
    ('patch_embed.proj.weight', 'blocks.0.attn.qkv.weight'),
    (
        ('patch_embed.proj', 'patch_embed.projection'),
        ('blocks.#.norm1', 'layers.#.ln1'),
        ('blocks.#.norm2', 'layers.#.ln2'),
        ('blocks.#.mlp.fc1', 'layers.#.ffn.layers.0.0'),
        ('blocks.#.mlp.fc2', 'layers.#.ffn.layers.1'),
        ('blocks.#.mlp.w12', 'layers.#.ffn.w12'),
        ('blocks.#.mlp.w3', 'layers.#.ffn.w3'),
        ('blocks.#.ls1.gamma', 'layers.#.attn.gamma1.weight'),
        ('blocks.#.ls2.gamma', 'layers.#.ffn.gamma2.weight'),
        ('blocks.#', 'layers.#'),
        ('norm_pre', 'pre_norm'),
        ('norm', 'ln1'),
        ('fc_norm', 'ln2'),
    ),
    steps=(_REGISTERS,),
    # Hiera, of the same parts, but with projections between its stages, or tables of
    # positions in windows
    unlike=r'blocks\.\d+\.proj\.|pos_embed_win$',
)
# DINOv2 trains its blocks in chunks, in which they keep their numbers.
_CHUNKS = replace(
    _TIMM,
    name='DINOv2 in chunks',
    signature=('patch_embed.proj.weight', 'blocks.0.0.attn.qkv.weight'),
    names=tuple(
        (old.replace('blocks.#', 'blocks.*.#'), new) for old, new in _TIMM.names
    ),
)
# linear_1 and linear_2 in the files of torchvision before 0.15.
_TORCHVISION = Layout(
    'torchvision',
    'ViT',
    (
        'conv_proj.weight',
        'encoder.layers.encoder_layer_0.self_attention.in_proj_weight',
    ),
    (
        ('class_token', 'cls_token'),
        ('conv_proj', 'patch_embed.projection'),
        ('encoder.pos_embedding', 'pos_embed'),
        *(
            (f'encoder.layers.encoder_layer_#.{old}', f'layers.#.{new}')
            for old, new in (
                ('ln_1', 'ln1'),
                ('ln_2', 'ln2'),
                ('self_attention.in_proj_weight', 'attn.qkv.weight'),
                ('self_attention.in_proj_bias', 'attn.qkv.bias'),
                ('self_attention.out_proj', 'attn.proj'),
                ('mlp.0', 'ffn.layers.0.0'),
                ('mlp.3', 'ffn.layers.1'),
                ('mlp.linear_1', 'ffn.layers.0.0'),
                ('mlp.linear_2', 'ffn.layers.1'),
            )
        ),
        ('encoder.ln', 'ln1'),
    ),
)
_MMSEG = Layout(
    'mmseg',
    'ViT',
    ('patch_embed.projection.weight', 'layers.0.attn.attn.in_proj_weight'),
    (
        ('layers.#.attn.attn.in_proj_weight', 'layers.#.attn.qkv.weight'),
        ('layers.#.attn.attn.in_proj_bias', 'layers.#.attn.qkv.bias'),
        ('layers.#.attn.attn.out_proj', 'layers.#.attn.proj'),
    ),
)
_HUGGING_FACE_BLOCK = (
    ('attention.attention.query', 'attn.qkv.q'),
    ('attention.attention.key', 'attn.qkv.k'),
    ('attention.attention.value', 'attn.qkv.v'),
    ('attention.output.dense', 'attn.proj'),
    ('intermediate.dense', 'ffn.layers.0.0'),
    ('output.dense', 'ffn.layers.1'),
)
_TRANSFORMERS_5_BLOCK = (
    ('attention.q_proj', 'attn.qkv.q'),
    ('attention.k_proj', 'attn.qkv.k'),
    ('attention.v_proj', 'attn.qkv.v'),
    ('attention.o_proj', 'attn.proj'),
)


def _hugging_face(name: str, blocks: str, query: str, block: Names) -> Layout:
    """ViT, DeiT, ViTMAE and DINOv2 of Hugging Face."""
    return Layout(
        name,
        'ViT',
        (
            'embeddings.patch_embeddings.projection.weight',
            f'{blocks}.0.{query}.weight',
        ),
        (
            ('embeddings.patch_embeddings', 'patch_embed'),
            ('embeddings.cls_token', 'cls_token'),
            ('embeddings.position_embeddings', 'pos_embed'),
            ('embeddings.register_tokens', 'register_tokens'),
            ('embeddings.distillation_token', 'dist_token'),
            *(
                (f'{blocks}.#.{old}', f'layers.#.{new}')
                for old, new in (
                    *block,
                    ('layernorm_before', 'ln1'),
                    ('layernorm_after', 'ln2'),
                    ('norm1', 'ln1'),
                    ('norm2', 'ln2'),
                    ('layer_scale1.lambda1', 'attn.gamma1.weight'),
                    ('layer_scale2.lambda1', 'ffn.gamma2.weight'),
                    ('mlp.fc1', 'ffn.layers.0.0'),
                    ('mlp.fc2', 'ffn.layers.1'),
                    ('mlp.weights_in', 'ffn.w12'),
                    ('mlp.weights_out', 'ffn.w3'),
                )
            ),
            # What has no place there must not be taken for a head.
            (blocks, 'layers'),
            ('layernorm', 'ln1'),
        ),
        steps=(SEPARATE_QKV, _REGISTERS),
    )


def _settings(network: Architecture) -> str:
    return arch_setting(_ARCHS, network)


def _network(
    shape: Architecture, state: Mapping[str, Tensor], stored: Mapping[str, Any]
) -> dict[str, Any]:
    depth = shape.depths[0]
    arch = stored.get('arch', _ARCHS.get((shape.width, shape.depths)))
    if isinstance(arch, str):
        zoo: Mapping[str, Any] = VisionTransformer.arch_zoo
        arch = zoo.get(arch.lower())
    heads = arch.get('num_heads') if isinstance(arch, Mapping) else None
    if not isinstance(heads, int):
        raise ValueError(
            f'the number of heads of a {shape} is not in its weights, and the file '
            'does not say it'
        )
    has_token = 'cls_token' in state
    patches = math.isqrt(state['pos_embed'].shape[1] - has_token)
    hidden = 'layers.0.ffn.layers.0.0.weight'
    return dict(
        type='mmpretrain.VisionTransformer',
        arch=dict(
            embed_dims=shape.width,
            num_layers=depth,
            num_heads=heads,
            feedforward_channels=state[hidden].shape[0],
        ),
        img_size=patches * shape.kernel,
        patch_size=shape.kernel,
        in_channels=shape.bands,
        qkv_bias='layers.0.attn.qkv.bias' in state,
        patch_cfg=dict(bias='patch_embed.projection.bias' in state),
        pre_norm='pre_norm.weight' in state,
        final_norm='ln1.weight' in state,
        with_cls_token=has_token,
        layer_scale_init_value=1e-5 if 'layers.0.attn.gamma1.weight' in state else 0.0,
        out_type='featmap',
        out_indices=quarters(depth),
    )


VIT = Family(
    name='ViT',
    type='mmpretrain.VisionTransformer',
    layouts=(
        Layout(
            'mmpretrain',
            'ViT',
            ('patch_embed.projection.weight', 'layers.0.attn.qkv.weight'),
        ),
        _MMSEG,
        _TIMM,
        _CHUNKS,
        _TORCHVISION,
        _hugging_face(
            'Hugging Face',
            'encoder.layer',
            'attention.attention.query',
            _HUGGING_FACE_BLOCK,
        ),
        # transformers 5 keeps other names than it writes; DINOv2 differs once more.
        _hugging_face(
            'Hugging Face in memory',
            'layers',
            'attention.q_proj',
            _TRANSFORMERS_5_BLOCK,
        ),
        _hugging_face(
            'Hugging Face in memory',
            'encoder.layer',
            'attention.q_proj',
            _TRANSFORMERS_5_BLOCK,
        ),
    ),
    stem=('patch_embed.projection.weight',),
    block=r'(layers)\.(\d+)\.',
    parts=r'(patch_embed|pre_norm|layers|ln1|ln2)\.|(cls_token|pos_embed)$',
    settings=_settings,
    network=_network,
    # The norm for averaged patches
    may_be_new=r'ln2\.(weight|bias)$',
    indispensable=(
        (
            r'channel_embed$',
            'the file holds a SatMAE ViT for groups of bands, with a patch embedding '
            'and a channel embedding for each group, that the module does not have; '
            "take the RGB release of SatMAE, or run it in the authors' code",
        ),
        (
            r'layers\.\d+\.attn\.q_bias$',
            'the file holds a ViT of BEiT or data2vec, whose attention has biases of '
            'queries, values and relative positions that the module does not have; '
            'take a release of another method',
        ),
        (
            r'(reg_token|register_tokens)$',
            'the file holds a ViT with register tokens, which the module does not '
            "have; take timm's network of the same name, "
            "type='mmpretrain.TIMMBackbone'",
        ),
        (
            r'dist_token$',
            'the file holds a distilled DeiT, whose distillation token the module does '
            "not have; set type='mmpretrain.DistilledVisionTransformer'",
        ),
        (
            r'pre_norm\.',
            "the file has a norm before the first block; set the backbone's "
            'pre_norm=True',
        ),
        (
            r'layers\.\d+\.attn\.gamma1\.',
            "the file has a layer scale in each block; set the backbone's "
            'layer_scale_init_value=1e-5',
        ),
        (
            r'pos_embed$',
            'the file has a position embedding, which the module does not have',
        ),
    ),
    position_tables=((r'pos_embed$', resize_vit_positions),),
    exports=dict(
        # The token of masked patches, of training alone
        timm=(Export(_TIMM, left_out=r'mask_token$'),),
        mmdet=(
            Export(
                _MMSEG,
                parts=r'(patch_embed\.projection|ln1'
                r'|layers\.\d+\.(ln1|ln2|attn\.qkv|attn\.proj|ffn\.layers))\.'
                r'|(cls_token|pos_embed)$',
                needs=('cls_token', 'pos_embed'),
                # The norm of averaged patches
                left_out=r'ln2\.',
            ),
        ),
    ),
)
