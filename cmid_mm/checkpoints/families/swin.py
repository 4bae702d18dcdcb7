# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Swin Transformer: Liu et al., ICCV 2021."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..position_tables import BIAS_TABLE, resize_bias_table
from .family import Architecture, Export, Family, arch_setting, channels_of_stages
from .naming import Layout, Names

_ARCHS = {
    (96, (2, 2, 6, 2)): 'tiny',
    (96, (2, 2, 18, 2)): 'small',
    (128, (2, 2, 18, 2)): 'base',
    (192, (2, 2, 18, 2)): 'large',
}

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
    concatenated_merging=True,
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
    concatenated_merging=True,
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
    concatenated_merging=True,
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
    ),
    stem=('patch_embed.projection.weight',),
    block=r'stages\.(\d+)\.blocks\.(\d+)\.',
    parts=r'(patch_embed|stages|norm\d)\.|absolute_pos_embed$',
    settings=_settings,
    measure=_measure,
    # Pre-training uses the last of the norms behind the stages.
    may_be_new=r'norm[0-2]\.(weight|bias)$',
    indispensable=(
        (
            r'absolute_pos_embed$',
            'the file has a position embedding, which the module does not have',
        ),
    ),
    position_tables=((BIAS_TABLE, resize_bias_table),),
    exports=dict(timm=(Export(_TIMM),)),
    # mmdet's Swin reads only names with this prefix, its ResNet only those without.
    mmdet_prefix='backbone.',
)
