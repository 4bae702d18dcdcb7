# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import re

import pytest
from mmpretrain.models import (
    ConvNeXt,
    ResNet,
    ResNetV1c,
    SwinTransformer,
    VisionTransformer,
)

from cmid_mm.checkpoints.architecture import explain_differences
from cmid_mm.checkpoints.families import FAMILIES


def swin(**kwargs) -> SwinTransformer:
    arch = dict(embed_dims=8, depths=[1, 1, 3, 1], num_heads=[1, 1, 1, 1])
    return SwinTransformer(arch, **kwargs)


def vit(**kwargs) -> VisionTransformer:
    arch = dict(
        embed_dims=8, num_layers=2, num_heads=1, feedforward_channels=8
    )  # fmt: skip
    return VisionTransformer(arch, img_size=32, **kwargs)


@pytest.mark.parametrize(
    ('family', 'module', 'text'),
    [
        ('ResNet', lambda: ResNet(18), 'ResNet-18 (width 64, 3 input bands)'),
        (
            'ResNet',
            lambda: ResNet(50, stem_channels=8, base_channels=4, in_channels=5),
            'ResNet-50 (width 4, 5 input bands)',
        ),
        (
            'ResNet',
            lambda: ResNet(
                34,
                num_stages=3,
                strides=(1, 2, 2),
                dilations=(1,) * 3,
                out_indices=(2,),
            ),
            'ResNet-34 (width 64, 3 input bands)',
        ),
        (
            'ResNet',
            lambda: ResNetV1c(depth=18),
            'ResNet-18 (width 64, 3 input bands, deep stem)',
        ),
        ('Swin', swin, 'Swin 1-1-3-1 (width 8, 3 input bands)'),
        ('ViT', vit, 'ViT 2 (width 8, 3 input bands)'),
        (
            'ConvNeXt',
            lambda: ConvNeXt(dict(depths=[1, 1, 2, 1], channels=[4, 4, 4, 4])),
            'ConvNeXt 1-1-2-1 (width 4, 3 input bands)',
        ),
    ],
)
def test_describe(family, module, text):
    assert str(FAMILIES[family].describe(module().state_dict())) == text


def test_incomplete_backbone_is_not_described():
    assert FAMILIES['Swin'].describe({}) is None


@pytest.mark.parametrize(
    ('family', 'file', 'module', 'reasons'),
    [
        ('ResNet', ResNet(18), ResNet(18), []),
        (
            'ResNet',
            ResNet(18),
            ResNet(34),
            [
                'file holds a ResNet-18, .* is a ResNet-34',
                r'set depth=18, and in_channels .* for \[64, 128, 256, 512\]',
            ],
        ),
        (
            'ResNet',
            ResNet(18, in_channels=4),
            ResNet(18),
            ['input bands: the file has 4, the module 3'],
        ),
        ('ResNet', ResNet(18), ResNetV1c(depth=18), ["plain 7x7.*type='ResNet'"]),
        ('ResNet', ResNetV1c(depth=18), ResNet(18), ["deep stem.*type='ResNetV1c'"]),
        (
            'ResNet',
            ResNet(18),
            ResNet(18, base_channels=32),
            ['width: the file has 64, the module 32', 'set depth=18'],
        ),
        (
            'ViT',
            vit(),
            vit(patch_size=8, in_channels=1),
            ['input bands', 'patch size: the file has 16, the module 8'],
        ),
    ],
)
def test_explain_differences(family, file, module, reasons):
    describe = FAMILIES[family].describe
    found = explain_differences(
        describe(file.state_dict()), describe(module.state_dict())
    )
    assert len(found) == len(reasons)
    for text, pattern in zip(found, reasons, strict=True):
        assert re.search(pattern, text)


def test_last_stages_may_be_missing_in_the_module():
    short = ResNet(
        18, num_stages=3, strides=(1, 2, 2), dilations=(1,) * 3, out_indices=(2,)
    )
    describe = FAMILIES['ResNet'].describe
    full = describe(ResNet(18).state_dict())
    assert explain_differences(full, describe(short.state_dict())) == []
    (reason,) = explain_differences(describe(short.state_dict()), full)
    assert 'has 3 stages' in reason


@pytest.mark.parametrize(
    ('family', 'module', 'text'),
    [
        (
            'ResNet',
            lambda: ResNet(50, stem_channels=8, base_channels=4),
            'depth=50, and in_channels of the neck or heads for [16, 32, 64, 128]',
        ),
        (
            'Swin',
            lambda: SwinTransformer(
                dict(embed_dims=96, depths=[2, 2, 6, 2], num_heads=[1, 2, 4, 8])
            ),
            'embed_dims=96, depths=[2, 2, 6, 2], num_heads=[1, 2, 4, 8] '
            "(arch='tiny' in mmpretrain), and in_channels of the neck or heads for "
            '[96, 192, 384, 768]',
        ),
        ('ViT', vit, 'an arch of ViT 2'),
    ],
)
def test_settings_to_write(family, module, text):
    network = FAMILIES[family].describe(module().state_dict())
    assert FAMILIES[family].settings(network) == text


def test_other_family():
    file = FAMILIES['Swin'].describe(swin().state_dict())
    module = FAMILIES['ViT'].describe(vit().state_dict())
    (reason,) = explain_differences(file, module)
    assert reason.startswith('the file holds a Swin 1-1-3-1')
    assert 'module is a ViT 2' in reason
    assert "write type='SwinTransformer', embed_dims=8" in reason
