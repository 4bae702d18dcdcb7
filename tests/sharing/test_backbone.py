# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""A backbone and its preprocessing from one file."""

import hashlib

import numpy as np
import pytest
import rasterio
import torch
from mmengine.config import Config
from mmpretrain.models import (
    ConvNeXt,
    ResNet,
    ResNetV1c,
    ResNetV1d,
    SwinTransformer,
    VisionTransformer,
)

import cmid_mm
from cmid_mm.checkpoints import CheckpointError, export_backbone
from cmid_mm.configs import build_model
from cmid_mm.images import BandMismatchError
from cmid_mm.models import RVSAViT, RVSAViTAE
from tests.toy import toy_bit

ALL = dict(out_indices=[0, 1, 2, 3])
SWIN = dict(embed_dims=8, depths=[1, 1, 2, 1], num_heads=[1, 2, 2, 2])
VIT = dict(embed_dims=16, num_layers=5, num_heads=2, feedforward_channels=24)
CONVNEXT = dict(depths=[1, 1, 2, 1], channels=[4, 4, 8, 8])
RVSA = dict(embed_dims=32, depth=4, num_heads=4, img_size=64, interval=3, **ALL)
FAMILIES = {
    'resnet': lambda: ResNet(18, in_channels=5, base_channels=8, **ALL),
    'bottleneck': lambda: ResNet(50, stem_channels=16, base_channels=4, **ALL),
    'v1c': lambda: ResNetV1c(depth=18, base_channels=8, **ALL),
    'v1d': lambda: ResNetV1d(depth=18, base_channels=8, **ALL),
    'swin': lambda: SwinTransformer(SWIN, window_size=4, pad_small_map=True, **ALL),
    'vit': lambda: VisionTransformer(
        VIT, 64, 8, 4, out_type='featmap', out_indices=[1, 2, 3, 4]
    ),
    'vit without token': lambda: VisionTransformer(
        dict(VIT, num_heads=4),
        *(64, 16),
        out_type='featmap',
        with_cls_token=False,
        layer_scale_init_value=0.1,
        pre_norm=True,
        out_indices=[1, 2, 3, 4],
    ),
    'convnext': lambda: ConvNeXt(CONVNEXT, gap_before_final_norm=False, **ALL),
    'convnext v2': lambda: ConvNeXt(
        CONVNEXT,
        gap_before_final_norm=False,
        linear_pw_conv=False,
        use_grn=True,
        layer_scale_init_value=0.0,
        **ALL,
    ),
    'rvsa': lambda: RVSAViT(**RVSA),
    'rvsa vitae': lambda: RVSAViTAE(**RVSA),
}


def config_of(name, **step):
    """The config of a run, as a checkpoint keeps it."""
    arch = dict(VIT, num_heads=4) if name == 'vit without token' else VIT
    backbone = dict(type='VisionTransformer', arch=arch)
    pipeline = [dict(type='LoadImagery', **step)]
    return Config(
        dict(
            data_preprocessor=dict(mean=[100.0], std=[50.0]),
            model=dict(encoder=dict(backbone=backbone)),
            train_dataloader=dict(dataset=dict(pipeline=pipeline)),
        )
    ).pretty_text


@torch.no_grad()
def save_run(path, backbone, cfg=None):
    for value in backbone.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.1, 1)
    backbone.eval()
    state = {f'student.backbone.{k}': v for k, v in backbone.state_dict().items()}
    torch.save(dict(meta=dict(cfg=cfg), state_dict=state), path)
    return backbone


