# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What leads from the method's contrast to SimCLR's, step by step."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from cmid_mm.models.heads import MoCoHead, PairedViews
from cmid_mm.models.heads.contrastive_head import info_nce, unit


def pair_of(student, teacher=None, epoch=0):
    nothing = (torch.zeros(1), torch.zeros(1))
    return PairedViews(nothing, nothing, nothing, student, teacher, epoch)


def maps(count=4, width=6):
    return torch.randn(count, width, 3, 3)


def head(**options):
    torch.manual_seed(0)
    sizes = dict(in_channels=6, hidden_channels=8, out_channels=4)
    return MoCoHead(**{**sizes, 'queue_size': 0, **options})


def test_student_keys_in_the_batch_are_simclr():
    mine = head(in_batch=True, teacher_keys_from=None, temperature=0.1)
    views = maps(), maps()
    loss = mine.loss(pair_of(views))['loss_contrastive']

    z = unit(mine.project(mine.student_projector, views))
    # NT-Xent of Chen et al. 2020, written out: all other 2B - 1 are candidates.
    logits = (z @ z.T / 0.1).masked_fill(torch.eye(8, dtype=torch.bool), -torch.inf)
    # Of the image itself only the other view remains.
    positive = torch.arange(8).roll(4)
    torch.testing.assert_close(loss, F.cross_entropy(logits, positive))


def test_gradients_flow_through_both_sides_only_with_student_keys():
    own = head(in_batch=True, teacher_keys_from=None)
    org, view = maps().requires_grad_(), maps()
    own.loss(pair_of((org, view)))['loss_contrastive'].backward()
    assert org.grad.abs().sum() > 0
    assert not own.uses_teacher
    assert list(own.teacher_pairs()) == []

    taught = head(in_batch=True)
    teacher = maps().requires_grad_(), maps().requires_grad_()
    taught.loss(pair_of((maps(), maps()), teacher))['loss_contrastive'].backward()
    assert all(features.grad is None for features in teacher)


def test_keys_change_hands_at_an_epoch():
    switching = head(in_batch=True, teacher_keys_from=3)
    student, teacher = (maps(), maps()), (maps(), maps())
    before, after = (
        switching.loss(pair_of(student, teacher, epoch))['loss_contrastive']
        for epoch in (2, 3)
    )
    always, never = (
        head(in_batch=True, teacher_keys_from=start) for start in (0, None)
    )
    never.load_state_dict(switching.state_dict(), strict=False)
    always.load_state_dict(switching.state_dict())
    assert before == never.loss(pair_of(student))['loss_contrastive']
    assert after == always.loss(pair_of(student, teacher))['loss_contrastive']
    assert before != after


def test_decoupled_leaves_the_positive_out_of_the_sum():
    query, key = (F.normalize(torch.randn(3, 5), dim=1) for _ in range(2))
    queue = F.normalize(torch.randn(5, 7), dim=0)
    loss = info_nce(query, key, queue, 0.2, decoupled=True)
    positive = (query * key).sum(1) / 0.2
    negative = (query @ queue / 0.2).exp().sum(1).log()
    torch.testing.assert_close(loss, (negative - positive).mean())


def test_queue_and_batch_are_negatives_together():
    both = head(in_batch=True, queue_size=9)
    query, key = (F.normalize(torch.randn(4, 4), dim=1) for _ in range(2))
    others = torch.randn(4, 4)
    loss = info_nce(query, key, both.queue, 0.2, others)
    logits = torch.cat(((query * key).sum(1, True), query @ both.queue, others), 1)
    target = torch.zeros(4, dtype=torch.long)
    torch.testing.assert_close(loss, F.cross_entropy(logits / 0.2, target))


def test_norm_takes_both_views_as_one_batch():
    normed = head(in_batch=True, projector_norm=True, teacher_keys_from=None)
    views = maps(), maps() + 3
    projected = normed.project(normed.student_projector, views)
    torch.testing.assert_close(projected.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    assert projected[:4].mean().abs() > 1e-3


def test_the_predictor_stands_before_queries_alone():
    predicting = head(in_batch=True, predictor=True, teacher_keys_from=None)
    views = maps(), maps()
    loss = predicting.loss(pair_of(views))['loss_contrastive']
    projected = predicting.project(predicting.student_projector, views)
    query, key = unit(predicting.predictor(projected)), unit(projected)
    logits = query @ key.T / 0.2
    logits = logits.masked_fill(torch.eye(8, dtype=torch.bool), -torch.inf)
    expected = F.cross_entropy(logits, torch.arange(8).roll(4))
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(), 'leave no negatives'),
        (dict(queue_size=8, teacher_keys_from=None), 'queue_size=8 without keys'),
    ],
)
def test_contradictions_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        head(**options)


def test_crops_are_contrasted_with_both_views_of_their_images():
    mine = head(in_batch=True, teacher_keys_from=None, temperature=0.1)
    org, view = maps().requires_grad_(), maps().requires_grad_()
    crops = torch.randn(2, 4, 6, 2, 2).requires_grad_()
    pair = replace(pair_of((org, view)), crops=list(crops))
    losses = mine.loss(pair)
    without = mine.loss(pair_of((org, view)))
    torch.testing.assert_close(losses['loss_contrastive'], without['loss_contrastive'])

    keys = unit(mine.project(mine.student_projector, (org, view)))  # org, then view
    wanted = []
    for query in unit(mine.project(mine.student_projector, crops)).chunk(2):
        for key in keys.chunk(2):
            others = torch.eye(4, dtype=torch.bool).logical_not().repeat(1, 2)
            own = (query * key).sum(1, keepdim=True)
            negatives = (query @ keys.T)[others].view(4, 6)
            logits = torch.cat((own, negatives), 1) / 0.1
            wanted.append(F.cross_entropy(logits, torch.zeros(4, dtype=torch.long)))
    torch.testing.assert_close(losses['loss_crops'], torch.stack(wanted).mean())

    losses['loss_crops'].backward()
    assert crops.grad.abs().sum() > 0
    assert org.grad is None and view.grad is None  # crops follow the views
