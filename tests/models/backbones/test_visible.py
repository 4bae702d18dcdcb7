# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from mmpretrain.models import ResNet
from mmpretrain.models.utils import GRN
from mmpretrain.registry import MODELS

from cmid_mm.checkpoints import export_backbone, load_backbone
from cmid_mm.models import (
    MaskedEncoder,
    VisibleEncoder,
    VisibleHiera,
)
from cmid_mm.models.backbones.visible import visible_cells
from tests.toy import toy_batch, toy_config, toy_model

SMALL_RESNET = dict(depth=18, stem_channels=8, base_channels=8, out_indices=(2, 3))
SMALL_CONVNEXT = dict(
    arch=dict(depths=[1, 1, 1, 1], channels=[8, 8, 16, 16]), out_indices=(2, 3)
)
V2 = dict(use_grn=True, layer_scale_init_value=0.0)
BACKBONES = {
    'resnet': dict(type='VisibleResNet', **SMALL_RESNET),
    'convnext': dict(type='VisibleConvNeXt', **SMALL_CONVNEXT),
    'convnext-v2': dict(type='VisibleConvNeXt', **SMALL_CONVNEXT, **V2),
    'hiera': dict(type='VisibleHiera', img_size=96, out_indices=(2, 3)),
}


@pytest.fixture(params=BACKBONES)
def encoder(request):
    if request.param == 'hiera':
        pytest.importorskip('timm')
    torch.manual_seed(0)
    return VisibleEncoder(dict(BACKBONES[request.param]))


def a_mask(*hidden, images=1, cells=3):
    mask = torch.zeros(images, cells**2, dtype=torch.bool)
    mask[:, list(hidden)] = True
    return mask.unflatten(1, (cells, cells))


def a_small_resnet():
    return MODELS.build(BACKBONES['resnet'])


def pixels_of(mask, size=96):
    side = size // mask.shape[-1]
    return mask.repeat_interleave(side, 1).repeat_interleave(side, 2)[:, None]


@torch.no_grad()
def test_hidden_pixels_change_nothing(encoder):
    """In training mode, in which they would shift the statistics too."""
    images, mask = torch.randn(2, 3, 96, 96), a_mask(0, 4, 5, images=2)
    other = torch.where(pixels_of(mask), 100 * torch.randn_like(images), images)
    for one, two in zip(
        encoder.stages(images, mask), encoder.stages(other, mask), strict=True
    ):
        assert torch.equal(one, two)


@torch.no_grad()
def test_visible_pixels_change_what_is_seen(encoder):
    encoder.eval()
    images, mask = torch.randn(1, 3, 96, 96), a_mask(0, 4, 5)
    other = torch.where(pixels_of(mask), images, torch.randn_like(images))
    assert not torch.allclose(encoder(images, mask), encoder(other, mask), atol=1e-4)


@torch.no_grad()
def test_masked_positions_hold_the_mean_of_the_visible_ones(encoder):
    encoder.eval()
    mask = a_mask(0, 4, 5)
    for features in encoder.stages(torch.randn(1, 3, 96, 96), mask):
        hidden = pixels_of(mask, features.shape[-1])[0, 0]
        seen = features[0, :, ~hidden]
        expected = seen.mean(1, keepdim=True).expand(-1, int(hidden.sum()))
        torch.testing.assert_close(features[0, :, hidden], expected)
        pooled = features.mean((0, 2, 3))
        torch.testing.assert_close(pooled, seen.mean(1), rtol=1e-4, atol=1e-5)
        assert seen.std(1).mean() > 0


