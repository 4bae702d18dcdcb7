# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""ResNet: He et al., Deep Residual Learning, CVPR 2016, and its V1c and V1d stems."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .family import Architecture, Export, Family, channels_of_stages
from .naming import Layout, Names

_KNOWN_DEPTHS = {
    ('basic', (2, 2, 2, 2)): 18,
    ('basic', (3, 4, 6, 3)): 34,
    ('bottleneck', (3, 4, 6, 3)): 50,
    ('bottleneck', (3, 4, 23, 3)): 101,
    ('bottleneck', (3, 8, 36, 3)): 152,
}

_TORCHVISION = Layout(
    'torchvision and OpenMMLab',
    'ResNet',
    ('conv1.weight', 'layer1.0.conv1.weight'),
)
# Some releases keep torchvision's network as nn.Sequential(*resnet.children()).
_SEQUENTIAL = Layout(
    'torchvision in nn.Sequential',
    'ResNet',
    ('0.weight', '4.0.conv1.weight'),
    (
        ('0', 'conv1'),
        ('1', 'bn1'),
        ('4', 'layer1'),
        ('5', 'layer2'),
        ('6', 'layer3'),
        ('7', 'layer4'),
    ),
)
_TIMM_DEEP_STEM: Names = (
    ('conv1.0', 'stem.0.conv'),
    ('conv1.1', 'stem.0.bn'),
    ('conv1.3', 'stem.1.conv'),
    ('conv1.4', 'stem.1.bn'),
    ('conv1.6', 'stem.2.conv'),
    ('bn1', 'stem.2.bn'),
)
# In the V1d variants timm counts an empty pooling layer where nothing is pooled.
_TIMM_V1D = Layout(
    'timm',
    'ResNet',
    ('conv1.0.weight', 'layer1.0.downsample.2.weight'),
    (
        *_TIMM_DEEP_STEM,
        ('layer1.0.downsample.1', 'layer1.0.downsample.0'),
        ('layer1.0.downsample.2', 'layer1.0.downsample.1'),
    ),
)
_TIMM_V1C = Layout(
    'timm', 'ResNet', ('conv1.0.weight', 'layer1.0.conv1.weight'), _TIMM_DEEP_STEM
)
_MMSEG_DEEP = Layout(
    'mmseg and mmdet',
    'ResNet',
    ('stem.0.weight', 'layer1.0.conv1.weight'),
    (
        ('stem.0', 'stem.0.conv'),
        ('stem.1', 'stem.0.bn'),
        ('stem.3', 'stem.1.conv'),
        ('stem.4', 'stem.1.bn'),
        ('stem.6', 'stem.2.conv'),
        ('stem.7', 'stem.2.bn'),
    ),
)
_HUGGING_FACE = Layout(
    'Hugging Face',
    'ResNet',
    (
        'embedder.embedder.convolution.weight',
        'encoder.stages.0.layers.0.layer.0.convolution.weight',
    ),
    (
        ('embedder.embedder.convolution', 'conv1'),
        ('embedder.embedder.normalization', 'bn1'),
        *(
            (f'encoder.stages.{stage}.layers.#.{old}', f'layer{stage + 1}.#{new}')
            for stage in range(4)
            for old, new in (
                *((f'layer.{i}.convolution', f'.conv{i + 1}') for i in range(3)),
                *((f'layer.{i}.normalization', f'.bn{i + 1}') for i in range(3)),
                ('shortcut.convolution', '.downsample.0'),
                ('shortcut.normalization', '.downsample.1'),
            )
        ),
    ),
)


def _measure(state: Mapping[str, Tensor], depths: tuple[int, ...]) -> dict[str, Any]:
    deep_blocks = any(name.endswith('.conv3.weight') for name in state)
    block = 'bottleneck' if deep_blocks else 'basic'
    # A detector's ResNet can lack the last stages.
    known = (
        depth
        for (its_block, its_depths), depth in _KNOWN_DEPTHS.items()
        if (its_block, its_depths[: len(depths)]) == (block, depths)
    )
    return dict(
        block=block,
        width=state['layer1.0.conv1.weight'].shape[0],
        deep_stem='stem.0.conv.weight' in state,
        resnet_depth=next(known, None),
    )


def _settings(network: Architecture) -> str:
    known = network.resnet_depth
    width = network.width * (4 if network.block == 'bottleneck' else 1)
    depth = f'depth={known}' if known else network.name
    return f'{depth}, and {channels_of_stages(width)}'


def _network(
    shape: Architecture, state: Mapping[str, Tensor], stored: Mapping[str, Any]
) -> dict[str, Any]:
    stages = len(shape.depths)
    kind, stem = 'ResNet', 'conv1.weight'
    if shape.deep_stem:
        pooled = 'layer2.0.downsample.1.weight'
        averages = pooled in state and state[pooled].ndim == 4
        kind, stem = 'ResNetV1d' if averages else 'ResNetV1c', 'stem.2.conv.weight'
    return dict(
        type=f'mmpretrain.{kind}',
        depth=shape.resnet_depth,
        in_channels=shape.bands,
        stem_channels=state[stem].shape[0],
        base_channels=shape.width,
        num_stages=stages,
        strides=[1, 2, 2, 2][:stages],
        dilations=[1] * stages,
        out_indices=list(range(stages)),
        # Of bottlenecks, which convolution has the stride.
        style='caffe' if stored.get('style') == 'caffe' else 'pytorch',
    )


RESNET = Family(
    name='ResNet',
    type='ResNet',
    layouts=(
        _TORCHVISION,
        Layout('mmpretrain', 'ResNet', ('stem.0.conv.weight', 'layer1.0.conv1.weight')),
        _MMSEG_DEEP,
        _TIMM_V1D,
        _TIMM_V1C,
        _SEQUENTIAL,
        _HUGGING_FACE,
    ),
    stem=('conv1.weight', 'stem.0.conv.weight'),
    block=r'layer(\d+)\.(\d+)\.',
    parts=r'(conv1|bn1|stem|layer\d)\.',
    settings=_settings,
    measure=_measure,
    network=_network,
    exports=dict(
        timm=(
            Export(_TIMM_V1D, ('stem.0.conv.weight', 'layer2.0.downsample.2.weight')),
            Export(_TIMM_V1C, ('stem.0.conv.weight',)),
            Export(_TORCHVISION),
        ),
        mmdet=(Export(_MMSEG_DEEP, ('stem.0.conv.weight',)),),
    ),
)
