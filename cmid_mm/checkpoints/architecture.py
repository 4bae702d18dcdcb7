# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What network a state dict belongs to, for error messages and metadata."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

_RESNET_DEPTHS = {
    ('basic', (2, 2, 2, 2)): 18,
    ('basic', (3, 4, 6, 3)): 34,
    ('bottleneck', (3, 4, 6, 3)): 50,
    ('bottleneck', (3, 4, 23, 3)): 101,
    ('bottleneck', (3, 8, 36, 3)): 152,
}
_STEMS = (
    'conv1.weight',
    'stem.0.conv.weight',
    'patch_embed.projection.weight',
    'downsample_layers.0.0.weight',
)
_BLOCKS = {
    'ResNet': r'layer(\d+)\.(\d+)\.',
    'Swin': r'stages\.(\d+)\.blocks\.(\d+)\.',
    'ViT': r'(layers)\.(\d+)\.',
    'ConvNeXt': r'stages\.(\d+)\.(\d+)\.',
}


@dataclass(frozen=True)
class Architecture:
    """Shape of a backbone, as far as its weights tell.

    Args:
        family (str): ``'ResNet'``, ``'Swin'``, ``'ViT'`` or ``'ConvNeXt'``.
        depths (tuple[int, ...]): Number of blocks of each stage.
        width (int): Channels behind the stem.
        bands (int): Input channels.
        kernel (int): Side of the stem's first kernel in pixels; the patch size of
            transformers.
        block (str): ResNet's kind of block, ``'basic'`` or ``'bottleneck'``.
        deep_stem (bool): Whether a ResNet has the three convolutions of the V1c and
            V1d variants as its stem.
    """

    family: str
    depths: tuple[int, ...]
    width: int
    bands: int
    kernel: int
    block: str = ''
    deep_stem: bool = False

    @property
    def resnet_depth(self) -> int | None:
        """Depth by which a ResNet is known, such as 50; None if it is none of them."""
        for (block, depths), depth in _RESNET_DEPTHS.items():
            # A detector's ResNet can lack the last stages.
            if (block, depths[: len(self.depths)]) == (self.block, self.depths):
                return depth
        return None

    @property
    def name(self) -> str:
        """Family and depth, such as ``'ResNet-50'`` or ``'Swin 2-2-18-2'``."""
        if self.resnet_depth is not None:
            return f'ResNet-{self.resnet_depth}'
        kind = f'{self.family} {self.block}'.rstrip()
        return f'{kind} {"-".join(map(str, self.depths))}'

    def __str__(self) -> str:
        """Name, width and bands."""
        stem = ', deep stem' if self.deep_stem else ''
        return f'{self.name} (width {self.width}, {self.bands} input bands{stem})'


def describe(state: Mapping[str, Tensor], family: str) -> Architecture | None:
    """Describe the backbone that a state dict belongs to.

    Args:
        state (Mapping[str, Tensor]): Weights by mmpretrain's names.
        family (str): The family these names belong to.

    Returns:
        Architecture | None: None if the stem or the blocks are missing.
    """
    stems = [state[name] for name in _STEMS if name in state]
    blocks = {m.groups() for name in state if (m := re.match(_BLOCKS[family], name))}
    if not stems or not blocks:
        return None
    stages = sorted({stage for stage, _ in blocks})
    stem = stems[0]  # width bands kernel kernel
    block, width = '', stem.shape[0]
    if family == 'ResNet':
        deep_blocks = any(name.endswith('.conv3.weight') for name in state)
        block = 'bottleneck' if deep_blocks else 'basic'
        width = state['layer1.0.conv1.weight'].shape[0]
    return Architecture(
        family=family,
        depths=tuple(sum(s == stage for s, _ in blocks) for stage in stages),
        width=width,
        bands=stem.shape[1],
        kernel=stem.shape[-1],
        block=block,
        deep_stem='stem.0.conv.weight' in state,
    )


def explain_differences(file: Architecture, module: Architecture) -> list[str]:
    """Say why a file's backbone does not fit a module, one phrase a reason.

    Returns:
        list[str]: Empty if nothing that is described here differs.
    """
    if file.family != module.family:
        return [f'the file holds a {file}, the module is a {module}']
    reasons = []
    common = min(len(file.depths), len(module.depths))
    if (file.depths[:common], file.block) != (module.depths[:common], module.block):
        reasons.append(
            f'depth: the file holds a {file.name}, the module is a {module.name}; set '
            "the backbone's depth or arch to the file's"
        )
    elif len(file.depths) < len(module.depths):
        reasons.append(
            f'depth: the file has {len(file.depths)} stages, the module '
            f'{len(module.depths)}'
        )
    if file.deep_stem and not module.deep_stem:
        reasons.append(
            'stem: the file has the deep stem (three convolutions) of ResNetV1c and '
            "V1d, the module the plain 7x7 one; set the backbone's type='ResNetV1c'"
        )
    if module.deep_stem and not file.deep_stem:
        reasons.append(
            'stem: the file has the plain 7x7 convolution, the module the deep stem of '
            "ResNetV1c and V1d; set the backbone's type='ResNet'"
        )
    if file.bands != module.bands:
        reasons.append(
            f'input bands: the file has {file.bands}, the module {module.bands}; set '
            f"the backbone's in_channels={file.bands} and feed it those bands, or "
            f'pre-train on {module.bands} bands'
        )
    if file.width != module.width:
        reasons.append(f'width: the file has {file.width}, the module {module.width}')
    if file.kernel != module.kernel and file.deep_stem == module.deep_stem:
        reasons.append(
            f'patch size: the file has {file.kernel}, the module {module.kernel}'
        )
    return reasons
