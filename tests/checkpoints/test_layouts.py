# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from mmpretrain.models.utils import PatchMerging
from torch import nn

from cmid_mm.checkpoints.families import (
    FAMILIES,
    LAYOUTS,
    recognize_layout,
    rename,
)

# The same weights in every library, from the libraries' own state dicts.
SAME_WEIGHTS = {
    'ResNet V1c': dict(
        mmpretrain=['stem.0.conv.weight', 'stem.1.bn.bias', 'layer1.0.conv1.weight'],
        mmseg=['stem.0.weight', 'stem.4.bias', 'layer1.0.conv1.weight'],
        timm=['conv1.0.weight', 'conv1.4.bias', 'layer1.0.conv1.weight'],
    ),
    'ResNet V1d': dict(
        mmpretrain=[
            'stem.0.conv.weight',
            'stem.2.bn.weight',
            'layer1.0.conv1.weight',
            'layer1.0.downsample.0.weight',
            'layer1.0.downsample.1.weight',
            'layer2.0.downsample.1.weight',
            'layer2.0.downsample.2.weight',
        ],
        timm=[
            'conv1.0.weight',
            'bn1.weight',
            'layer1.0.conv1.weight',
            'layer1.0.downsample.1.weight',
            'layer1.0.downsample.2.weight',
            'layer2.0.downsample.1.weight',
            'layer2.0.downsample.2.weight',
        ],
    ),
    'Swin': dict(
        mmpretrain=[
            'patch_embed.projection.weight',
            'patch_embed.norm.bias',
            'stages.0.blocks.0.attn.w_msa.qkv.weight',
            'stages.2.blocks.17.ffn.layers.0.0.weight',
            'stages.2.blocks.17.ffn.layers.1.bias',
            'stages.1.blocks.1.norm2.weight',
            'stages.0.downsample.reduction.weight',
            'stages.1.downsample.norm.weight',
            'norm3.weight',
        ],
        microsoft=[
            'patch_embed.proj.weight',
            'patch_embed.norm.bias',
            'layers.0.blocks.0.attn.qkv.weight',
            'layers.2.blocks.17.mlp.fc1.weight',
            'layers.2.blocks.17.mlp.fc2.bias',
            'layers.1.blocks.1.norm2.weight',
            'layers.0.downsample.reduction.weight',
            'layers.1.downsample.norm.weight',
            'norm.weight',
        ],
        timm=[
            'patch_embed.proj.weight',
            'patch_embed.norm.bias',
            'layers.0.blocks.0.attn.qkv.weight',
            'layers.2.blocks.17.mlp.fc1.weight',
            'layers.2.blocks.17.mlp.fc2.bias',
            'layers.1.blocks.1.norm2.weight',
            'layers.1.downsample.reduction.weight',
            'layers.2.downsample.norm.weight',
            'norm.weight',
        ],
    ),
    'ViT': dict(
        mmpretrain=[
            'cls_token',
            'patch_embed.projection.weight',
            'layers.0.attn.qkv.weight',
            'layers.0.attn.proj.bias',
            'layers.11.ln1.weight',
            'layers.11.ln2.weight',
            'layers.3.ffn.layers.0.0.bias',
            'layers.3.ffn.layers.1.bias',
            'ln1.weight',
        ],
        mmseg=[
            'cls_token',
            'patch_embed.projection.weight',
            'layers.0.attn.attn.in_proj_weight',
            'layers.0.attn.attn.out_proj.bias',
            'layers.11.ln1.weight',
            'layers.11.ln2.weight',
            'layers.3.ffn.layers.0.0.bias',
            'layers.3.ffn.layers.1.bias',
            'ln1.weight',
        ],
        timm=[
            'cls_token',
            'patch_embed.proj.weight',
            'blocks.0.attn.qkv.weight',
            'blocks.0.attn.proj.bias',
            'blocks.11.norm1.weight',
            'blocks.11.norm2.weight',
            'blocks.3.mlp.fc1.bias',
            'blocks.3.mlp.fc2.bias',
            'norm.weight',
        ],
    ),
    'ConvNeXt': dict(
        mmpretrain=[
            'downsample_layers.0.0.weight',
            'downsample_layers.2.1.weight',
            'stages.0.0.depthwise_conv.weight',
            'stages.0.0.gamma',
            'stages.2.8.pointwise_conv1.bias',
            'stages.2.8.pointwise_conv2.bias',
            'norm3.bias',
        ],
        facebook=[
            'downsample_layers.0.0.weight',
            'downsample_layers.2.1.weight',
            'stages.0.0.dwconv.weight',
            'stages.0.0.gamma',
            'stages.2.8.pwconv1.bias',
            'stages.2.8.pwconv2.bias',
            'norm.bias',
        ],
        timm=[
            'stem.0.weight',
            'stages.2.downsample.1.weight',
            'stages.0.blocks.0.conv_dw.weight',
            'stages.0.blocks.0.gamma',
            'stages.2.blocks.8.mlp.fc1.bias',
            'stages.2.blocks.8.mlp.fc2.bias',
            'head.norm.bias',
        ],
    ),
}


