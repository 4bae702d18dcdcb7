# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Swin Transformer: Liu et al., ICCV 2021."""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..position_tables import BIAS_TABLE, resize_bias_table
from .family import Architecture, Export, Family, arch_setting, channels_of_stages
from .naming import SEPARATE_QKV, Layout, Names, Step

_ARCHS = {
    (96, (2, 2, 6, 2)): 'tiny',
    (96, (2, 2, 18, 2)): 'small',
    (128, (2, 2, 18, 2)): 'base',
    (192, (2, 2, 18, 2)): 'large',
}

_MERGING = re.compile(r'stages\.\d+\.downsample\.(norm|reduction)\..*')


def _to_unfolded(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: _swap_middle(value.unflatten(-1, (4, -1))).transpose(-1, -2).flatten(-2)
        if _MERGING.fullmatch(name)
        else value
        for name, value in state.items()
    }


def _to_concatenated(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: _swap_middle(value.unflatten(-1, (-1, 4)).transpose(-1, -2)).flatten(-2)
        if _MERGING.fullmatch(name)
        else value
        for name, value in state.items()
    }


def _swap_middle(neighbours: Tensor) -> Tensor:
    """Swap the second and third of the four neighbours, (..., 4, C)."""
    return neighbours[..., torch.tensor([0, 2, 1, 3]), :]


# The order of the input channels of patch merging, (..., 4 C). Concatenation stacks the
# neighbours in the order upper left, lower left, upper right, lower right, with all
# channels of each; nn.Unfold goes through the channels, with the neighbours of each
# row by row.
_CONCATENATED_MERGING = Step(_to_unfolded, _to_concatenated)

_BLOCKS: Names = (
    ('patch_embed.proj', 'patch_embed.projection'),
    ('layers.#.blocks.#.attn', 'stages.#.blocks.#.attn.w_msa'),
    ('layers.#.blocks.#.mlp.fc1', 'stages.#.blocks.#.ffn.layers.0.0'),
    ('layers.#.blocks.#.mlp.fc2', 'stages.#.blocks.#.ffn.layers.1'),
    ('layers.#.blocks', 'stages.#.blocks'),
    ('norm', 'norm3'),
)
_MICROSOFT = Layout(
    'Microsoft',
    'Swin',
    ('layers.0.blocks.0.attn.qkv.weight', 'layers.0.downsample.reduction.weight'),
    (*_BLOCKS, ('layers.#.downsample', 'stages.#.downsample')),
    steps=(_CONCATENATED_MERGING,),
)
# timm merges patches at the beginning of the next stage.
_TIMM = Layout(
    'timm',
    'Swin',
    ('layers.0.blocks.0.attn.qkv.weight', 'layers.1.downsample.reduction.weight'),
    (
        *_BLOCKS,
        ('layers.1.downsample', 'stages.0.downsample'),
        ('layers.2.downsample', 'stages.1.downsample'),
        ('layers.3.downsample', 'stages.2.downsample'),
    ),
    steps=(_CONCATENATED_MERGING,),
)
# torchvision numbers a stage and the merging behind it as two features.
_TORCHVISION = Layout(
    'torchvision',
    'Swin',
    ('features.0.2.weight', 'features.1.0.attn.qkv.weight'),
    (
        ('features.0.0', 'patch_embed.projection'),
        ('features.0.2', 'patch_embed.norm'),
        *(
            (f'features.{feature}.{old}', f'stages.{stage}.blocks.#{new}')
            for stage, feature in enumerate((1, 3, 5, 7))
            for old, new in (
                ('#.attn', '.attn.w_msa'),
                ('#.mlp.0', '.ffn.layers.0.0'),
                ('#.mlp.3', '.ffn.layers.1'),
                ('#', ''),
            )
        ),
        ('features.2', 'stages.0.downsample'),
        ('features.4', 'stages.1.downsample'),
        ('features.6', 'stages.2.downsample'),
        ('norm', 'norm3'),
    ),
    steps=(_CONCATENATED_MERGING,),
)
_HUGGING_FACE_BLOCK = (
    ('attention.self.query', 'attn.w_msa.qkv.q'),
    ('attention.self.key', 'attn.w_msa.qkv.k'),
    ('attention.self.value', 'attn.w_msa.qkv.v'),
    ('attention.self', 'attn.w_msa'),
    ('attention.output.dense', 'attn.w_msa.proj'),
    ('layernorm_before', 'norm1'),
    ('layernorm_after', 'norm2'),
    ('intermediate.dense', 'ffn.layers.0.0'),
    ('output.dense', 'ffn.layers.1'),
)
_TRANSFORMERS_5_BLOCK = (
    ('attention.q_proj', 'attn.w_msa.qkv.q'),
    ('attention.k_proj', 'attn.w_msa.qkv.k'),
    ('attention.v_proj', 'attn.w_msa.qkv.v'),
    ('attention.o_proj', 'attn.w_msa.proj'),
    ('attention.relative_position_bias', 'attn.w_msa'),
    ('layernorm_before', 'norm1'),
    ('layernorm_after', 'norm2'),
    ('mlp.fc1', 'ffn.layers.0.0'),
    ('mlp.fc2', 'ffn.layers.1'),
)


