# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import mmengine.runner
import pytest
import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS

from cmid_mm.models.heads import FeatureDistillationHead, PairedViews
from tests.toy import SMALL_VIT, toy_batch, toy_config, toy_model

BACKBONE = dict(type='ResNet', depth=18, stem_channels=8, base_channels=8)


def head_config(**changes):
    return dict(type='FeatureDistillationHead', target=dict(BACKBONE), **changes)


def test_target_sees_its_own_normalisation():
    """Bands in its order, from this run's statistics to its own."""
    torch.manual_seed(0)
    head = FeatureDistillationHead(
        64,
        target=dict(BACKBONE),
        mean=[10.0, 20.0, 30.0, 40.0],
        std=[1.0, 2.0, 3.0, 4.0],
        target_bands=[3, 1, 0],
        target_mean=[100.0, 110.0, 120.0],
        target_std=[50.0, 60.0, 70.0],
    )
    raw = torch.rand(2, 4, 64, 64) * 255
    run = torch.tensor([10.0, 20, 30, 40]).view(4, 1, 1)
    normalised = (raw - run) / torch.tensor([1.0, 2, 3, 4]).view(4, 1, 1)
    own = raw[:, [3, 1, 0]] - torch.tensor([100.0, 110, 120]).view(3, 1, 1)
    own = own / torch.tensor([50.0, 60, 70]).view(3, 1, 1)
    expected = head.target(own)[-1]
    expected = F.layer_norm(expected.movedim(1, -1), (64,)).movedim(-1, 1)
    found = head.target_features(normalised, (2, 2))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_loss_is_the_mean_distance_of_both_views():
    torch.manual_seed(0)
    head = FeatureDistillationHead(6, [0.0] * 3, [1.0] * 3, dict(BACKBONE))
    images = torch.randn(2, 3, 64, 64), torch.randn(2, 3, 64, 64)
    student = torch.randn(2, 6, 2, 2), torch.randn(2, 6, 2, 2)
    pair = PairedViews(images, (), (), student, None)
    expected = 0.5 * sum(
        F.smooth_l1_loss(
            head.predict(student[view]), head.target_features(images[view], (2, 2))
        )
        for view in (0, 1)
    )
    torch.testing.assert_close(head.loss(pair)['loss_distillation'], expected)


def test_a_finer_target_is_resized_to_the_students_cells():
    target = dict(BACKBONE, out_indices=(1, 3))
    head = FeatureDistillationHead(6, [0.0] * 3, [1.0] * 3, target, target_stage=0)
    assert head.predictor[-1].out_channels == 16
    assert head.target_features(torch.randn(1, 3, 64, 64), (2, 2)).shape == (
        1,
        16,
        2,
        2,
    )


def test_student_comes_near_a_target_that_stays_as_it_is():
    model = toy_model(heads=dict(distillation=head_config()))
    assert model.teacher is None
    head = model.heads['distillation']
    assert not any(p.requires_grad for p in head.target.parameters())
    before = {k: v.clone() for k, v in head.target.state_dict().items()}
    views = model.data_preprocessor(toy_batch(batch=8))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=3e-3)

    def similarity():
        """Of what is predicted from whole images, in eval mode, and the target."""
        model.eval()
        with torch.no_grad():
            predicted = head.predict(model.student(views['images'][0]))
            target = head.target_features(views['images'][0], (2, 2))
        model.train()
        return F.cosine_similarity(predicted, target, dim=1).mean().item()

    first = similarity()
    for _ in range(40):
        loss = model(**views, mode='loss')['loss_distillation']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert not head.target.training
    assert first < 0.2
    assert similarity() > 0.6
    for name, value in head.target.state_dict().items():
        assert torch.equal(value, before[name])


def test_statistics_come_from_the_preprocessor():
    bands = dict(mean=[100.0] * 5, std=[50.0] * 5)
    model = MODELS.build(
        dict(
            type='CMID',
            encoder=dict(backbone=dict(BACKBONE), insert_after='maxpool'),
            heads=dict(
                distillation=head_config(
                    target_bands=[2, 1, 0],
                    target_mean=[90.0] * 3,
                    target_std=[25.0] * 3,
                )
            ),
            data_preprocessor=bands,
        )
    )
    head = model.heads['distillation']
    assert head.scale.flatten().tolist() == [2.0] * 3
    assert head.shift.flatten().tolist() == pytest.approx([0.4] * 3)


def test_statistics_for_other_bands_are_refused():
    with pytest.raises(ValueError, match='target_mean has 3 values .* 2 target_bands'):
        FeatureDistillationHead(
            6,
            [0.0] * 4,
            [1.0] * 4,
            dict(BACKBONE, in_channels=2),
            target_bands=[0, 1],
            target_mean=[0.0] * 3,
        )


TIMM_VIT = dict(
    type='TIMMBackbone',
    model_name='vit_tiny_patch16_224',
    features_only=True,
    embed_dim=48,
    depth=2,
    num_heads=2,
    out_indices=(1,),
)
TARGETS = {
    'ResNet': (BACKBONE, 64),
    'Swin': (
        dict(
            type='SwinTransformer',
            arch=dict(embed_dims=8, depths=[2] * 4, num_heads=[1] * 4),
            pad_small_map=True,
        ),
        64,
    ),
    'DINOv2': (
        dict(
            type='VisionTransformer',
            arch=SMALL_VIT,
            img_size=70,
            patch_size=14,
            layer_scale_init_value=1e-5,
            out_type='featmap',
        ),
        48,
    ),
    'timm ResNet': (
        dict(type='TIMMBackbone', model_name='resnet10t', features_only=True),
        512,
    ),
    'timm ViT': (dict(TIMM_VIT, dynamic_img_size=True), 48),
}


