# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What holds of all matches of cells and all queues."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cmid_mm.models.heads import location_grid, match_cells
from cmid_mm.models.heads.assignment_head import on_same_ground
from cmid_mm.models.heads.contrastive_head import replace_oldest

pytestmark = pytest.mark.properties
SEEDS = st.integers(0, 2**31)


def random_boxes(batch: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(batch, 5, generator=generator) * 60 + 4
    boxes[:, 4] = torch.randint(0, 8, (batch,), generator=generator)
    return boxes


@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), SEEDS)
def test_cells_fill_their_box_evenly(batch, rows, columns, seed):
    boxes = random_boxes(batch, seed)
    if rows != columns:
        boxes[:, 4] %= 2  # crops that are turned are square
    places = location_grid(boxes, (rows, columns))
    low, high = places.amin(1), places.amax(1)
    assert torch.allclose((low + high) / 2, boxes[:, :2] + boxes[:, 2:4] / 2, atol=1e-3)
    steps = boxes[:, 2:4] / torch.tensor([rows, columns])
    assert torch.allclose(high - low, boxes[:, 2:4] - steps, atol=1e-3)
    for image in places:
        assert len(image.unique(dim=0)) == rows * columns


@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 30), SEEDS, SEEDS)
def test_the_closest_pairs_are_kept(batch, cells, number, seed, other):
    boxes = random_boxes(batch, seed), random_boxes(batch, other)
    grid = cells, cells
    query, key = (location_grid(box, grid) for box in boxes)
    own, theirs = match_cells(query, key, number)
    kept = min(number, cells**2)
    assert own.shape == theirs.shape == (batch, kept)
    distance = torch.cdist(query, key, compute_mode='donot_use_mm_for_euclid_dist')
    for image in range(batch):
        chosen = own[image].tolist()
        assert chosen == sorted(set(chosen))
        nearest = distance[image].amin(1)
        found = distance[image][own[image], theirs[image]]
        assert torch.allclose(found, nearest[own[image]], atol=1e-3)
        rest = nearest[[i for i in range(cells**2) if i not in chosen]]
        assert not len(rest) or rest.min() >= found.max() - 1e-3


@given(st.integers(1, 6), SEEDS)
def test_a_view_matches_itself(cells, seed):
    boxes = random_boxes(2, seed)
    places = location_grid(boxes, (cells, cells))
    own, theirs = match_cells(places, places, cells**2)
    assert torch.equal(own, theirs)
    assert on_same_ground(boxes, boxes, (cells, cells), own, theirs).all()


@given(st.integers(1, 9), st.lists(st.integers(1, 20), min_size=1, max_size=6))
def test_a_queue_holds_the_latest_keys(size, batches):
    """Each key is a number of its own; 0 is what the queue began with."""
    queue, pointer = torch.zeros(2, size), torch.zeros(1, dtype=torch.long)
    count = 0
    for batch in batches:
        keys = torch.arange(count + 1, count + batch + 1).float()
        replace_oldest(queue, pointer, torch.stack((keys, -keys), 1))
        count += batch
        latest = range(max(count - size, 0) + 1, count + 1)
        held = sorted(queue[0][queue[0] > 0].tolist())
        assert held == [*latest]
        assert torch.equal(queue[0], -queue[1])
        # The next to go is the oldest.
        oldest = queue[0, pointer.item()].item()
        assert oldest == (0 if count < size else latest[0])