def _hugging_face(name: str, query: str, block: Names) -> Layout:
    first = f'encoder.layers.0.blocks.0.{query}.weight'
    return Layout(
        name,
        'Swin',
        ('embeddings.patch_embeddings.projection.weight', first),
        (
            ('embeddings.patch_embeddings', 'patch_embed'),
            ('embeddings.norm', 'patch_embed.norm'),
            *(
                (f'encoder.layers.#.blocks.#.{old}', f'stages.#.blocks.#.{new}')
                for old, new in block
            ),
            ('encoder.layers', 'stages'),
            ('layernorm', 'norm3'),
        ),
        steps=(SEPARATE_QKV, _CONCATENATED_MERGING),
    )


def _measure(state: Mapping[str, Tensor], depths: tuple[int, ...]) -> dict[str, Any]:
    tables = (
        f'stages.{stage}.blocks.0.attn.w_msa.relative_position_bias_table'
        for stage in range(len(depths))
    )
    return dict(heads=tuple(state[name].shape[1] for name in tables if name in state))


def _settings(network: Architecture) -> str:
    return (
        f'embed_dims={network.width}, depths={list(network.depths)}, '
        f'num_heads={list(network.heads)} ({arch_setting(_ARCHS, network)} in '
        f'mmpretrain), and {channels_of_stages(network.width)}'
    )


def _network(
    shape: Architecture, state: Mapping[str, Tensor], stored: Mapping[str, Any]
) -> dict[str, Any]:
    table = state['stages.0.blocks.0.attn.w_msa.relative_position_bias_table']
    return dict(
        type='mmpretrain.SwinTransformer',
        arch=dict(
            embed_dims=shape.width,
            depths=list(shape.depths),
            num_heads=list(shape.heads),
        ),
        patch_size=shape.kernel,
        in_channels=shape.bands,
        window_size=(math.isqrt(table.shape[0]) + 1) // 2,
        out_indices=list(range(len(shape.depths))),
        pad_small_map=bool(stored.get('pad_small_map')),
    )


SWIN = Family(
    name='Swin',
    type='SwinTransformer',
    layouts=(
        Layout(
            'mmpretrain, mmdet and mmseg',
            'Swin',
            (
                'patch_embed.projection.weight',
                'stages.0.blocks.0.attn.w_msa.qkv.weight',
            ),
        ),
        _MICROSOFT,
        _TIMM,
        _TORCHVISION,
        _hugging_face('Hugging Face', 'attention.self.query', _HUGGING_FACE_BLOCK),
        _hugging_face(
            'Hugging Face in memory', 'attention.q_proj', _TRANSFORMERS_5_BLOCK
        ),
    ),
    stem=('patch_embed.projection.weight',),
    block=r'stages\.(\d+)\.blocks\.(\d+)\.',
    parts=r'(patch_embed|stages|norm\d)\.|absolute_pos_embed$',
    settings=_settings,
    measure=_measure,
    network=_network,
    # Pre-training uses the last of the norms behind the stages.
    may_be_new=r'norm[0-2]\.(weight|bias)$',
    indispensable=(
        (
            r'absolute_pos_embed$',
            'the file has a position embedding, which the module does not have',
        ),
    ),
    position_tables=((BIAS_TABLE, resize_bias_table),),
    # timm knows the last norm only.
    exports=dict(
        timm=(Export(_TIMM, left_out=r'norm[0-2]\.|.*relative_position_index$'),)
    ),
    # mmdet's Swin reads only names with this prefix, its ResNet only those without.
    mmdet_prefix='backbone.',
)
