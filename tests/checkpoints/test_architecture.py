# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import re
from collections.abc import Callable

import pytest
from mmpretrain.models import (
    ConvNeXt,
    ResNet,
    ResNetV1c,
    SwinTransformer,
    VisionTransformer,
)
from torch import nn

from cmid_mm.checkpoints.architecture import explain_differences
from cmid_mm.checkpoints.families import FAMILIES
from cmid_mm.checkpoints.families.family import Architecture


def swin(**kwargs) -> SwinTransformer:
    arch = dict(embed_dims=8, depths=[1, 1, 3, 1], num_heads=[1, 1, 1, 1])
    return SwinTransformer(arch, **kwargs)


def vit(**kwargs) -> VisionTransformer:
    arch = dict(
        embed_dims=8, num_layers=2, num_heads=1, feedforward_channels=8
    )  # fmt: skip
    return VisionTransformer(arch, img_size=32, **kwargs)


def describe(family: str, module: Callable[[], nn.Module]) -> Architecture | None:
    return FAMILIES[family].describe(module().state_dict())


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
    assert str(describe(family, module)) == text


def test_incomplete_backbone_is_not_described():
    assert FAMILIES['Swin'].describe({}) is None


@pytest.mark.parametrize(
    ('family', 'file', 'module', 'reasons'),
    [
        ('ResNet', lambda: ResNet(18), lambda: ResNet(18), []),
        (
            'ResNet',
            lambda: ResNet(18),
            lambda: ResNet(34),
            [
                'file holds a ResNet-18, .* is a ResNet-34',
                r'set depth=18, and in_channels .* for \[64, 128, 256, 512\]',
            ],
        ),
        (
            'ResNet',
            lambda: ResNet(18, in_channels=4),
            lambda: ResNet(18),
            ['input bands: the file has 4, the module 3'],
        ),
        (
            'ResNet',
            lambda: ResNet(18),
            lambda: ResNetV1c(depth=18),
            ["plain 7x7.*type='ResNet'"],
        ),
        (
            'ResNet',
            lambda: ResNetV1c(depth=18),
            lambda: ResNet(18),
            ["deep stem.*type='ResNetV1c'"],
        ),
        (
            'ResNet',
            lambda: ResNet(18),
            lambda: ResNet(18, base_channels=32),
            ['width: the file has 64, the module 32', 'set depth=18'],
        ),
        (
            'ViT',
            vit,
            lambda: vit(patch_size=8, in_channels=1),
            ['input bands', 'patch size: the file has 16, the module 8'],
        ),
    ],
)
def test_explain_differences(family, file, module, reasons):
    found = explain_differences(describe(family, file), describe(family, module))
    assert len(found) == len(reasons)
    for text, pattern in zip(found, reasons, strict=True):
        assert re.search(pattern, text)


def test_last_stages_may_be_missing_in_the_module():
    three = dict(num_stages=3, strides=(1, 2, 2), dilations=(1,) * 3, out_indices=(2,))
    short = describe('ResNet', lambda: ResNet(18, **three))
    full = describe('ResNet', lambda: ResNet(18))
    assert explain_differences(full, short) == []
    (reason,) = explain_differences(short, full)
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
    assert FAMILIES[family].settings(describe(family, module)) == text


def test_other_family():
    (reason,) = explain_differences(describe('Swin', swin), describe('ViT', vit))
    assert reason.startswith('the file holds a Swin 1-1-3-1')
    assert 'module is a ViT 2' in reason
    assert "write type='SwinTransformer', embed_dims=8" in reason
