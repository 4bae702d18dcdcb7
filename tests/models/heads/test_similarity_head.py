# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch
import torch.nn.functional as F

from cmid_mm.models.heads import PairedViews, PatchSimilarityHead
from cmid_mm.models.heads.similarity_head import similarities


def pair_of(student, teacher, boxes):
    nothing = (torch.zeros(1), torch.zeros(1))
    return PairedViews(nothing, nothing, boxes, student, teacher)


@pytest.fixture
def head():
    torch.manual_seed(0)
    return PatchSimilarityHead(6, 8, 4, num_matches=4, batch_norm=False)


def test_similarities_leave_a_cell_itself_out():
    vectors = F.normalize(torch.randn(5, 3), dim=1)
    cosines = vectors @ vectors.T
    found = similarities(vectors)
    assert found.shape == (5, 4)
    torch.testing.assert_close(found[2], cosines[2, [0, 1, 3, 4]])


def test_similarities_are_float32_under_autocast():
    torch.manual_seed(0)
    vectors = F.normalize(1 + 0.02 * torch.randn(16, 8), dim=1)
    with torch.autocast('cpu', torch.bfloat16):
        found = similarities(vectors)
    torch.testing.assert_close(found, similarities(vectors), rtol=0, atol=0)


def test_loss_by_hand(head):
    """Same crops: each cell's match is itself, in both directions."""
    whole = torch.tensor([[0.0, 0, 64, 64, 0]])
    student, teacher = torch.randn(1, 6, 2, 2), torch.randn(1, 6, 2, 2)
    pair = pair_of((student, student), (teacher, teacher), (whole, whole))
    s = F.normalize(head.student_projector(student.flatten(2).mT[0]), dim=1)
    t = F.normalize(head.teacher_projector(teacher.flatten(2).mT[0]), dim=1)
    expected = 0
    for i in range(4):
        rest = [j for j in range(4) if j != i]
        target = ((t[rest] @ t[i]) / 0.05).softmax(0)
        expected -= (target * ((s[rest] @ s[i]) / 0.1).log_softmax(0)).sum() / 4
    torch.testing.assert_close(head.loss(pair)['loss_similarity'], expected)


def test_a_turned_view_has_the_same_relations(head):
    """The teacher's view is the student's, turned: its cells are matched back."""
    boxes = torch.tensor([[0.0, 0, 64, 64, 0]]), torch.tensor([[0.0, 0, 64, 64, 2]])
    maps = torch.randn(1, 6, 4, 4)
    turned = maps.rot90(1, (2, 3))
    head.num_matches = 16
    same = head.loss(pair_of((maps, maps), (maps, maps), boxes[:1] * 2))
    matched = head.loss(pair_of((maps, turned), (maps, turned), boxes))
    torch.testing.assert_close(matched['loss_similarity'], same['loss_similarity'])
    wrong = head.loss(pair_of((maps, turned), (maps, turned), boxes[:1] * 2))
    assert wrong['loss_similarity'] > same['loss_similarity'] + 0.01


def test_gradients_reach_the_student_alone(head):
    box = torch.tensor([[0.0, 0, 64, 64, 0]] * 2)
    student = torch.randn(2, 6, 2, 2, requires_grad=True)
    teacher = torch.randn(2, 6, 2, 2, requires_grad=True)
    pair = pair_of((student, student), (teacher, teacher), (box, box))
    head.loss(pair)['loss_similarity'].backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None
    assert all(p.grad is None for p in head.teacher_projector.parameters())
