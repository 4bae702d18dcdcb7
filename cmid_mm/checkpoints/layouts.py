# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The layouts that are known, and which of them a state dict has."""

from collections.abc import Iterable, Mapping

from torch import Tensor

from .naming import Layout, Names

_TORCHVISION_RESNET = Layout(
    'torchvision and OpenMMLab',
    'ResNet',
    ('conv1.weight', 'layer1.0.conv1.weight'),
)
# Some releases keep torchvision's network as nn.Sequential(*resnet.children()).
_SEQUENTIAL_RESNET = Layout(
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
_TIMM_V1D_RESNET = Layout(
    'timm',
    'ResNet',
    ('conv1.0.weight', 'layer1.0.downsample.2.weight'),
    (
        *_TIMM_DEEP_STEM,
        ('layer1.0.downsample.1', 'layer1.0.downsample.0'),
        ('layer1.0.downsample.2', 'layer1.0.downsample.1'),
    ),
)
_TIMM_V1C_RESNET = Layout(
    'timm', 'ResNet', ('conv1.0.weight', 'layer1.0.conv1.weight'), _TIMM_DEEP_STEM
)
_MMSEG_DEEP_RESNET = Layout(
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
_SWIN_BLOCKS: Names = (
    ('patch_embed.proj', 'patch_embed.projection'),
    ('layers.#.blocks.#.attn', 'stages.#.blocks.#.attn.w_msa'),
    ('layers.#.blocks.#.mlp.fc1', 'stages.#.blocks.#.ffn.layers.0.0'),
    ('layers.#.blocks.#.mlp.fc2', 'stages.#.blocks.#.ffn.layers.1'),
    ('layers.#.blocks', 'stages.#.blocks'),
    ('norm', 'norm3'),
)
_MICROSOFT_SWIN = Layout(
    'Microsoft',
    'Swin',
    ('layers.0.blocks.0.attn.qkv.weight', 'layers.0.downsample.reduction.weight'),
    (*_SWIN_BLOCKS, ('layers.#.downsample', 'stages.#.downsample')),
    concatenated_merging=True,
)
# timm merges patches at the beginning of the next stage.
_TIMM_SWIN = Layout(
    'timm',
    'Swin',
    ('layers.0.blocks.0.attn.qkv.weight', 'layers.1.downsample.reduction.weight'),
    (
        *_SWIN_BLOCKS,
        ('layers.1.downsample', 'stages.0.downsample'),
        ('layers.2.downsample', 'stages.1.downsample'),
        ('layers.3.downsample', 'stages.2.downsample'),
    ),
    concatenated_merging=True,
)
# torchvision numbers a stage and the merging behind it as two features.
_TORCHVISION_SWIN = Layout(
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
_MMSEG_VIT = Layout(
    'mmseg',
    'ViT',
    ('patch_embed.projection.weight', 'layers.0.attn.attn.in_proj_weight'),
    (
        ('layers.#.attn.attn.in_proj_weight', 'layers.#.attn.qkv.weight'),
        ('layers.#.attn.attn.in_proj_bias', 'layers.#.attn.qkv.bias'),
        ('layers.#.attn.attn.out_proj', 'layers.#.attn.proj'),
    ),
)
_TIMM_VIT = Layout(
    'timm',
    'ViT',
    ('patch_embed.proj.weight', 'blocks.0.attn.qkv.weight'),
    (
        ('patch_embed.proj', 'patch_embed.projection'),
        ('blocks.#.norm1', 'layers.#.ln1'),
        ('blocks.#.norm2', 'layers.#.ln2'),
        ('blocks.#.mlp.fc1', 'layers.#.ffn.layers.0.0'),
        ('blocks.#.mlp.fc2', 'layers.#.ffn.layers.1'),
        ('blocks.#.ls1.gamma', 'layers.#.attn.gamma1.weight'),
        ('blocks.#.ls2.gamma', 'layers.#.ffn.gamma2.weight'),
        ('blocks', 'layers'),
        ('norm_pre', 'pre_norm'),
        ('norm', 'ln1'),
        ('fc_norm', 'ln2'),
    ),
)
# linear_1 and linear_2 in the files of torchvision before 0.15.
_TORCHVISION_VIT = Layout(
    'torchvision',
    'ViT',
    (
        'conv_proj.weight',
        'encoder.layers.encoder_layer_0.self_attention.in_proj_weight',
    ),
    (
        ('class_token', 'cls_token'),
        ('conv_proj', 'patch_embed.projection'),
        ('encoder.pos_embedding', 'pos_embed'),
        *(
            (f'encoder.layers.encoder_layer_#.{old}', f'layers.#.{new}')
            for old, new in (
                ('ln_1', 'ln1'),
                ('ln_2', 'ln2'),
                ('self_attention.in_proj_weight', 'attn.qkv.weight'),
                ('self_attention.in_proj_bias', 'attn.qkv.bias'),
                ('self_attention.out_proj', 'attn.proj'),
                ('mlp.0', 'ffn.layers.0.0'),
                ('mlp.3', 'ffn.layers.1'),
                ('mlp.linear_1', 'ffn.layers.0.0'),
                ('mlp.linear_2', 'ffn.layers.1'),
            )
        ),
        ('encoder.ln', 'ln1'),
    ),
)
# Both have names of timm's ViT too, and the second those of the first.
_RVSA_VIT = Layout(
    'the release',
    'RVSAViT',
    ('patch_embed.proj.weight', 'blocks.0.attn.sampling_angles.2.weight'),
)
_RVSA_VITAE = Layout(
    'the release',
    'RVSAViTAE',
    ('blocks.0.PCM.0.weight', 'blocks.0.attn.sampling_angles.2.weight'),
)
_TIMM_CONVNEXT = Layout(
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
_TORCHVISION_CONVNEXT = Layout(
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
    spatial_gamma=True,
)

#: All layouts, in the order in which they are tried.
LAYOUTS = (
    _TORCHVISION_RESNET,
    Layout('mmpretrain', 'ResNet', ('stem.0.conv.weight', 'layer1.0.conv1.weight')),
    _MMSEG_DEEP_RESNET,
    _TIMM_V1D_RESNET,
    _TIMM_V1C_RESNET,
    _SEQUENTIAL_RESNET,
    Layout(
        'mmpretrain, mmdet and mmseg',
        'Swin',
        ('patch_embed.projection.weight', 'stages.0.blocks.0.attn.w_msa.qkv.weight'),
    ),
    _MICROSOFT_SWIN,
    _TIMM_SWIN,
    _TORCHVISION_SWIN,
    Layout(
        'mmpretrain',
        'ViT',
        ('patch_embed.projection.weight', 'layers.0.attn.qkv.weight'),
    ),
    _MMSEG_VIT,
    _RVSA_VITAE,
    _RVSA_VIT,
    _TIMM_VIT,
    _TORCHVISION_VIT,
    Layout(
        'mmpretrain',
        'ConvNeXt',
        ('downsample_layers.0.0.weight', 'stages.0.0.depthwise_conv.weight'),
    ),
    Layout(
        'Facebook',
        'ConvNeXt',
        ('downsample_layers.0.0.weight', 'stages.0.0.dwconv.weight'),
        (
            ('stages.#.#.dwconv', 'stages.#.#.depthwise_conv'),
            ('stages.#.#.pwconv1', 'stages.#.#.pointwise_conv1'),
            ('stages.#.#.pwconv2', 'stages.#.#.pointwise_conv2'),
            ('norm', 'norm3'),
        ),
    ),
    _TIMM_CONVNEXT,
    _TORCHVISION_CONVNEXT,
)

#: What a backbone is exported to for timm and torchvision, by family.
_TIMM_LAYOUTS = {
    'ResNet': _TORCHVISION_RESNET,
    'Swin': _TIMM_SWIN,
    'ViT': _TIMM_VIT,
    'ConvNeXt': _TIMM_CONVNEXT,
}


def recognize_layout(names: Iterable[str]) -> Layout | None:
    """The layout of a state dict's names; None if it is none of :data:`LAYOUTS`."""
    names = set(names)
    for layout in LAYOUTS:
        if names.issuperset(layout.signature):
            return layout
    return None


def timm_layout(state: Mapping[str, Tensor]) -> Layout | None:
    """The timm layout for a backbone with mmpretrain's names; None if there is none."""
    layout = recognize_layout(state)
    if layout is None:
        return None
    if 'stem.0.conv.weight' in state:
        pooled = 'layer2.0.downsample.2.weight' in state
        return _TIMM_V1D_RESNET if pooled else _TIMM_V1C_RESNET
    return _TIMM_LAYOUTS.get(layout.family)


def mmdet_layout(state: Mapping[str, Tensor]) -> Layout | None:
    """The mmdet layout for a backbone with mmpretrain's names; None if the same."""
    if 'layers.0.attn.qkv.weight' in state:
        return _MMSEG_VIT
    return _MMSEG_DEEP_RESNET if 'stem.0.conv.weight' in state else None
