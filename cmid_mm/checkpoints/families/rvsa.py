# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""ViT and ViTAE with rotated varied-size window attention: Wang et al., TGRS 2022.

Both have names of timm's ViT too, and the second those of the first.
"""

import functools

from ..position_tables import (
    BIAS_TABLE,
    resize_bias_table,
    resize_rvsa_positions,
    resize_rvsa_vectors,
)
from .family import Architecture, Family
from .naming import Layout

_SAMPLING = 'blocks.0.attn.sampling_angles.2.weight'


def _settings(network: Architecture) -> str:
    return f'embed_dims={network.width}, depth={network.depths[0]}'


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
    layouts=(Layout('the release', 'RVSAViT', ('patch_embed.proj.weight', _SAMPLING)),),
)
RVSA_VITAE = _family(
    name='RVSAViTAE',
    type='RVSAViTAE',
    layouts=(Layout('the release', 'RVSAViTAE', ('blocks.0.PCM.0.weight', _SAMPLING)),),
)