@pytest.mark.parametrize('name', FAMILIES)
@torch.no_grad()
def test_network_of_every_family_is_told_from_its_weights(tmp_path, name):
    original = save_run(tmp_path / 'run.pth', FAMILIES[name](), config_of(name))
    export_backbone(tmp_path / 'run.pth', tmp_path / 'out.safetensors')
    for file in ('run.pth', 'out.safetensors'):
        backbone, preprocess = cmid_mm.load_backbone(tmp_path / file)
        images = torch.randn(2, preprocess.reading.num_bands, 72, 88)
        features = backbone(images)
        assert len(features) == 4 and not backbone.training
        for ours, expected in zip(features, original(images), strict=True):
            torch.testing.assert_close(ours, expected, rtol=0, atol=0)
        for shape, feature in zip(backbone.shapes, features, strict=True):
            assert shape.channels == feature.shape[1]
            assert feature.shape[2] in (72 // shape.stride, -(-72 // shape.stride))


@torch.no_grad()
@pytest.mark.parametrize('padded', [True, False])
def test_windows_of_swin_are_shifted_as_they_were(tmp_path, padded):
    network = SwinTransformer(
        dict(SWIN, depths=[2, 2, 2, 2]), window_size=2, pad_small_map=padded, **ALL
    )
    stored = dict(type='SwinTransformer', pad_small_map=padded)
    cfg = Config(dict(model=dict(backbone=stored))).pretty_text
    save_run(tmp_path / 'run.pth', network, cfg)
    export_backbone(tmp_path / 'run.pth', tmp_path / 'timm.safetensors', 'timm')
    images = torch.randn(1, 3, 64, 64)  # the last map is one window
    expected = network(images)
    others = SwinTransformer(
        dict(SWIN, depths=[2, 2, 2, 2]), window_size=2, pad_small_map=not padded, **ALL
    )
    others.load_state_dict(network.state_dict())
    others.eval()
    assert not torch.allclose(others(images)[-1], expected[-1])
    for file in ('run.pth', 'timm.safetensors'):
        backbone = cmid_mm.load_backbone(tmp_path / file).backbone
        torch.testing.assert_close(backbone(images)[-1], expected[-1])
        assert backbone(images[..., :32])[-1].shape == (1, 64, 2, 1)
        torch.testing.assert_close(backbone(images)[-1], expected[-1])


@torch.no_grad()
def test_stages_without_a_norm_of_their_own_are_as_the_next_stage_sees_them(tmp_path):
    original = SwinTransformer(SWIN, pad_small_map=True)  # one norm, of the last stage
    save_run(tmp_path / 'run.pth', original)
    backbone, _ = cmid_mm.load_backbone(tmp_path / 'run.pth')
    images = torch.randn(1, 3, 64, 64)
    features = backbone(images)
    torch.testing.assert_close(features[-1], original(images)[-1])
    tokens, size = original.patch_embed(images)
    raw = original.stages[0](tokens, size, do_downsample=False)[0]
    torch.testing.assert_close(features[0].flatten(2), raw.transpose(1, 2))


def test_preprocessing_is_that_of_the_run(tmp_path):
    save_run(
        tmp_path / 'run.pth',
        ResNet(18, in_channels=5, base_channels=4),
        config_of('', num_bands=5, bands=[5, 4, 3, 2, 1], value_range=(0, 1000)),
    )
    values = np.random.default_rng(0).integers(0, 1200, (40, 30, 5), dtype=np.uint16)
    profile = dict(driver='GTiff', height=40, width=30, count=5, dtype='uint16')
    with rasterio.open(tmp_path / 'scene.tif', 'w', **profile) as file:
        file.write(values.transpose(2, 0, 1))
    _, preprocess = cmid_mm.load_backbone(tmp_path / 'run.pth')
    batch = preprocess(tmp_path / 'scene.tif')
    pixels = values[..., ::-1].clip(0, 1000) * 0.255
    expected = torch.from_numpy((pixels - 100) / 50).permute(2, 0, 1)[None].float()
    torch.testing.assert_close(batch, expected, rtol=0, atol=0.02)  # 1/255
    for same in (values, values.astype(np.float32)):
        torch.testing.assert_close(preprocess(same), batch, rtol=0, atol=0.02)
    part = preprocess(str(tmp_path / 'scene.tif'), window=(8, 5, 16, 20))
    torch.testing.assert_close(part, batch[..., 8:24, 5:25])
    assert preprocess([values, tmp_path / 'scene.tif']).shape == (2, 5, 40, 30)
    with pytest.raises(BandMismatchError):
        preprocess(values[..., :3])


@pytest.mark.parametrize(
    ('bands', 'shape'), [([4, 3, 2], (13, 40, 30)), (None, (3, 40, 30))]
)
def test_bands_first_have_to_be_said(tmp_path, bands, shape):
    save_run(
        tmp_path / 'run.pth',
        ResNet(18, base_channels=4),
        config_of('', num_bands=3, bands=bands),
    )
    preprocess = cmid_mm.load_backbone(tmp_path / 'run.pth').preprocess
    array = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    expected = preprocess(array.transpose(1, 2, 0))
    assert expected.shape == (1, 3, 40, 30)
    for given in (array, torch.from_numpy(array)):
        with pytest.raises(ValueError, match=r"first or last; say which: .*'CHW'"):
            preprocess([given])
        torch.testing.assert_close(preprocess(given, layout='CHW'), expected)
    with pytest.raises(ValueError, match=r"layout must be .* got 'NCHW'"):
        preprocess(array, layout='NCHW')
    square = array[:3, :3, :3]  # of either layout by its shape
    if bands is None:
        with pytest.raises(ValueError, match='first or last'):
            preprocess(square)
        assert preprocess(square, layout='HWC').shape == (1, 3, 3, 3)


def test_what_the_file_does_not_tell_is_asked_for(tmp_path):
    save_run(tmp_path / 'run.pth', ResNet(18, base_channels=4))
    file, grey = tmp_path / 'run.pth', np.full((8, 8, 3), 128, np.uint8)
    with pytest.raises(ValueError, match='give mean='):
        cmid_mm.load_backbone(file).preprocess(grey)
    with pytest.raises(ValueError, match=r'takes 3 bands, but std has 2 values'):
        cmid_mm.load_backbone(file, mean=[0] * 3, std=[1] * 2)
    given = cmid_mm.load_backbone(
        file, mean=[28.0] * 3, std=[50.0] * 3, value_range=(0, 1)
    )
    assert given.preprocess(grey).unique() == 2
    assert given.preprocess(grey / np.float32(255)).unique() == 2


def test_heads_that_no_weight_tells_are_asked_for(tmp_path):
    save_run(tmp_path / 'run.pth', FAMILIES['vit']())
    with pytest.raises(CheckpointError, match='number of heads of a ViT 5 .width 16'):
        cmid_mm.load_backbone(tmp_path / 'run.pth')


def test_other_families_are_refused(tmp_path):
    torch.save({'backbone.conv_a.weight': torch.ones(2)}, tmp_path / 'own.pth')
    with pytest.raises(CheckpointError, match='no backbone of a known family'):
        cmid_mm.load_backbone(tmp_path / 'own.pth')


def test_file_of_an_address_is_fetched_once_and_checked(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'cache'))
    save_run(tmp_path / 'run.pth', ResNet(18, base_channels=4))
    digest = hashlib.sha256((tmp_path / 'run.pth').read_bytes()).hexdigest()[:8]
    right = (tmp_path / 'run.pth').rename(tmp_path / f'run-{digest}.pth')
    assert cmid_mm.load_backbone(right.as_uri()).backbone.shapes[-1].channels == 32
    wrong = right.rename(tmp_path / 'run-01234567.pth')
    cmid_mm.load_backbone(right.as_uri())  # it is there already
    with pytest.raises(CheckpointError, match='cannot be fetched: invalid hash'):
        cmid_mm.load_backbone(wrong.as_uri())
    with pytest.raises(CheckpointError, match='cannot be fetched'):
        cmid_mm.load_backbone((tmp_path / 'none.pth').as_uri())


