# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from mmpretrain.registry import MODELS
from torch import nn

from cmid_mm.models.measuring import (
    FeatureShape,
    feature_map,
    input_bands,
    measure,
    unmasked,
)
from tests.toy import SMALL_VIT

BACKBONES = {
    'resnet': (
        dict(type='ResNet', depth=18, stem_channels=8, base_channels=8, in_channels=5),
        'maxpool',
        FeatureShape(64, 32),
        FeatureShape(8, 4),
    ),
    'swin': (
        dict(
            type='SwinTransformer',
            arch=dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 4]),
        ),
        'patch_embed',
        FeatureShape(64, 32),
        FeatureShape(8, 4),
    ),
    'vit': (
        dict(
            type='VisionTransformer',
            arch=SMALL_VIT,
            img_size=(32, 64),
            patch_size=16,
            out_type='featmap',
        ),
        'patch_embed',
        FeatureShape(48, 16),
        FeatureShape(48, 16),
    ),
}


@pytest.mark.parametrize('name', BACKBONES)
def test_a_backbone_is_measured_and_left_as_it_was(name):
    config, layer, last, inner = BACKBONES[name]
    backbone = MODELS.build(config)
    backbone.train()
    next(backbone.children()).eval()
    modes = [module.training for module in backbone.modules()]
    state = {key: value.clone() for key, value in backbone.state_dict().items()}
    before = torch.get_rng_state()
    assert measure(backbone) == last
    assert measure(backbone, layer) == inner
    assert torch.equal(torch.get_rng_state(), before)
    assert [module.training for module in backbone.modules()] == modes
    assert all(torch.equal(v, state[k]) for k, v in backbone.state_dict().items())
    assert not any(module._forward_hooks for module in backbone.modules())


def test_what_cannot_be_measured_says_what_to_give():
    backbone = MODELS.build(BACKBONES['resnet'][0])
    backbone.img_size = (0, 0)
    with pytest.raises(ValueError, match='0 x 0 pixels .*give channels and stride'):
        measure(backbone)
    with pytest.raises(ValueError, match='Linear has no convolution'):
        measure(nn.Linear(3, 2))
    assert input_bands(nn.Linear(3, 2)) is None


@torch.no_grad()
@pytest.mark.parametrize('kind', ['MAEViT', 'BEiTPretrainViT', 'SimMIMSwinTransformer'])
def test_backbones_of_masked_modelling_see_whole_images(kind):
    """MAE's would return a random quarter of the positions, SimMIM's fail."""
    vit = dict(embed_dims=8, num_layers=1, num_heads=1, feedforward_channels=8)
    swin = dict(embed_dims=8, depths=[1], num_heads=[1])
    options = dict(arch=vit, img_size=32, patch_size=8)
    if kind == 'SimMIMSwinTransformer':
        options = dict(arch=swin, img_size=32, out_indices=(0,))
    backbone = MODELS.build(dict(type=kind, _scope_='mmpretrain', **options))
    backbone.eval()  # returns nothing
    stride = 4 if kind == 'SimMIMSwinTransformer' else 8
    assert measure(backbone) == FeatureShape(8, stride)
    images = torch.randn(2, 3, 32, 32)
    first, second = (feature_map(unmasked(backbone, images)) for _ in range(2))
    assert first.shape == (2, 8, 32 // stride, 32 // stride)
    assert torch.equal(first, second)
    if kind == 'MAEViT':
        (tokens,) = backbone(images, mask=None)  # raw as before, class token first
        assert torch.equal(first.flatten(2), tokens[:, 1:].mT)
