# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from cmid_mm.models.heads import AssignmentHead, PairedViews, location_grid, match_cells
from cmid_mm.models.heads.assignment_head import PrototypeHead, select


@pytest.mark.parametrize('case', [0, 1, 2])
def test_location_grid_matches_vectors(vectors, case):
    data = vectors('location_grid')
    height, width, top, left, flip = data[f'case{case}'].float()
    box = torch.stack((top, left, height, width, flip))[None]
    grid = location_grid(box, (7, 7)).view(7, 7, 2)
    torch.testing.assert_close(grid, data[f'grid{case}'], rtol=1e-5, atol=1e-5)


def test_location_grid_of_a_flipped_crop():
    box = torch.tensor([[10.0, 20.0, 40.0, 60.0, 1.0]])
    grid = location_grid(box, (2, 3))[0]
    expected = [[20, 70], [20, 50], [20, 30], [40, 70], [40, 50], [40, 30]]
    torch.testing.assert_close(grid, torch.tensor(expected).float())


def test_matches_match_vectors(vectors):
    data = vectors('position_match')
    query, key, _ = match_cells(
        data['query_location'], data['key_location'], data['num_matches'].item()
    )
    matched = select(data['query_feature'], query)
    torch.testing.assert_close(matched, data['matched_query'], rtol=0, atol=0)
    matched = select(data['key_feature'], key)
    torch.testing.assert_close(matched, data['matched_key'], rtol=0, atol=0)


def test_matching_a_crop_with_its_flip_finds_the_same_ground():
    box = torch.tensor([[0.0, 0.0, 70.0, 70.0, 0.0]])
    flipped = box.clone()
    flipped[0, 4] = 1
    grid = (7, 7)
    query, key, distance = match_cells(
        location_grid(box, grid), location_grid(flipped, grid), 100
    )
    assert query.tolist() == [list(range(49))]
    columns = torch.arange(49) % 7
    assert key[0].tolist() == (torch.arange(49) - columns + 6 - columns).tolist()
    assert distance.max() < 1e-4


def test_prototype_head_matches_vectors(vectors):
    data = vectors('prototype_head')
    head = PrototypeHead(12, 24, 8, 32)
    state = {}
    for name, value in data.items():
        if name.startswith('state/'):
            name = name.removeprefix('state/')
            name = name.replace('last_layer', 'prototypes')
            name = name.replace('weight_g', 'parametrizations.weight.original0')
            name = name.replace('weight_v', 'parametrizations.weight.original1')
            state[name] = value.squeeze(-1) if value.ndim == 3 else value
    missing = head.load_state_dict(state, strict=False).missing_keys
    assert all('running' in name or 'num_batches' in name for name in missing)
    output = head.train()(data['input'].transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(output, data['output'], rtol=1e-5, atol=1e-6)


def test_prototype_gain_is_fixed():
    head = PrototypeHead(4, 8, 4, 6)
    trained = {name for name, p in head.named_parameters() if p.requires_grad}
    assert 'prototypes.parametrizations.weight.original1' in trained
    assert 'prototypes.parametrizations.weight.original0' not in trained
    torch.testing.assert_close(head.prototypes.weight.norm(dim=1), torch.ones(6))


def test_assignment_matches_vectors(vectors):
    data = vectors('local_assignment')
    head = AssignmentHead(4, 8, 4, num_prototypes=32)
    head.center.copy_(data['center_before'].flatten())
    temperature = head.temperature_at(data['epoch'].item())
    student = data['student_1'].requires_grad_()
    for term, student_scores in (('1', student), ('2', data['student_2'])):
        teacher_scores = data[f'teacher_{term}'].transpose(1, 2)
        target = head.assign(teacher_scores, temperature)
        loss = head.cross_entropy(student_scores.transpose(1, 2), target)
        head.update_center(teacher_scores)
        torch.testing.assert_close(
            loss.double(), data[f'loss_{term}'], rtol=1e-5, atol=0
        )
        torch.testing.assert_close(
            head.center, data[f'center_after_{term}'].flatten(), rtol=1e-5, atol=1e-7
        )
        if term == '1':
            loss.backward()
    scale = data['grad_student_1'].abs().max()
    torch.testing.assert_close(
        student.grad / scale, data['grad_student_1'] / scale, rtol=1e-5, atol=1e-6
    )


def test_temperature_schedule_matches_vectors(vectors):
    schedule = vectors('local_assignment')['temperature_schedule']
    head = AssignmentHead(4, 8, 4, 6)
    values = torch.tensor([head.temperature_at(epoch) for epoch in range(200)])
    torch.testing.assert_close(values.double(), schedule, rtol=1e-5, atol=0)


def view_pair(boxes, size=64):
    features = tuple(torch.randn(3, 4, 4, 4) for _ in range(2))
    images = tuple(torch.zeros(3, 3, size, size) for _ in range(2))
    return PairedViews(images, images, boxes, features, features, epoch=0)


def test_legacy_locations_drop_the_offset_and_match_other_ground():
    # Two crops far apart: in pixels only their facing edges are near each other;
    # with offsets as fractions the crops seem to lie on top of each other.
    boxes = torch.tensor([[0.0, 0.0, 32.0, 32.0, 0.0], [32.0, 32.0, 32.0, 32.0, 0.0]])
    boxes = tuple(box.expand(3, 5) for box in boxes)
    kwargs = dict(
        in_channels=4,
        hidden_channels=8,
        bottleneck_channels=4,
        num_prototypes=6,
        num_matches=5,
    )
    pixel = AssignmentHead(**kwargs).loss(view_pair(boxes))
    legacy = AssignmentHead(location='legacy', **kwargs).loss(view_pair(boxes))
    # The facing corner cells are 11 px apart, beyond half a stride (8 px).
    assert pixel['matched_within_half_stride'] == 0
    assert legacy['matched_within_half_stride'] == 0
    same = tuple(boxes[0].clone() for _ in range(2))
    assert (
        AssignmentHead(**kwargs).loss(view_pair(same))['matched_within_half_stride']
        == 1
    )
    # A shift of half the image: pixel locations know it, legacy ones do not.
    shifted = (boxes[0], boxes[0] + torch.tensor([0.0, 16.0, 0.0, 0.0, 0.0]))
    assert (
        AssignmentHead(**kwargs).loss(view_pair(shifted))['matched_within_half_stride']
        == 1
    )
    assert (
        AssignmentHead(location='legacy', **kwargs).loss(view_pair(shifted))[
            'matched_within_half_stride'
        ]
        == 0
    )


def test_unknown_location_is_refused():
    with pytest.raises(ValueError, match="'pixel' or 'legacy'"):
        AssignmentHead(4, location='fraction')
