# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS

from cmid_mm.models.heads import FeatureDistillationHead, PairedViews
from tests.toy import toy_batch, toy_model

BACKBONE = dict(type='ResNet', depth=18, stem_channels=8, base_channels=8)


def head_config(**changes):
    return dict(type='FeatureDistillationHead', target=dict(BACKBONE), **changes)


def test_target_sees_its_own_normalisation():
    """Bands in its order, from this run's statistics to its own."""
    torch.manual_seed(0)
    head = FeatureDistillationHead(
        64,
        dict(BACKBONE),
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
    head = FeatureDistillationHead(6, dict(BACKBONE), [0.0] * 3, [1.0] * 3)
    images = torch.randn(2, 3, 64, 64), torch.randn(2, 3, 64, 64)
    student = torch.randn(2, 6, 2, 2), torch.randn(2, 6, 2, 2)
    pair = PairedViews(images, (), (), student, None)
    expected = 0.5 * sum(
        F.smooth_l1_loss(
            head.predictor(student[view]), head.target_features(images[view], (2, 2))
        )
        for view in (0, 1)
    )
    torch.testing.assert_close(head.loss(pair)['loss_distillation'], expected)


def test_a_finer_target_is_resized_to_the_students_cells():
    target = dict(BACKBONE, out_indices=(1, 3))
    head = FeatureDistillationHead(6, target, [0.0] * 3, [1.0] * 3, target_stage=0)
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
            predicted = head.predictor(model.student(views['images'][0]))
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
            dict(BACKBONE, in_channels=2),
            [0.0] * 4,
            [1.0] * 4,
            target_bands=[0, 1],
            target_mean=[0.0] * 3,
        )
