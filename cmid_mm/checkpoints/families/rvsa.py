# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""ViT and ViTAE with rotated varied-size window attention: Wang et al., TGRS 2022.

Both have names of timm's ViT too, and the second those of the first.
"""

import functools
import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..position_tables import (
    BIAS_TABLE,
    resize_bias_table,
    resize_rvsa_positions,
    resize_rvsa_vectors,
)
from .family import Architecture, Family, quarters
from .naming import Layout

_SAMPLING = 'blocks.0.attn.sampling_angles.2.weight'


def _settings(network: Architecture) -> str:
    return f'embed_dims={network.width}, depth={network.depths[0]}'


def _network(
    kind: str,
    shape: Architecture,
    state: Mapping[str, Tensor],
    stored: Mapping[str, Any],
) -> dict[str, Any]:
    depth = shape.depths[0]
    table = state['blocks.0.attn.relative_position_bias_table']
    sampling = (_SAMPLING.replace('.0.', f'.{i}.') for i in range(depth))
    windowed = [name in state for name in sampling]
    whole = windowed.index(False) if False in windowed else depth
    # Some releases have no place for a class token.
    patches = math.isqrt(state['pos_embed'].shape[1])
    return dict(
        type=kind,
        img_size=patches * shape.kernel,
        patch_size=shape.kernel,
        in_channels=shape.bands,
        embed_dims=shape.width,
        depth=depth,
        num_heads=table.shape[1],
        mlp_ratio=state['blocks.0.mlp.fc1.weight'].shape[0] // shape.width,
        window_size=(math.isqrt(table.shape[0]) + 1) // 2,
        interval=whole + 1,
        out_indices=quarters(depth),
        final_norm='norm.weight' in state,
    )


_family = functools.partial(
    Family,
    stem=('patch_embed.proj.weight',),
    block=r'(blocks)\.(\d+)\.',
    parts=r'(patch_embed|blocks|norm|fpn\d)\.|pos_embed$',
    settings=_settings,
    # The layers that make the pyramid
    may_be_new=r'fpn\d\.',
    position_tables=(
        (r'pos_embed$', resize_rvsa_positions),
        (BIAS_TABLE, resize_bias_table),
        (r'blocks\.\d+\.attn\.rel_pos_[hw]$', resize_rvsa_vectors),
    ),
)
RVSA_VIT = _family(
    name='RVSAViT',
    type='RVSAViT',
    network=functools.partial(_network, 'RVSAViT'),
    layouts=(Layout('the release', 'RVSAViT', ('patch_embed.proj.weight', _SAMPLING)),),
)
RVSA_VITAE = _family(
    name='RVSAViTAE',
    type='RVSAViTAE',
    network=functools.partial(_network, 'RVSAViTAE'),
    layouts=(Layout('the release', 'RVSAViTAE', ('blocks.0.PCM.0.weight', _SAMPLING)),),
)
