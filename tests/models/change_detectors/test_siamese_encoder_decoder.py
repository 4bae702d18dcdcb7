# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Pairs through one backbone: shapes, windows, flips, CMID checkpoints."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

import cmid_mm.models.change_detectors  # noqa: F401
from tests.toy import toy_model


@pytest.fixture(autouse=True)
def _scope(_seeded):
    init_default_scope('mmseg')


RESNET = dict(
    type='mmpretrain.ResNet',
    depth=18,
    stem_channels=8,
    base_channels=8,
    num_stages=3,
    strides=(1, 2, 2),
    dilations=(1, 1, 1),
    out_indices=(2,),
)
BACKBONES = {
    'resnet': (RESNET, 32),
    'resnet, all stages': (
        dict(
            type='mmpretrain.ResNet',
            depth=18,
            stem_channels=8,
            base_channels=8,
            out_indices=(0, 1, 2, 3),
        ),
        32,
    ),
    'resnet of mmseg': (
        dict(
            type='mmseg.ResNet',
            depth=18,
            stem_channels=8,
            base_channels=8,
            num_stages=3,
            strides=(1, 2, 2),
            dilations=(1, 1, 1),
            out_indices=(2,),
        ),
        32,
    ),
    'swin': (
        dict(
            type='mmpretrain.SwinTransformer',
            arch=dict(embed_dims=8, depths=[1, 1, 1], num_heads=[1, 2, 4]),
            img_size=64,
            out_indices=(2,),
            pad_small_map=True,
        ),
        32,
    ),
    'convnext': (
        dict(
            type='mmpretrain.ConvNeXt',
            arch=dict(depths=[1, 1, 1], channels=[8, 16, 32]),
            out_indices=(2,),
            gap_before_final_norm=False,
        ),
        32,
    ),
    'vit': (
        dict(
            type='mmpretrain.VisionTransformer',
            arch=dict(
                embed_dims=32, num_layers=1, num_heads=2, feedforward_channels=32
            ),
            img_size=64,
            patch_size=16,
            out_type='featmap',
            with_cls_token=False,
        ),
        32,
    ),
}


def detector(backbone=RESNET, channels=32, bands=3, **changes) -> torch.nn.Module:
    torch.manual_seed(1)
    model = MODELS.build(
        dict(
            type='SiameseEncoderDecoder',
            data_preprocessor=dict(type='BitemporalPreprocessor', size=(64, 64)),
            backbone=dict(backbone, in_channels=bands),
            decode_head=dict(
                type='BITHead', in_channels=channels, in_index=-1, decoder_depth=2
            ),
            train_cfg=dict(),
            test_cfg=ConfigDict(changes.pop('test_cfg', dict(mode='whole'))),
            **changes,
        )
    )
    model.init_weights()
    return model


def sample(size, label=None, **metainfo) -> SegDataSample:
    metainfo = {'ori_shape': size, 'img_shape': size, **metainfo}
    data_sample = SegDataSample(metainfo=metainfo)
    if label is not None:
        data_sample.gt_sem_seg = PixelData(data=label)
    return data_sample


@pytest.mark.parametrize('name', BACKBONES)
def test_any_backbone_with_a_stride_16_map(name):
    config, channels = BACKBONES[name]
    if 'all stages' in name:
        model = detector(config, channels)
        model.decode_head.in_index = 2
    else:
        model = detector(config, channels)
    inputs = torch.randn(2, 6, 64, 64)
    labels = [torch.randint(0, 2, (1, 64, 64)) for _ in range(2)]
    losses = model.loss(inputs, [sample((64, 64), label) for label in labels])
    loss = losses['decode.loss_ce']
    loss.backward()
    assert torch.isfinite(loss)
    first = next(p for p in model.backbone.parameters() if p.requires_grad)
    assert first.grad.abs().sum() > 0
    model.eval()
    assert model(inputs, mode='tensor').shape == (2, 2, 64, 64)


@pytest.mark.parametrize('size', [(64, 64), (50, 71)])
def test_predictions_have_the_size_of_the_images(size):
    model = detector().eval()
    with torch.no_grad():
        (result,) = model.predict(torch.randn(1, 6, *size), [sample(size)])
    assert result.pred_sem_seg.data.shape == (1, *size)
    assert result.seg_logits.data.shape == (2, *size)
    assert set(result.pred_sem_seg.data.unique().tolist()) <= {0, 1}


def test_labels_of_odd_size_give_a_loss():
    model = detector()
    label = torch.zeros(1, 50, 71, dtype=torch.long)
    losses = model.loss(torch.randn(2, 6, 50, 71), [sample((50, 71), label)] * 2)
    assert torch.isfinite(losses['decode.loss_ce'])