@pytest.mark.parametrize('name', TARGETS)
def test_targets_of_all_kinds_teach_the_student_only(name):
    """Three of the run's five bands for the target, all for the student."""
    target, width = TARGETS[name]
    bands = dict(mean=[100.0] * 5, std=[50.0] * 5)
    head = dict(type='FeatureDistillationHead', target=target, target_bands=[2, 1, 0])
    model = toy_model(bands=5, heads=dict(distillation=head), data_preprocessor=bands)
    head = model.heads['distillation']
    assert head.predictor[-1].out_channels == width
    before = {k: v.clone() for k, v in head.target.state_dict().items()}
    views = model.data_preprocessor(toy_batch(bands=5))
    losses = model(**views, mode='loss')
    losses['loss_distillation'].backward()
    for parameter in head.target.parameters():
        assert parameter.grad is None and not parameter.requires_grad
    learning = (*model.student.parameters(), *head.predictor.parameters())
    assert all(parameter.grad is not None for parameter in learning)
    for parameter in (model.student.mask_token, model.student.backbone.conv1.weight):
        assert parameter.grad.abs().sum() > 0
    for key, value in head.target.state_dict().items():
        assert torch.equal(value, before[key]), key


@pytest.mark.parametrize('bands', [3, 5])
def test_a_student_like_the_target_starts_at_no_distance(bands):
    """The target that is left out is the student's backbone as it begins."""
    statistics = dict(mean=[100.0] * bands, std=[50.0] * bands)
    model = toy_model(
        bands=bands,
        heads=dict(distillation=dict(type='FeatureDistillationHead')),
        data_preprocessor=statistics,
    )
    head = model.heads['distillation']
    assert type(head.target) is type(model.student.backbone)
    head.target.load_state_dict(model.student.backbone.state_dict())
    model.eval()
    views = model.data_preprocessor(toy_batch(bands=bands))
    unmasked = dict(masked_images=views['images'], masks=[None, None])
    losses = model(**{**views, **unmasked}, mode='loss')
    assert losses['loss_distillation'] < 1e-9
    assert losses['target_similarity'] == pytest.approx(1)
    masked = model(**views, mode='loss')
    assert masked['loss_distillation'] > 1e-3


def test_a_left_out_target_of_some_bands_is_loaded_without_the_widened_stem():
    weights = dict(type='PretrainedBackbone', checkpoint='rgb.pth')
    config = toy_config(
        heads=dict(
            distillation=dict(type='FeatureDistillationHead', target_bands=[2, 1, 0])
        ),
        data_preprocessor=dict(mean=[100.0] * 5, std=[50.0] * 5),
    )
    config['encoder']['backbone']['init_cfg'] = dict(weights, stem=[3, 2, 1, 0, 0])
    model = MODELS.build(config)
    target = model.heads['distillation'].target
    assert (target.conv1.in_channels, target.init_cfg) == (3, weights)
    assert model.student.backbone.init_cfg['stem'] == [3, 2, 1, 0, 0]


def test_the_target_is_not_in_checkpoints():
    model, other = (
        toy_model(heads=dict(distillation=dict(type='FeatureDistillationHead')))
        for _ in range(2)
    )
    target = model.heads['distillation'].target
    with torch.no_grad():
        target.conv1.weight.add_(1)
        model.student.backbone.conv1.weight.add_(1)
    state = model.state_dict()
    assert state.keys() == mmengine.runner.get_state_dict(model).keys()
    own = [name for name in state if name.startswith('heads.')]
    assert own == [
        f'heads.distillation.{name}'
        for name in ('target_checksum', 'predictor.0.weight', 'predictor.0.bias')
    ]
    assert not other.load_state_dict(state).missing_keys  # strictly
    mmengine.runner.load_state_dict(other, state, strict=True)
    backbone = other.student.backbone
    assert torch.equal(backbone.conv1.weight, model.student.backbone.conv1.weight)
    kept = other.heads['distillation'].target.conv1.weight
    assert torch.equal(kept + 1, target.conv1.weight)


def test_a_target_for_another_size_of_images_is_refused():
    head = FeatureDistillationHead(6, [0.0] * 3, [1.0] * 3, TIMM_VIT)
    with pytest.raises(ValueError, match=r'views of 64 x 64 pixels .*img_size'):
        head.target_features(torch.randn(1, 3, 64, 64), (2, 2))


def test_a_target_without_feature_maps_is_refused():
    target = dict(type='VisionTransformer', arch=SMALL_VIT)
    with pytest.raises(ValueError, match="target, target_stage=-1: .*'featmap'"):
        FeatureDistillationHead(6, [0.0] * 3, [1.0] * 3, target)
    with pytest.raises(ValueError, match='give one of both'):
        FeatureDistillationHead(6, [0.0] * 3, [1.0] * 3)
