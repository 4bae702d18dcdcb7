# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch

import cmid_mm
from cmid_mm.checkpoints import CheckpointError, export_backbone, load_backbone
from cmid_mm.models import VisibleHiera

timm = pytest.importorskip('timm')


@pytest.fixture(scope='module')
def released(tmp_path_factory):
    """A network of timm, and its file."""
    torch.manual_seed(0)
    network = timm.create_model('hiera_tiny_224', img_size=64, num_classes=3).eval()
    for name, table in network.named_parameters():
        if 'norm' in name or name == 'pos_embed':
            torch.nn.init.normal_(table, 0.5)
    file = tmp_path_factory.mktemp('hiera') / 'hiera.pth'
    torch.save(network.state_dict(), file)
    return network, file


IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def features(network):
    return network.forward_intermediates(IMAGES, intermediates_only=True)


def test_a_file_tells_its_network(released):
    network, file = released
    backbone, _ = cmid_mm.load_backbone(file)
    with torch.no_grad():
        stages = backbone(IMAGES)
    for own, theirs in zip(stages, features(network), strict=True):
        torch.testing.assert_close(own, theirs)


def test_positions_fit_images_of_another_size(released):
    network, file = released
    module = VisibleHiera('hiera_tiny_224', img_size=96)
    report = load_backbone(module, file)
    assert report.resized == ['pos_embed']
    table = module.timm_model.pos_embed.unflatten(1, (24, 24))
    torch.testing.assert_close(
        table.mean((0, 1, 2)), network.pos_embed.mean((0, 1)), atol=0.1, rtol=0
    )
    assert module(torch.zeros(1, 3, 96, 96))[0].shape == (1, 768, 3, 3)


def test_export_to_timm(released, tmp_path):
    network, file = released
    export_backbone(file, tmp_path / 'a.pth', layout='timm')
    again = timm.create_model('hiera_tiny_224', img_size=64, num_classes=0).eval()
    again.head = torch.nn.Identity()
    again.load_state_dict(torch.load(tmp_path / 'a.pth')['state_dict'])
    for own, theirs in zip(features(again), features(network), strict=True):
        assert torch.equal(own, theirs)


@pytest.mark.parametrize('name', ['hiera_small_abswin_256', 'hieradet_small'])
def test_positions_in_windows(tmp_path, name):
    network = timm.create_model(name)
    torch.save(network.state_dict(), tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='tables of positions in windows'):
        cmid_mm.load_backbone(tmp_path / 'a.pth')
    if name.startswith('hiera_'):
        module = VisibleHiera(name, img_size=256)
        load_backbone(module, tmp_path / 'a.pth')
        assert torch.equal(module.timm_model.pos_embed_win, network.pos_embed_win)


def test_another_hiera_is_named(released):
    _, file = released
    with pytest.raises(CheckpointError, match="set arch='hiera_tiny_224'"):
        load_backbone(VisibleHiera('hiera_base_224', img_size=64), file)