@torch.no_grad()
def test_nothing_hidden_is_the_whole_image(encoder):
    encoder.eval()
    images = torch.randn(1, 3, 96, 96)
    for one, two in zip(
        encoder.stages(images, a_mask()), encoder.backbone(images), strict=True
    ):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_cells_keep_their_places():
    """What a cell of Hiera shows comes back where the cell is."""
    pytest.importorskip('timm')
    torch.manual_seed(0)
    backbone = VisibleHiera(img_size=96, out_indices=(0, 1)).eval()
    images, mask = torch.randn(1, 3, 96, 96), a_mask(1, 5, 6, 8)
    whole = backbone(images.masked_fill(pixels_of(mask), 0))
    for seen, everything in zip(
        backbone(images.masked_fill(pixels_of(mask), 0), ~mask), whole, strict=True
    ):
        # The first stages attend within cells: the others make no difference.
        hidden = pixels_of(mask, seen.shape[-1]).expand_as(seen)
        torch.testing.assert_close(
            seen[~hidden], everything[~hidden], rtol=1e-3, atol=1e-4
        )
        assert not seen[hidden].any()


@torch.no_grad()
def test_cells_of_several_positions():
    pytest.importorskip('timm')
    encoder = VisibleEncoder(VisibleHiera(img_size=128)).eval()
    images, coarse = torch.randn(1, 3, 128, 128), torch.eye(2).bool()[None]
    fine = coarse.repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert torch.equal(encoder(images, coarse), encoder(images, fine))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(arch='vit_tiny_patch16_224'), "arch='vit_tiny_patch16_224': expected a "),
        (dict(arch='hiera_tiny_225'), 'known are .*hiera_tiny_224'),
        (dict(out_indices=(2, 5)), 'expected stages of 0 to 3'),
        (dict(img_size=100), 'expected a multiple of 32'),
    ],
)
def test_no_hiera_is_refused(options, message):
    pytest.importorskip('timm')
    with pytest.raises(ValueError, match=message):
        VisibleHiera(**options)


def test_hiera_needs_a_visible_cell():
    pytest.importorskip('timm')
    backbone = VisibleHiera(img_size=96)
    with pytest.raises(ValueError, match='no cell of an image is visible'):
        backbone(torch.randn(1, 3, 96, 96), torch.zeros(1, 3, 3).bool())


@torch.no_grad()
@pytest.mark.parametrize('name', ['resnet', 'convnext', 'convnext-v2'])
@pytest.mark.parametrize('training', [False, True])
def test_whole_images_are_those_of_the_plain_backbone(name, training):
    torch.manual_seed(0)
    network = MODELS.build(BACKBONES[name])
    kind = BACKBONES[name]['type'].removeprefix('Visible')
    pooled = {} if kind == 'ResNet' else dict(gap_before_final_norm=False)
    plain = MODELS.build({**BACKBONES[name], 'type': kind, **pooled})
    plain.load_state_dict(network.state_dict())
    network.train(training), plain.train(training)
    images = torch.randn(2, 3, 64, 96)
    network(torch.randn(2, 3, 64, 64), torch.eye(2).bool().expand(2, 2, 2))
    plain.load_state_dict(network.state_dict())  # nothing of the masks is left behind
    for one, two in zip(network(images), plain(images), strict=True):
        assert torch.equal(one, two)