def test_images_that_make_no_batch_are_refused(tmp_path):
    save_run(tmp_path / 'run.pth', ResNet(18, base_channels=4), config_of(''))
    preprocess = cmid_mm.load_backbone(tmp_path / 'run.pth').preprocess
    image = np.arange(3 * 8 * 6, dtype=np.uint8).reshape(8, 6, 3)
    tensor = torch.from_numpy(image)
    torch.testing.assert_close(preprocess([tensor]), preprocess(image))
    with pytest.raises(ValueError, match='got 2 of 4 x 6, 8 x 6 pixels; give them one'):
        preprocess([image, image[:4]])
    with pytest.raises(ValueError, match=r'array \(H, W, C\), got \(2, 8, 6, 3\)'):
        preprocess(np.stack([image, image]))
    with pytest.raises(ValueError, match='got 0 of no size'):
        preprocess([])


@torch.no_grad()
def test_the_backbone_of_a_change_detector_takes_one_date(tmp_path):
    """Statistics stand there once for both dates, in its config and its buffers."""
    settings = dict(
        toy_bit(4, 8),
        data_preprocessor=dict(
            type='BitemporalPreprocessor',
            mean=[90.0, 80, 70, 60],
            std=[50.0, 40, 30, 20],
            size=(64, 64),
        ),
    )
    pipeline = [dict(type='LoadImagePair', num_bands=4)]
    cfg = Config(
        dict(
            default_scope='mmseg',
            model=settings,
            train_dataloader=dict(dataset=dict(pipeline=pipeline)),
        )
    )
    model = build_model(cfg).eval()
    meta = dict(cfg=cfg.pretty_text)
    torch.save(dict(meta=meta, state_dict=model.state_dict()), tmp_path / 'bit.pth')
    backbone, preprocess = cmid_mm.load_backbone(tmp_path / 'bit.pth')
    dates = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 4), np.uint8)
    pair = torch.from_numpy(dates).permute(0, 3, 1, 2).flatten(0, 1)
    stacked = model.data_preprocessor(dict(inputs=[pair]))['inputs']
    inputs = preprocess(list(dates))
    torch.testing.assert_close(inputs.flatten(0, 1), stacked[0])
    (expected,) = model.backbone(inputs[:1])
    torch.testing.assert_close(backbone(inputs[:1])[-1], expected)