@pytest.mark.parametrize(
    ('network', 'library'),
    [(network, lib) for network, libs in SAME_WEIGHTS.items() for lib in libs],
)
def test_names_both_ways(network, library):
    own = {name: torch.arange(4.0) for name in SAME_WEIGHTS[network][library]}
    layout = recognize_layout(own)
    assert layout is not None and library in layout.name.lower()
    assert layout.family == network.split()[0]
    common = layout.to_mmpretrain(own)
    assert list(common) == SAME_WEIGHTS[network]['mmpretrain']
    assert list(layout.from_mmpretrain(common)) == SAME_WEIGHTS[network][library]


@pytest.mark.parametrize('network', SAME_WEIGHTS)
def test_timm_layout(network):
    common = {name: torch.ones(4) for name in SAME_WEIGHTS[network]['mmpretrain']}
    layout = FAMILIES[network.split()[0]].export('timm', common).layout
    assert layout is not None
    assert list(layout.from_mmpretrain(common)) == SAME_WEIGHTS[network]['timm']


def test_mmdet_layout():
    networks = SAME_WEIGHTS['ResNet V1c']
    common = {name: torch.ones(4) for name in networks['mmpretrain']}
    layout = FAMILIES['ResNet'].export('mmdet', common).layout
    assert layout is not None
    assert list(layout.from_mmpretrain(common)) == networks['mmseg']
    plain = {'conv1.weight': torch.ones(4)}
    assert FAMILIES['ResNet'].export('mmdet', plain) is None


def test_unknown_names():
    assert recognize_layout(['fc.weight', 'fc.bias']) is None


def test_rename_respects_dots():
    state = {
        name: torch.ones(1) for name in ('norm.weight', 'norm3.weight', 'a.norm.b')
    }
    assert list(rename(state, (('norm', 'last'),))) == [
        'last.weight',
        'norm3.weight',
        'a.norm.b',
    ]


class ConcatenatedMerging(nn.Module):
    """Patch merging as Swin's authors define it (Liu et al. 2021, section 3.1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x):  # B H W C
        neighbours = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return self.reduction(self.norm(torch.cat(neighbours, -1)))


def test_patch_merging_computes_the_same():
    torch.manual_seed(0)
    reference = ConcatenatedMerging(3)
    nn.init.normal_(reference.norm.weight)
    nn.init.normal_(reference.norm.bias)
    layout = next(layout for layout in LAYOUTS if layout.name == 'Microsoft')
    prefix = 'layers.0.downsample.'
    own = {prefix + k: v for k, v in reference.state_dict().items()}
    common = layout.to_mmpretrain(own)

    merging = PatchMerging(3, 6)
    prefix = 'stages.0.downsample.'
    merging.load_state_dict({k.removeprefix(prefix): v for k, v in common.items()})
    x = torch.randn(2, 8, 6, 3)
    merged, size = merging(x.flatten(1, 2), (8, 6))
    torch.testing.assert_close(merged.unflatten(1, size), reference(x))
    torch.testing.assert_close(layout.from_mmpretrain(common), own, rtol=0, atol=0)
