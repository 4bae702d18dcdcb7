# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from mmpretrain.models import (
    ConvNeXt,
    ResNet,
    ResNetV1d,
    SwinTransformer,
    VisionTransformer,
)
from torch import nn

from cmid_mm.checkpoints import CheckpointError, load_backbone
from cmid_mm.checkpoints.stems import spread_stem, stem_bands
from tests.models.backbones.test_rvsa import tiny

SWIN = dict(embed_dims=8, depths=[1, 1, 2, 1], num_heads=[1, 2, 2, 2])
VIT = dict(embed_dims=8, num_layers=2, num_heads=2, feedforward_channels=16)
CONVNEXT = dict(depths=[1, 1, 2, 1], channels=[4, 4, 8, 8])
FAMILIES = {
    'resnet': lambda bands: ResNet(
        18, in_channels=bands, stem_channels=8, base_channels=8
    ),
    'deep stem': lambda bands: ResNetV1d(
        depth=18, in_channels=bands, stem_channels=8, base_channels=8
    ),
    'swin': lambda bands: SwinTransformer(SWIN, in_channels=bands, pad_small_map=True),
    'vit': lambda bands: VisionTransformer(VIT, img_size=64, in_channels=bands),
    'convnext': lambda bands: ConvNeXt(CONVNEXT, in_channels=bands),
    'rvsa': lambda bands: tiny(in_channels=bands),
}


def network(family: str, bands: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    module = FAMILIES[family](bands).float()
    module.eval()
    return module


@pytest.mark.parametrize('bands', [1, 2, 3, 4, 8])
@pytest.mark.parametrize('stem', ['repeat', 'mean', 'first'])
def test_grey_images_give_the_same_response(stem, bands):
    weight = torch.randn(5, 3, 7, 7, generator=torch.manual_seed(0))
    spread = spread_stem(weight, stem_bands(stem, 3, bands))
    assert spread.shape == (5, bands, 7, 7)
    torch.testing.assert_close(spread.sum(1), weight.sum(1))


@pytest.mark.parametrize(
    ('stem', 'shares'),
    [
        ('repeat', [[1 / 2, 0, 0], [0, 1, 0], [0, 0, 1], [1 / 2, 0, 0]]),
        ('mean', [[1 / 4] * 3] * 4),
        ('first', [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]),
        ([3, 2, 1, None], [[0, 0, 3 / 4], [0, 3 / 4, 0], [3 / 4, 0, 0], [1 / 4] * 3]),
        # The second band of the file is taken by none, so all take of it.
        ([3, 1, 1, 0], [[0, 1 / 3, 1], [1 / 2, 1 / 3, 0], [1 / 2, 1 / 3, 0], [0] * 3]),
    ],
)
def test_shares_of_each_rule(stem, shares):
    weight = torch.eye(3)[:, :, None, None]  # one kernel for each band
    spread = spread_stem(weight, stem_bands(stem, 3, 4))
    torch.testing.assert_close(spread[:, :, 0, 0].t(), torch.tensor(shares).float())


@pytest.mark.parametrize(
    ('stem', 'message'),
    [
        ('copy', "one of 'repeat', 'mean', 'first', or name a band .* got 'copy'"),
        ([1, 2, 3], 'names 3 bands, but the module takes 4; name'),
        ([1, 2, 3, 4], r'stem=\[1, 2, 3, 4\]: the bands of the file are 1 to 3'),
        ([True, 2, 3, 1], r'stem=\[True, 2, 3, 1\]: the bands of'),
        ([0, 0, 0, 0], 'which must not be all'),
    ],
)
def test_wrong_rules_are_refused(tmp_path, stem, message):
    torch.save(network('resnet', 3, 0).state_dict(), tmp_path / 'rgb.pth')
    module = network('resnet', 4, 1)
    before = module.conv1.weight.clone()
    with pytest.raises(CheckpointError, match=f'rgb.pth: .*{message}'):
        load_backbone(module, tmp_path / 'rgb.pth', stem=stem)
    assert torch.equal(module.conv1.weight, before)


@pytest.mark.parametrize('family', FAMILIES)
def test_every_family(tmp_path, family):
    source, module = network(family, 3, 0), network(family, 5, 1)
    torch.save(source.state_dict(), tmp_path / 'rgb.pth')
    with pytest.raises(CheckpointError, match="bands: .* stem='repeat', 'mean', 'fi"):
        load_backbone(module, tmp_path / 'rgb.pth')
    report = load_backbone(module, tmp_path / 'rgb.pth', stem=[1, 2, 3, None, 0])
    assert 'made for 5 bands of the 3 of the file by stem=[1, 2, 3, None, 0]' in str(
        report
    )
    grey = torch.randn(1, 1, 64, 64, generator=torch.manual_seed(2))
    with torch.no_grad():
        expected = source(grey.expand(1, 3, 64, 64))
        found = module(grey.expand(1, 5, 64, 64))
    torch.testing.assert_close(found[-1], expected[-1], rtol=1e-4, atol=1e-4)
