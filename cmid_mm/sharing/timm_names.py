# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What timm calls the networks that it has too."""

from collections.abc import Mapping
from typing import Any, NamedTuple

_RESNETS = {
    'ResNet': ('', (18, 34, 50, 101, 152)),
    'ResNetV1c': ('c', (50, 101)),
    'ResNetV1d': ('d', (18, 34, 50, 101, 152)),
}
_SWINS = {
    (96, (2, 2, 6, 2)): 'tiny',
    (96, (2, 2, 18, 2)): 'small',
    (128, (2, 2, 18, 2)): 'base',
    (192, (2, 2, 18, 2)): 'large',
}
_VITS = {
    (192, 12, 3): 'tiny',
    (384, 12, 6): 'small',
    (768, 12, 12): 'base',
    (1024, 24, 16): 'large',
}
_CONVNEXTS = {
    (96, (3, 3, 9, 3)): 'tiny',
    (96, (3, 3, 27, 3)): 'small',
    (128, (3, 3, 27, 3)): 'base',
    (192, (3, 3, 27, 3)): 'large',
    (256, (3, 3, 27, 3)): 'xlarge',
}


class TimmModel(NamedTuple):
    """A network of timm.

    Attributes:
        name: Its name.
        options: What else ``timm.create_model`` has to be told, besides
            ``num_classes=0``.
    """

    name: str
    options: dict[str, Any]


def timm_model(network: Mapping[str, Any]) -> TimmModel | None:
    """The network of timm that has the same weights.

    Args:
        network: A config as of :func:`cmid_mm.checkpoints.networks.network_config`.

    Returns:
        None if timm has none of this name.
    """
    kind = network['type'].rpartition('.')[2]
    arch = network.get('arch', {})
    options = {}
    if network['in_channels'] != 3:
        options['in_chans'] = network['in_channels']
    name = None
    if kind in _RESNETS and network['base_channels'] == 64:
        ending, depths = _RESNETS[kind]
        if network['depth'] in depths and network['num_stages'] == 4:
            name = f'resnet{network["depth"]}{ending}'
    elif kind == 'SwinTransformer' and network['window_size'] == 7:
        size = _SWINS.get((arch['embed_dims'], tuple(arch['depths'])))
        name = size and f'swin_{size}_patch4_window7_224'
    elif kind == 'ConvNeXt' and not network['use_grn']:
        size = _CONVNEXTS.get((arch['channels'][0], tuple(arch['depths'])))
        name = size and f'convnext_{size}'
    elif kind == 'VisionTransformer' and _is_plain(network):
        key = arch['embed_dims'], arch['num_layers'], arch['num_heads']
        size = _VITS.get(key) if network['patch_size'] == 16 else None
        name = size and f'vit_{size}_patch16_224'
        if network['img_size'] != 224:
            options['img_size'] = network['img_size']
    return TimmModel(name, options) if name else None


def _is_plain(vit: Mapping[str, Any]) -> bool:
    """Whether a ViT has the parts of timm's plain one, and no other."""
    has = vit['qkv_bias'], vit['final_norm'], vit['with_cls_token']
    return all(has) and not (vit['pre_norm'] or vit['layer_scale_init_value'])
