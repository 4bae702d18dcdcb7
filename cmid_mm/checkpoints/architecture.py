# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What network a state dict belongs to, for error messages and metadata."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

_RESNET_DEPTHS = {
    ('basic', (2, 2, 2, 2)): 18,
    ('basic', (3, 4, 6, 3)): 34,
    ('bottleneck', (3, 4, 6, 3)): 50,
    ('bottleneck', (3, 4, 23, 3)): 101,
    ('bottleneck', (3, 8, 36, 3)): 152,
}
#: mmpretrain's names of networks: (family, width, depths).
_ARCHS = {
    ('Swin', 96, (2, 2, 6, 2)): 'tiny',
    ('Swin', 96, (2, 2, 18, 2)): 'small',
    ('Swin', 128, (2, 2, 18, 2)): 'base',
    ('Swin', 192, (2, 2, 18, 2)): 'large',
    ('ViT', 192, (12,)): 'deit-tiny',
    ('ViT', 384, (12,)): 'deit-small',
    ('ViT', 768, (12,)): 'base',
    ('ViT', 1024, (24,)): 'large',
    ('ViT', 1280, (32,)): 'huge',
    ('ConvNeXt', 96, (3, 3, 9, 3)): 'tiny',
    ('ConvNeXt', 96, (3, 3, 27, 3)): 'small',
    ('ConvNeXt', 128, (3, 3, 27, 3)): 'base',
    ('ConvNeXt', 192, (3, 3, 27, 3)): 'large',
}
_TYPES = {
    'ResNet': 'ResNet',
    'Swin': 'SwinTransformer',
    'ViT': 'mmpretrain.VisionTransformer',
    'RVSAViT': 'RVSAViT',
    'RVSAViTAE': 'RVSAViTAE',
    'ConvNeXt': 'mmpretrain.ConvNeXt',
}
_STEMS = (
    'conv1.weight',
    'stem.0.conv.weight',
    'patch_embed.projection.weight',
    'patch_embed.proj.weight',
    'downsample_layers.0.0.weight',
)
#: Parts by mmpretrain's names, without which a network computes something else; of
#: those that a file has and the module lacks, the first is named.
_INDISPENSABLE = (
    (
        re.compile(r'rope_embed\.'),
        'the file holds a DINOv3 ViT, whose positions are rotations in the attention '
        "that the module does not have; take timm's network, type='mmpretrain."
        "TIMMBackbone', model_name='vit_large_patch16_dinov3.sat493m', "
        'pretrained=True',
    ),
    (
        re.compile(r'channel_embed$'),
        'the file holds a SatMAE ViT for groups of bands, with a patch embedding and a '
        'channel embedding for each group, that the module does not have; take the '
        "RGB release of SatMAE, or run it in the authors' code",
    ),
    (
        re.compile(r'layers\.\d+\.attn\.q_bias$'),
        'the file holds a ViT of BEiT or data2vec, whose attention has biases of '
        'queries, values and relative positions that the module does not have; take a '
        'release of another method',
    ),
    (
        re.compile(r'(reg_token|storage_tokens)$'),
        'the file holds a ViT with register tokens, which the module does not have; '
        "take timm's network of the same name, type='mmpretrain.TIMMBackbone'",
    ),
    (
        re.compile(r'dist_token$'),
        'the file holds a distilled DeiT, whose distillation token the module does not '
        "have; set type='mmpretrain.DistilledVisionTransformer'",
    ),
    (
        re.compile(r'pre_norm\.'),
        "the file has a norm before the first block; set the backbone's pre_norm=True",
    ),
    (
        re.compile(r'layers\.\d+\.attn\.gamma1\.'),
        "the file has a layer scale in each block; set the backbone's "
        'layer_scale_init_value=1e-5',
    ),
    (
        re.compile(r'(absolute_)?pos_embed$'),
        'the file has a position embedding, which the module does not have',
    ),
)
_SWIN_TABLE = 'attn.w_msa.relative_position_bias_table'
_BLOCKS = {
    'ResNet': r'layer(\d+)\.(\d+)\.',
    'Swin': r'stages\.(\d+)\.blocks\.(\d+)\.',
    'ViT': r'(layers)\.(\d+)\.',
    'RVSAViT': r'(blocks)\.(\d+)\.',
    'RVSAViTAE': r'(blocks)\.(\d+)\.',
    'ConvNeXt': r'stages\.(\d+)\.(\d+)\.',
}