def test_statistics_are_those_of_visible_positions():
    """An image of which nothing is seen is as if it were not in the batch."""
    torch.manual_seed(0)
    encoder = VisibleEncoder(dict(BACKBONES['resnet']))
    images = torch.randn(2, 3, 96, 96)
    mask = torch.cat((a_mask(2), a_mask(*range(9))))
    alone = encoder(images[:1], mask[:1])
    norms = [buffer.clone() for buffer in encoder.buffers()]
    for module in encoder.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
    both = encoder(images, mask)
    torch.testing.assert_close(both[:1], alone, rtol=1e-3, atol=1e-4)
    for one, two in zip(norms, encoder.buffers(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize('name', ['resnet', 'convnext-v2'])
def test_convolutions_see_zero_where_hidden(name):
    torch.manual_seed(0)
    encoder = VisibleEncoder(dict(BACKBONES[name]))
    for parameter in encoder.parameters():
        parameter.add_(torch.rand_like(parameter))  # no bias is zero
    mask, found = a_mask(0, 4), []

    def look(module, inputs, output):
        hidden = inputs[0] * pixels_of(mask, inputs[0].shape[-1])
        found.append(hidden.abs().max().item())

    spatial = [
        module
        for module in encoder.backbone.modules()
        if isinstance(module, torch.nn.Conv2d) and module.kernel_size[0] > 2
    ]
    for module in spatial[1:]:  # the first reads pixels, which are hidden before
        module.register_forward_hook(look)
    encoder(torch.randn(1, 3, 96, 96), mask)
    assert len(found) > 3 and not any(found)


@torch.no_grad()
@pytest.mark.parametrize('layout', ['channel_first', 'channel_last'])
def test_responses_are_those_of_visible_positions(layout):
    grn = GRN(5)
    grn.gamma.fill_(0.5)
    features, visible = torch.randn(1, 5, 6, 6), ~a_mask(0, 4)
    where = ~pixels_of(~visible, 6)
    norms = (features * where).norm(dim=(2, 3), keepdim=True)
    gain = norms / (norms.mean(1, keepdim=True) + grn.eps)
    expected = (features + 0.5 * features * gain) * where
    order = (0, 1, 2, 3) if layout == 'channel_first' else (0, 2, 3, 1)
    with visible_cells(grn, visible):
        found = grn(features.permute(order), data_format=layout)
    torch.testing.assert_close(found, expected.permute(order))


@pytest.mark.parametrize('name', ['resnet', 'convnext-v2', 'hiera'])
@pytest.mark.parametrize('joint_views', [False, True])
def test_cmid_with_a_student_that_sees_visible_cells_alone(name, joint_views):
    if name == 'hiera':
        pytest.importorskip('timm')
    heads = toy_config()['heads']
    for head in heads.values():
        head['in_channels'] = None
    heads['reconstruction']['hidden_channels'] = 8
    model = toy_model(
        bands=4,
        joint_views=joint_views,
        encoder=dict(
            type='VisibleEncoder', backbone=dict(BACKBONES[name], out_indices=[3])
        ),
        heads=heads,
    )
    seen = []
    model.teacher.register_forward_pre_hook(
        lambda module, inputs: seen.append(len(inputs))
    )
    batch = toy_batch(size=96, patch=32, bands=4)
    batch['masks'] = a_mask(0, 4, images=8).unflatten(0, (4, 2))
    losses = model(**model.data_preprocessor(batch), mode='loss')
    sum(value for key, value in losses.items() if 'loss' in key).backward()
    assert seen == [1] if joint_views else [1, 1]  # whole images
    idle = [
        key
        for key, value in model.named_parameters()
        if value.requires_grad and value.grad is None
    ]
    assert idle == []
    assert set(model.reconstruct(batch)) >= {'reconstruction', 'masked'}


def test_a_run_of_visible_cells_becomes_a_plain_resnet(tmp_path):
    torch.manual_seed(0)
    backbone = MODELS.build(dict(type='VisibleResNet', depth=18))
    backbone.eval()
    state = {f'student.backbone.{k}': v for k, v in backbone.state_dict().items()}
    torch.save(dict(meta={}, state_dict=state), tmp_path / 'run.pth')
    export_backbone(tmp_path / 'run.pth', tmp_path / 'backbone.pth', 'mmpretrain')
    plain = ResNet(18)
    plain.eval()
    load_backbone(plain, tmp_path / 'backbone.pth')
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected, found = backbone(images)[0], plain(images)[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_backbone_that_sees_all_is_refused():
    backbone = dict(type='ResNet', depth=18, stem_channels=8, base_channels=8)
    with pytest.raises(ValueError, match='ResNet cannot leave cells out; take Visible'):
        VisibleEncoder(backbone)


def test_a_fill_that_no_one_sees_is_refused():
    with pytest.raises(ValueError, match="mask_fill='zero' has no effect: VisibleEnc"):
        toy_model(
            encoder=dict(type='VisibleEncoder', backbone=dict(BACKBONES['resnet'])),
            data_preprocessor=dict(mean=[0.0], std=[1.0], mask_fill='zero'),
        )


def test_cells_smaller_than_positions_are_refused(encoder):
    mask = torch.zeros(1, 6, 6, dtype=torch.bool)
    with pytest.raises(
        ValueError, match='patch_size=16.*a multiple of 32.*set it to 32'
    ):
        encoder(torch.randn(1, 3, 96, 96), mask)


def test_synchronized_norms_take_visible_positions_too():
    """What sync_bn makes of a norm leaves the others' statistics as they are."""
    torch.manual_seed(0)
    network = a_small_resnet()
    images, visible = torch.randn(2, 3, 96, 96), ~a_mask(1, 3, images=2)
    network.eval()
    expected = network(images, visible)[-1]
    network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(network)
    network.eval()
    torch.testing.assert_close(network(images, visible)[-1], expected)


def test_recomputed_activations_are_refused():
    with pytest.raises(ValueError, match='VisibleResNet: with_cp=True'):
        MODELS.build(dict(BACKBONES['resnet'], with_cp=True))


def test_hiera_says_what_it_takes():
    pytest.importorskip('timm')
    with pytest.raises(ValueError, match='img_size=100: expected a multiple of 32'):
        VisibleHiera(img_size=100)
    encoder = VisibleEncoder(dict(BACKBONES['hiera']))
    with pytest.raises(ValueError, match='img_size=96.*num_crops=0'):
        encoder(torch.randn(1, 3, 64, 64))
    uneven = torch.cat((a_mask(1), a_mask(1, 2)))
    with pytest.raises(ValueError, match='MaskPair.share=1'):
        encoder(torch.randn(2, 3, 96, 96), uneven)


def test_whole_images_need_no_encoder_of_their_own():
    """As a masked student the same backbone takes a token."""
    encoder = MaskedEncoder(dict(BACKBONES['resnet']), insert_after='maxpool')
    assert encoder(torch.randn(2, 3, 64, 64), a_mask(1, images=2, cells=2)).ndim == 4


def test_weights_of_hiera_keep_its_own_names(tmp_path):
    """Its parts are named as a ViT's, which it is not."""
    timm = pytest.importorskip('timm')
    torch.manual_seed(0)
    backbone = MODELS.build(BACKBONES['hiera'])
    state = {f'student.backbone.{k}': v for k, v in backbone.state_dict().items()}
    torch.save(dict(meta={}, state_dict=state), tmp_path / 'run.pth')
    meta = export_backbone(tmp_path / 'run.pth', tmp_path / 'backbone.pth')
    assert meta['architecture'] == 'Hiera 12 (width 96, 3 input bands)'
    exported = torch.load(tmp_path / 'backbone.pth', weights_only=True)['state_dict']
    assert {f'backbone.{name}' for name in backbone.state_dict()} == set(exported)
    theirs = timm.create_model('hiera_tiny_224', img_size=96, num_classes=7)
    own = {k.removeprefix('timm_model.'): v for k, v in backbone.state_dict().items()}
    theirs.load_state_dict({**theirs.state_dict(), **own})
    torch.save(theirs.state_dict(), tmp_path / 'timm.pth')
    for name in ('run.pth', 'backbone.pth', 'timm.pth'):
        other = MODELS.build(BACKBONES['hiera'])
        load_backbone(other, tmp_path / name)
        for key, value in other.state_dict().items():
            assert torch.equal(value, backbone.state_dict()[key]), (name, key)
        plain = timm.create_model('hiera_tiny_224', img_size=96)
        plain.head = torch.nn.Identity()
        load_backbone(plain, tmp_path / name)
        for key, value in plain.state_dict().items():
            assert torch.equal(value, own[key]), (name, key)
