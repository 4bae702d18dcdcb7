# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
import torch

from cmid_mm.datasets.transforms import ViewPair as CropPair
from cmid_mm.models.heads import AssignmentHead, PairedViews, location_grid, match_cells
from cmid_mm.models.heads.assignment_head import (
    PrototypeHead,
    on_same_ground,
    select,
    share_used,
)


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
    query, key = match_cells(
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
    query, key = match_cells(
        location_grid(box, grid), location_grid(flipped, grid), 100
    )
    assert query.tolist() == [list(range(49))]
    columns = torch.arange(49) % 7
    assert key[0].tolist() == (torch.arange(49) - columns + 6 - columns).tolist()
    assert on_same_ground(box, flipped, grid, query, key).all()
    # Unflipped, only the middle column is where it was.
    query = torch.arange(49)[None]
    same = on_same_ground(box, flipped, grid, query, query)
    assert same.sum() == 7 and same.view(7, 7)[:, 3].all()


def crop(top, left, height, width):
    return torch.tensor([[top, left, height, width, 0.0]])


@pytest.mark.parametrize('scale', [1, 3])
def test_half_a_stride_is_what_half_a_cell_covers(scale):
    # Cells of 10 x 20 pixels, on images of any size.
    cells = torch.arange(8)[None]
    one = crop(0, 0, 20, 80)
    for shift, expected in (((4.9, 0), 1), ((5.1, 0), 0), ((0, 9.9), 1), ((0, 10.1), 0),
                            ((4.9, 9.9), 1)):  # fmt: skip
        other = crop(*shift, 20, 80)
        same = on_same_ground(scale * one, scale * other, (2, 4), cells, cells)
        assert same.tolist() == [[bool(expected)] * 8]


def test_the_coarser_crop_decides_of_half_a_stride():
    first = torch.tensor([[0]])
    # Centres at (5, 5) and (20, 20) on cells of 10 and 40 pixels: 15 apart.
    near = on_same_ground(crop(0, 0, 20, 20), crop(0, 0, 80, 80), (2, 2), first, first)
    assert near.item()
    near = on_same_ground(crop(0, 0, 80, 80), crop(0, 0, 20, 20), (2, 2), first, first)
    assert near.item()
    near = on_same_ground(crop(0, 0, 20, 20), crop(15, 0, 20, 20), (2, 2), first, first)
    assert not near.item()


@pytest.mark.parametrize(
    'loaded, size, cells, matches',
    [(96, 96, 3, 4), (192, 96, 3, 4), (320, 224, 7, 20), ((400, 600), 224, 7, 20)],
)
def test_share_on_the_same_ground_does_not_depend_on_the_loaded_size(
    loaded, size, cells, matches
):
    np.random.seed(0)
    height, width = (loaded, loaded) if isinstance(loaded, int) else loaded
    image = np.zeros((height, width, 1), np.uint8)
    crops = [CropPair(size)({'img': image})['boxes'] for _ in range(300)]
    org, view = torch.from_numpy(np.stack(crops)).unbind(1)
    head = AssignmentHead(4, 8, 4, 6, num_matches=matches)
    share = head.match(org, view, (cells, cells), (size, size))[2].float().mean()
    assert share > (0.985 if height == width else 0.96)
    legacy = AssignmentHead(4, 8, 4, 6, num_matches=matches, location='legacy')
    share = legacy.match(org, view, (cells, cells), (size, size))[2].float().mean()
    assert share < (0.55 if cells == 3 else 0.2)


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


def test_given_temperatures_and_momentum():
    given = dict(student_temperature=0.5, teacher_temperature=(0.1, 0.3))
    given |= dict(temperature_epochs=3, center_momentum=0.75)
    head = AssignmentHead(4, 8, 4, num_prototypes=2, **given)
    rises = [head.temperature_at(epoch) for epoch in range(4)]
    assert rises == pytest.approx([0.1, 0.2, 0.3, 0.3])
    head.update_center(torch.tensor([[[4.0, 8.0]]]))
    assert head.center.tolist() == [1.0, 2.0]
    # Log-softmax of the scores (0.5, 0) over 0.5 is that of (1, 0).
    loss = head.cross_entropy(torch.tensor([[[0.5, 0.0]]]), torch.tensor([1.0, 0.0]))
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1)))


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
    # The facing corner cells are 8 px apart each way, beyond half a stride (4 px).
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


def test_log_of_same_ground_is_the_same_on_larger_images():
    # The second crop begins two fifths of a cell further down: of 8 pixels, or of 24.
    head = AssignmentHead(4, 8, 4, num_prototypes=6, num_matches=5)
    for scale in (1.0, 3.0):
        org = scale * torch.tensor([[0.0, 0.0, 32.0, 32.0, 0.0]]).expand(3, 5)
        view = scale * torch.tensor([[3.2, 0.0, 32.0, 32.0, 0.0]]).expand(3, 5)
        pair = view_pair((org, view), size=32)
        assert head.loss(pair)['matched_within_half_stride'] == 1


def test_unknown_location_is_refused():
    with pytest.raises(ValueError, match="'pixel' or 'legacy'"):
        AssignmentHead(4, location='fraction')


def test_share_of_prototypes_in_use():
    first = torch.tensor([0, 0, 3, 3, 3, 5])
    assignments = torch.nn.functional.one_hot(first, 8).float().view(2, 3, 8)
    assert share_used(assignments) == pytest.approx(3 / 6)
    assert share_used(assignments[:1, :, :4]) == pytest.approx(2 / 3)
    assert share_used(assignments.repeat(4, 1, 1)) == pytest.approx(3 / 8)