@dataclass(frozen=True)
class Architecture:
    """Shape of a backbone, as far as its weights tell.

    Args:
        family (str): ``'ResNet'``, ``'Swin'``, ``'ViT'``, ``'ConvNeXt'``,
            ``'RVSAViT'`` or ``'RVSAViTAE'``.
        depths (tuple[int, ...]): Number of blocks of each stage.
        width (int): Channels behind the stem.
        bands (int): Input channels.
        kernel (int): Side of the stem's first kernel in pixels; the patch size of
            transformers.
        block (str): ResNet's kind of block, ``'basic'`` or ``'bottleneck'``.
        deep_stem (bool): Whether a ResNet has the three convolutions of the V1c and
            V1d variants as its stem.
        heads (tuple[int, ...]): Swin's attention heads of each stage.
    """

    family: str
    depths: tuple[int, ...]
    width: int
    bands: int
    kernel: int
    block: str = ''
    deep_stem: bool = False
    heads: tuple[int, ...] = ()

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

    @property
    def settings(self) -> str:
        """What to write in a config to get this network."""
        if self.family.startswith('RVSA'):
            return f'embed_dims={self.width}, depth={self.depths[0]}'
        arch = _ARCHS.get((self.family, self.width, self.depths))
        if self.family == 'ResNet':
            text = f'depth={self.resnet_depth}' if self.resnet_depth else self.name
        else:
            text = f'arch={arch!r}' if arch else f'an arch of {self.name}'
        if self.family == 'Swin':
            text = (
                f'embed_dims={self.width}, depths={list(self.depths)}, '
                f'num_heads={list(self.heads)} ({text} in mmpretrain)'
            )
        if self.family == 'ViT':
            return text
        factor = 4 if self.block == 'bottleneck' else 1
        channels = [factor * self.width * 2**stage for stage in range(4)]
        return f'{text}, and in_channels of the neck or heads for {channels}'

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
    heads = tuple(
        state[name].shape[1]
        for stage in stages
        if (name := f'stages.{stage}.blocks.0.{_SWIN_TABLE}') in state
    )
    return Architecture(
        family=family,
        depths=tuple(sum(s == stage for s, _ in blocks) for stage in stages),
        width=width,
        bands=stem.shape[1],
        kernel=stem.shape[-1],
        block=block,
        deep_stem='stem.0.conv.weight' in state,
        heads=heads,
    )


def explain_lack(file: Mapping[str, Tensor], module: Iterable[str]) -> str | None:
    """Say which part of a file's network a module lacks that it cannot do without.

    Args:
        file (Mapping[str, Tensor]): Weights of the file by mmpretrain's names.
        module (Iterable[str]): The module's names, likewise.

    Returns:
        str | None: None if no such part is missing.
    """
    module = list(module)
    for pattern, reason in _INDISPENSABLE:
        if any(map(pattern.match, file)) and not any(map(pattern.match, module)):
            return reason
    widths = [
        file[name].shape[-1] for name in ('pos_embed', 'cls_token') if name in file
    ]
    if len(set(widths)) == 2:
        return (
            f'the position embedding of the file has {widths[0]} of the {widths[1]} '
            'channels, as in temporal SatMAE, which keeps the others for the times of '
            "its images; take the non-temporal release, or run it in the authors' code"
        )
    return None


def explain_differences(file: Architecture, module: Architecture) -> list[str]:
    """Say why a file's backbone does not fit a module, one phrase a reason.

    Returns:
        list[str]: Empty if nothing that is described here differs.
    """
    if file.family != module.family:
        return [
            f'the file holds a {file}, the module is a {module}; take a config with '
            f"such a backbone, or write type='{_TYPES[file.family]}', {file.settings}"
        ]
    reasons = []
    common = min(len(file.depths), len(module.depths))
    depths = (file.depths[:common], file.block), (module.depths[:common], module.block)
    if depths[0] != depths[1]:
        reasons.append(
            f'depth: the file holds a {file.name}, the module is a {module.name}'
        )
    elif len(file.depths) < len(module.depths):
        reasons.append(
            f'depth: the file has {len(file.depths)} stages, the module '
            f'{len(module.depths)}'
        )
    if file.deep_stem and not module.deep_stem:
        reasons.append(
            'stem: the file has the deep stem (three convolutions) of ResNetV1c and '
            'V1d, the module the plain 7x7 one; ' + set_backbone('type', 'ResNetV1c')
        )
    if module.deep_stem and not file.deep_stem:
        reasons.append(
            'stem: the file has the plain 7x7 convolution, the module the deep stem of '
            'ResNetV1c and V1d; ' + set_backbone('type', 'ResNet')
        )
    if file.bands != module.bands:
        reasons.append(
            f'input bands: the file has {file.bands}, the module {module.bands}; '
            f'{set_backbone("in_channels", file.bands)} and feed it those bands, or '
            f'take weights of {module.bands}; bands are neither averaged nor left out'
        )
    if file.width != module.width:
        reasons.append(f'width: the file has {file.width}, the module {module.width}')
    if depths[0] != depths[1] or file.width != module.width:
        reasons.append(f'for the network of the file set {file.settings}')
    if file.kernel != module.kernel and file.deep_stem == module.deep_stem:
        reasons.append(
            f'patch size: the file has {file.kernel}, the module {module.kernel}'
        )
    return reasons


def set_backbone(key: str, value: str | int) -> str:
    """Advice to change a setting of the backbone, whose place is not known here."""
    if key == 'in_channels':
        for_cmid = 'as many values of mean and std in data_preprocessor'
    else:
        for_cmid = f'model.encoder.backbone.{key}={value}'
    return (
        f"set the backbone's {key}={value!r} (--cfg-options "
        f'model.backbone.{key}={value}; for CMID {for_cmid})'
    )
