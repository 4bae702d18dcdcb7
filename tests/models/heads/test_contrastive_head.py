# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch
import torch.nn.functional as F

from cmid_mm.models.heads import BYOLHead, MoCoHead, PairedViews, info_nce


def pair_of(student, teacher):
    nothing = (torch.zeros(1), torch.zeros(1))
    return PairedViews(nothing, nothing, nothing, student, teacher)


def test_info_nce_matches_vectors(vectors):
    data = vectors('contrast')
    loss = info_nce(
        data['query'], data['key'], data['queue'], data['temperature'].item()
    )
    torch.testing.assert_close(loss.double(), data['loss'], rtol=1e-5, atol=0)


def test_info_nce_gradient_is_numerically_right():
    query = F.normalize(torch.randn(3, 5, dtype=torch.double), dim=1).requires_grad_()
    key = F.normalize(torch.randn(3, 5, dtype=torch.double), dim=1)
    queue = F.normalize(torch.randn(5, 7, dtype=torch.double), dim=0)

    info_nce(query, key, queue, 0.2).backward()
    logits = torch.cat(((query * key).sum(1, keepdim=True), query @ queue), 1) / 0.2
    probability = logits.softmax(1)
    expected = ((probability[:, :1] - 1) * key + probability[:, 1:] @ queue.t()) / (
        0.2 * 3
    )
    torch.testing.assert_close(query.grad, expected, rtol=1e-4, atol=1e-6)


@pytest.fixture
def head():
    return MoCoHead(6, hidden_channels=8, out_channels=4, queue_size=10)


def test_queue_starts_with_unit_vectors(head):
    torch.testing.assert_close(head.queue.norm(dim=0), torch.ones(10))


def test_queue_wraps_around(head):
    before = head.queue.clone()
    first = F.normalize(torch.randn(7, 4), dim=1)
    second = F.normalize(torch.randn(7, 4), dim=1)
    head.enqueue(first)
    assert head.queue_ptr.tolist() == [7]
    torch.testing.assert_close(head.queue[:, 7:], before[:, 7:])
    head.enqueue(second)
    assert head.queue_ptr.tolist() == [4]
    torch.testing.assert_close(head.queue[:, 7:], second[:3].t())
    torch.testing.assert_close(head.queue[:, :4], second[3:].t())
    torch.testing.assert_close(head.queue[:, 4:7], first[4:].t())


def test_batch_larger_than_the_queue_leaves_the_newest_keys(head):
    keys = F.normalize(torch.randn(23, 4), dim=1)
    head.enqueue(keys)
    assert head.queue_ptr.tolist() == [3]
    # Key i stands at i modulo 10.
    torch.testing.assert_close(head.queue[:, :3], keys[20:23].t())
    torch.testing.assert_close(head.queue[:, 3:], keys[13:20].t())


def test_loss_is_symmetric_and_uses_the_queue_before_the_step(head):
    student = tuple(torch.randn(3, 6, 2, 2) for _ in range(2))
    teacher = tuple(torch.randn(3, 6, 2, 2) for _ in range(2))
    queue = head.queue.clone()

    def project(projector, features):
        return F.normalize(projector(features.mean((2, 3))), dim=1)

    queries = [project(head.student_projector, x) for x in student]
    keys = [project(head.teacher_projector, x) for x in teacher]
    expected = 0.5 * (
        info_nce(queries[0], keys[1], queue, 0.2)
        + info_nce(queries[1], keys[0], queue, 0.2)
    )
    loss = head.loss(pair_of(student, teacher))['loss_contrastive']
    torch.testing.assert_close(loss, expected)
    # The keys of the second view enter first.
    torch.testing.assert_close(head.queue[:, :3], keys[1].t())
    torch.testing.assert_close(head.queue[:, 3:6], keys[0].t())
    loss.backward()  # the enqueued keys do not disturb the graph
    assert all(p.grad is not None for p in head.student_projector.parameters())
    assert all(p.grad is None for p in head.teacher_projector.parameters())


def test_byol_loss_is_two_minus_two_cosines():
    head = BYOLHead(6, hidden_channels=8, out_channels=4)
    student = tuple(torch.randn(5, 6, 2, 2) for _ in range(2))
    teacher = tuple(torch.randn(5, 6, 2, 2) for _ in range(2))
    loss = head.loss(pair_of(student, teacher))['loss_contrastive']
    expected = 0.0
    for query, key in ((0, 1), (1, 0)):
        projected = head.student_projector(student[query].mean((2, 3)))
        cosine = F.cosine_similarity(
            head.predictor(projected),
            head.teacher_projector(teacher[key].mean((2, 3))),
        )
        expected += 0.5 * (2 - 2 * cosine).mean()
    torch.testing.assert_close(loss, expected)
