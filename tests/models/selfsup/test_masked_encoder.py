# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from mmpretrain.registry import MODELS

from cmid_mm.models import MaskedEncoder

RESNET = dict(type='ResNet', depth=18, stem_channels=8, base_channels=8)
ENCODERS = {
    'resnet': dict(backbone=RESNET, insert_after='maxpool', channels=8, stride=4),
    'convnext': dict(
        backbone=dict(
            type='ConvNeXt',
            arch=dict(depths=[1, 1, 1, 1], channels=[8, 8, 16, 16]),
            gap_before_final_norm=False,
        ),
        insert_after='downsample_layers.0',
        channels=8,
        stride=4,
    ),
    'swin': dict(
        backbone=dict(
            type='SwinTransformer',
            arch=dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 4]),
            window_size=2,
        ),
        insert_after='patch_embed',
        channels=8,
        stride=4,
    ),
    'vit': dict(
        backbone=dict(
            type='VisionTransformer',
            arch=dict(
                embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=16
            ),
            img_size=64,
            out_type='featmap',
        ),
        insert_after='patch_embed',
        channels=16,
        stride=16,
    ),
}


@pytest.mark.parametrize('name', ENCODERS)
def test_token_enters_masked_positions_only(name):
    encoder = MaskedEncoder(**ENCODERS[name]).eval()
    with torch.no_grad():
        encoder.mask_token.fill_(1.0)
    seen = []
    module = encoder.backbone.get_submodule(ENCODERS[name]['insert_after'])
    module.register_forward_hook(lambda m, i, output: seen.append(output))
    images = torch.randn(2, 3, 64, 64)
    mask = torch.zeros(2, 2, 2, dtype=torch.bool)
    mask[0, 0, 1] = True  # top right quarter of the first image
    encoder(images)
    encoder(images, mask)
    plain, masked = (o[0] if isinstance(o, tuple) else o for o in seen)
    change = masked - plain
    if change.ndim == 3:
        side = 64 // encoder.stride
        change = change.transpose(1, 2).unflatten(2, (side, side))
    half = change.shape[-1] // 2
    expected = torch.zeros_like(change)
    expected[0, :, :half, half:] = 1.0
    torch.testing.assert_close(change, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize('name', ENCODERS)
def test_state_dict_names_are_the_backbones(name):
    encoder = MaskedEncoder(**ENCODERS[name])
    backbone = MODELS.build(ENCODERS[name]['backbone'])
    names = {f'backbone.{key}' for key in backbone.state_dict()} | {'mask_token'}
    assert set(encoder.state_dict()) == names


def test_replace_puts_the_token_in_place():
    encoder = MaskedEncoder(**ENCODERS['resnet'], mode='replace')
    with torch.no_grad():
        encoder.mask_token.fill_(0.5)
    mask = torch.ones(1, 1, 2, 2, dtype=torch.bool)
    blended = encoder._blend(torch.randn(1, 8, 2, 2), mask)
    torch.testing.assert_close(blended, torch.full((1, 8, 2, 2), 0.5))


def test_teacher_copy_has_no_token():
    encoder = MaskedEncoder(**ENCODERS['resnet']).eval()
    teacher = encoder.copy_backbone()
    with torch.no_grad():
        encoder.mask_token.fill_(5.0)
    images, mask = torch.randn(1, 3, 64, 64), torch.ones(1, 2, 2, dtype=torch.bool)
    masked = encoder(images, mask)
    encoder._mask = torch.ones(1, 1, 16, 16, dtype=torch.bool)
    assert torch.equal(teacher(images)[-1], encoder(images))
    assert not torch.equal(masked, encoder(images))


def test_unknown_module_is_named():
    with pytest.raises(ValueError, match="'pool' names no sub-module.*maxpool"):
        MaskedEncoder(RESNET, insert_after='pool', channels=8, stride=4)


def test_wrong_stride_is_explained():
    encoder = MaskedEncoder(RESNET, insert_after='maxpool', channels=8, stride=8)
    with pytest.raises(ValueError, match='correct stride or insert_after'):
        encoder(torch.randn(1, 3, 64, 64), torch.ones(1, 2, 2, dtype=torch.bool))


def test_pooled_backbone_is_explained():
    backbone = dict(ENCODERS['vit']['backbone'], out_type='cls_token')
    encoder = MaskedEncoder(**{**ENCODERS['vit'], 'backbone': backbone})
    with pytest.raises(ValueError, match="out_type='featmap'"):
        encoder(torch.randn(1, 3, 64, 64))
