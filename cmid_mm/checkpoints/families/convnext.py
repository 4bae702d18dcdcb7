# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""ConvNeXt: Liu et al., A ConvNet for the 2020s, CVPR 2022."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .family import Architecture, Export, Family, arch_setting, channels_of_stages
from .naming import Layout, Step

_ARCHS = {
    (96, (3, 3, 9, 3)): 'tiny',
    (96, (3, 3, 27, 3)): 'small',
    (128, (3, 3, 27, 3)): 'base',
    (192, (3, 3, 27, 3)): 'large',
}


def _flatten_gammas(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.flatten() if k.endswith('.gamma') else v for k, v in state.items()}


def _spread_gammas(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        k: v[:, None, None] if k.endswith('.gamma') else v for k, v in state.items()
    }


# Layer scales of (C, 1, 1) instead of (C,)
_SPATIAL_GAMMA = Step(_flatten_gammas, _spread_gammas)

_FACEBOOK = Layout(
    'Facebook',
    'ConvNeXt',
    ('downsample_layers.0.0.weight', 'stages.0.0.dwconv.weight'),
    (
        ('stages.#.#.dwconv', 'stages.#.#.depthwise_conv'),
        ('stages.#.#.pwconv1', 'stages.#.#.pointwise_conv1'),
        ('stages.#.#.pwconv2', 'stages.#.#.pointwise_conv2'),
        ('norm', 'norm3'),
    ),
)
_TIMM = Layout(
    'timm',
    'ConvNeXt',
    ('stem.0.weight', 'stages.0.blocks.0.conv_dw.weight'),
    (
        ('stem', 'downsample_layers.0'),
        ('stages.#.downsample', 'downsample_layers.#'),
        ('stages.#.blocks.#.conv_dw', 'stages.#.#.depthwise_conv'),
        ('stages.#.blocks.#.mlp.fc1', 'stages.#.#.pointwise_conv1'),
        ('stages.#.blocks.#.mlp.fc2', 'stages.#.#.pointwise_conv2'),
        ('stages.#.blocks', 'stages.#'),
        ('head.norm', 'norm3'),
    ),
)
_TORCHVISION = Layout(
    'torchvision',
    'ConvNeXt',
    ('features.0.1.weight', 'features.1.0.block.0.weight'),
    (
        *(
            (f'features.{feature}.#.{old}', f'stages.{stage}.#.{new}')
            for stage, feature in enumerate((1, 3, 5, 7))
            for old, new in (
                ('block.0', 'depthwise_conv'),
                ('block.2', 'norm'),
                ('block.3', 'pointwise_conv1'),
                ('block.5', 'pointwise_conv2'),
                ('layer_scale', 'gamma'),
            )
        ),
        ('features.0', 'downsample_layers.0'),
        ('features.2', 'downsample_layers.1'),
        ('features.4', 'downsample_layers.2'),
        ('features.6', 'downsample_layers.3'),
        ('classifier.0', 'norm3'),
    ),
    steps=(_SPATIAL_GAMMA,),
)
_HUGGING_FACE = Layout(
    'Hugging Face',
    'ConvNeXt',
    ('embeddings.patch_embeddings.weight', 'encoder.stages.0.layers.0.dwconv.weight'),
    (
        ('embeddings.patch_embeddings', 'downsample_layers.0.0'),
        ('embeddings.layernorm', 'downsample_layers.0.1'),
        ('encoder.stages.#.downsampling_layer', 'downsample_layers.#'),
        ('encoder.stages.#.layers.#.dwconv', 'stages.#.#.depthwise_conv'),
        ('encoder.stages.#.layers.#.layernorm', 'stages.#.#.norm'),
        ('encoder.stages.#.layers.#.pwconv1', 'stages.#.#.pointwise_conv1'),
        ('encoder.stages.#.layers.#.pwconv2', 'stages.#.#.pointwise_conv2'),
        ('encoder.stages.#.layers.#.layer_scale_parameter', 'stages.#.#.gamma'),
        ('encoder.stages.#.layers', 'stages.#'),
        ('layernorm', 'norm3'),
    ),
)


def _settings(network: Architecture) -> str:
    arch = arch_setting(_ARCHS, network)
    return f'{arch}, and {channels_of_stages(network.width)}'


def _network(
    shape: Architecture, state: Mapping[str, Tensor], stored: Mapping[str, Any]
) -> dict[str, Any]:
    channels = [
        state[f'stages.{stage}.0.depthwise_conv.weight'].shape[0]
        for stage in range(len(shape.depths))
    ]
    return dict(
        type='mmpretrain.ConvNeXt',
        arch=dict(depths=list(shape.depths), channels=channels),
        in_channels=shape.bands,
        stem_patch_size=shape.kernel,
        linear_pw_conv=state['stages.0.0.pointwise_conv1.weight'].ndim == 2,
        # ConvNeXt V2 normalises responses instead of scaling layers.
        use_grn='stages.0.0.grn.gamma' in state,
        layer_scale_init_value=1e-6 if 'stages.0.0.gamma' in state else 0.0,
        out_indices=list(range(len(shape.depths))),
        gap_before_final_norm=False,
    )


CONVNEXT = Family(
    name='ConvNeXt',
    type='mmpretrain.ConvNeXt',
    layouts=(
        Layout(
            'mmpretrain',
            'ConvNeXt',
            ('downsample_layers.0.0.weight', 'stages.0.0.depthwise_conv.weight'),
        ),
        _FACEBOOK,
        _TIMM,
        _TORCHVISION,
        _HUGGING_FACE,
    ),
    stem=('downsample_layers.0.0.weight',),
    block=r'stages\.(\d+)\.(\d+)\.',
    parts=r'(downsample_layers|stages|norm\d)\.',
    settings=_settings,
    network=_network,
    # Pre-training uses the last of the norms behind the stages.
    may_be_new=r'norm[0-2]\.(weight|bias)$',
    # timm knows the last norm only.
    exports=dict(timm=(Export(_TIMM, left_out=r'norm[0-2]\.'),)),
)
