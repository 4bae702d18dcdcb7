# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch
import torch.nn.functional as F
from mmengine.logging import MessageHub
from mmpretrain.models.losses import SwAVLoss
from mmpretrain.models.losses.swav_loss import distributed_sinkhorn

from cmid_mm.models.losses import QueuedSwAVLoss, sinkhorn

DIM, PROTOTYPES, BATCH = 8, 6, 4
ARGS = dict(feat_dim=DIM, num_prototypes=PROTOTYPES)


def features(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(2 * BATCH, DIM, generator=generator), dim=1)


def at_epoch(epoch: int) -> None:
    MessageHub.get_current_instance().update_info('epoch', epoch)


def test_sinkhorn_is_mmpretrains():
    scores = torch.rand(20, 7) * 2 - 1
    expected = distributed_sinkhorn(scores, 3, 1, 0.05)
    torch.testing.assert_close(sinkhorn(scores, 0.05, 3), expected)


def test_sinkhorn_balances():
    codes = sinkhorn(torch.rand(20, 5), 0.5, 50)
    torch.testing.assert_close(codes.sum(1), torch.ones(20))
    torch.testing.assert_close(codes.sum(0), torch.full((5,), 4.0))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_sinkhorn_of_low_precision_and_small_epsilon(dtype):
    scores = torch.rand(12, 5).to(dtype)
    if dtype == torch.float16:
        assert not distributed_sinkhorn(scores, 3, 1, 0.005).isfinite().all()
    expected = sinkhorn(scores.float(), 0.005, 3)
    torch.testing.assert_close(sinkhorn(scores, 0.005, 3), expected)
    assert expected.isfinite().all()


def test_autocast_does_not_lower_the_precision():
    loss = QueuedSwAVLoss(**ARGS)
    expected = loss(features(0))
    with torch.autocast('cpu', torch.bfloat16):
        value = loss(features(0))
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)


def test_queue_works_as_mmpretrains():
    """mmpretrain's hook makes its queue at the start epoch; here it is just there."""
    length = 3 * BATCH
    mine = QueuedSwAVLoss(**ARGS, queue_length=length, queue_start_epoch=2)
    theirs = SwAVLoss(**ARGS)
    theirs.load_state_dict(mine.state_dict(), strict=False)
    for step in range(8):
        at_epoch(step)
        if step == 2:
            theirs.queue = torch.zeros(2, length, DIM)
        value, expected = mine(features(step)), theirs(features(step))
        torch.testing.assert_close(value, expected)
        full = theirs.use_queue
        assert full == (step > 4)
    assert torch.equal(mine.feature_queue, theirs.queue)


def test_queue_of_any_length_keeps_the_newest():
    loss = QueuedSwAVLoss(**ARGS, queue_length=6, queue_start_epoch=0)
    for step in range(3):
        loss(features(step))
    newest = torch.cat((features(2)[:BATCH], features(1)[:2]))
    assert torch.equal(loss.feature_queue[0], newest)


def test_queue_and_prototypes_are_in_the_state():
    first = QueuedSwAVLoss(**ARGS, queue_length=6, queue_start_epoch=0)
    for step in range(3):
        first(features(step))
    second = QueuedSwAVLoss(**ARGS, queue_length=6, queue_start_epoch=0)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(features(5)), second(features(5)))
    without = QueuedSwAVLoss(**ARGS)
    without.load_state_dict(
        {k: v for k, v in first.state_dict().items() if 'queue' not in k}, strict=False
    )
    assert not torch.equal(first(features(6)), without(features(6)))


def test_prototypes_are_frozen_first():
    loss = QueuedSwAVLoss(**ARGS, frozen_epochs=1)
    gradients = []
    for epoch in (0, 1):
        at_epoch(epoch)
        loss.zero_grad()
        x = features(0).requires_grad_()
        loss(x).backward()
        assert x.grad.abs().max() > 0
        gradients.append(loss.prototypes.weight.grad)
    assert gradients[0].abs().max() == 0
    assert gradients[1].abs().max() > 0