def test_more_bands():
    model = detector(bands=5).eval()
    assert model(torch.randn(1, 10, 64, 64), mode='tensor').shape == (1, 2, 64, 64)


def test_odd_number_of_channels_is_refused():
    with pytest.raises(ValueError, match='odd number of channels, 5'):
        detector().extract_feat(torch.randn(1, 5, 64, 64))


@torch.no_grad()
def test_features_of_training_and_testing_agree_for_dates_of_different_light():
    model = detector().train()
    for module in model.backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # running statistics become those of the batch
    before, after = torch.randn(2, 4, 3, 64, 64)
    inputs = torch.cat([before, 3 * after + 2], 1)
    trained = model.extract_feat(inputs)
    tested = model.eval().extract_feat(inputs)
    for (of_training,), (of_test,) in zip(trained, tested, strict=True):
        error = (of_training - of_test).abs().mean() / of_training.abs().mean()
        assert error < 0.02  # the running variance is the unbiased one


@torch.no_grad()
def test_features_are_those_of_each_date():
    model = detector().eval()
    before, after = torch.randn(2, 2, 3, 64, 64)
    first, second = model.extract_feat(torch.cat([before, after], 1))
    for features, date in ((first, before), (second, after)):
        torch.testing.assert_close(features, model.backbone(date))


@torch.no_grad()
def test_sliding_windows_side_by_side_are_the_windows_themselves():
    model = detector(
        test_cfg=dict(mode='slide', crop_size=(32, 32), stride=(32, 32))
    ).eval()
    inputs = torch.randn(1, 6, 64, 96)
    (result,) = model.predict(inputs, [sample((64, 96))])
    window = model(inputs[..., 32:64, 64:96], mode='tensor')[0]
    torch.testing.assert_close(
        result.seg_logits.data[:, 32:64, 64:96], window, rtol=1e-4, atol=1e-5
    )


@torch.no_grad()
def test_flips_at_test_time():
    model = detector().eval()
    inputs = torch.randn(1, 6, 64, 64)
    logits = []
    for dims, direction in (((), None), ((3,), 'horizontal'), ((2,), 'vertical')):
        metainfo = dict(flip=direction is not None, flip_direction=direction)
        (result,) = model.predict(inputs.flip(dims), [sample((64, 64), **metainfo)])
        logits.append(result.seg_logits.data)
    merging = MODELS.build(dict(type='SegTTAModel', module=model))
    views = [
        inputs,
        inputs.flip(3),
        inputs.flip(2),
    ]
    samples = [
        [sample((64, 64), flip=flip, flip_direction=direction, img_path='a.png')]
        for flip, direction in (
            (False, None),
            (True, 'horizontal'),
            (True, 'vertical'),
        )
    ]
    data = dict(inputs=[[view[0]] for view in views], data_samples=samples)
    model.data_preprocessor.mean.fill_(0)
    model.data_preprocessor.std.fill_(1)
    (merged,) = merging.test_step(data)
    expected = sum(x.softmax(0) for x in logits).argmax(0)
    assert torch.equal(merged.pred_sem_seg.data.squeeze(), expected)


def test_cmid_checkpoint_with_a_last_stage_that_is_not_needed(tmp_path):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        cmid = toy_model()
    file = tmp_path / 'epoch_1.pth'
    torch.save({'state_dict': cmid.state_dict()}, file)
    init_cfg = dict(type='PretrainedBackbone', checkpoint=str(file))
    for kind in ('mmpretrain.ResNet', 'mmseg.ResNet'):
        model = detector(dict(RESNET, type=kind, init_cfg=init_cfg))
        source = cmid.student.backbone.state_dict()
        loaded = model.backbone.state_dict()
        parts = [{name.split('.')[0] for name in state} for state in (source, loaded)]
        assert parts[0] - parts[1] == {'layer4'}
        for name, value in loaded.items():
            torch.testing.assert_close(value, source[name], rtol=0, atol=0)


def test_swin_checkpoint_with_a_last_stage_that_is_not_needed(tmp_path):
    config = dict(BACKBONES['swin'][0])
    arch = dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 2, 4, 8])
    whole = MODELS.build(dict(config, arch=arch, out_indices=(3,)))
    file = tmp_path / 'swin.pth'
    torch.save({'state_dict': whole.state_dict()}, file)
    init_cfg = dict(type='PretrainedBackbone', checkpoint=str(file))
    model = detector(dict(config, init_cfg=init_cfg))
    source = whole.state_dict()
    for name, value in model.backbone.state_dict().items():
        if not name.startswith('norm2'):  # pre-training normalised stage 4 only
            torch.testing.assert_close(value, source[name], rtol=0, atol=0)
