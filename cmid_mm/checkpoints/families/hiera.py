# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Hiera (Ryali et al., ICML 2023), by the names of timm, which has kept Meta's."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from ..position_tables import resize_vit_positions
from .family import Architecture, Export, Family, arch_setting, channels_of_stages
from .naming import Layout

_ARCHS: dict[tuple[int, tuple[int, ...]], str] = {
    (96, (12,)): 'hiera_tiny_224',
    (96, (16,)): 'hiera_small_224',
    (96, (24,)): 'hiera_base_224',
    (112, (24,)): 'hiera_base_plus_224',
    (144, (48,)): 'hiera_large_224',
    (256, (48,)): 'hiera_huge_224',
}
# The second stage, to which a projection leads, begins at block 1 or 2.
_TIMM = Layout('timm', 'Hiera', ('patch_embed.proj.weight', 'blocks.1.proj.weight'))
_IN_WINDOWS = replace(_TIMM, signature=('pos_embed', 'pos_embed_win'))
_LARGER = replace(_TIMM, signature=(_TIMM.signature[0], 'blocks.2.proj.weight'))


def _settings(network: Architecture) -> str:
    return f'{arch_setting(_ARCHS, network)} and {channels_of_stages(network.width)}'


def _network(
    shape: Architecture, state: Mapping[str, Tensor], stored: Mapping[str, Any]
) -> dict[str, Any]:
    arch = _ARCHS.get((shape.width, shape.depths))
    if arch is None:
        raise ValueError(f'timm has no {shape}')
    positions = state['pos_embed']
    if positions.ndim != 3:
        raise ValueError(f'{arch} does not have its tables of positions in windows')
    # A position for each 4 x 4 pixels
    side = 4 * math.isqrt(positions.shape[1])
    return dict(
        type='VisibleHiera',
        arch=arch,
        img_size=side,
        in_channels=shape.bands,
        out_indices=(0, 1, 2, 3),
    )


HIERA = Family(
    name='Hiera',
    type='VisibleHiera',
    layouts=(_TIMM, _LARGER, _IN_WINDOWS),
    stem=('patch_embed.proj.weight',),
    block=r'(blocks)\.(\d+)\.',
    parts=r'(patch_embed|blocks)\.|pos_embed(_win)?$',
    settings=_settings,
    position_tables=((r'pos_embed$', resize_vit_positions),),
    exports=dict(timm=(Export(_TIMM),)),
    wrapper='timm_model.',
    network=_network,
)
