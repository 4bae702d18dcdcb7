# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from cmid_mm.datasets.transforms import ViewPair
from cmid_mm.models.heads import location_grid


def coordinates(size: int = 64) -> np.ndarray:
    """An image whose pixels say where they are: (row, column, 0)."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    return np.stack((y, x, np.zeros_like(y)), -1)


def test_locations_follow_flips_and_turns():
    np.random.seed(0)
    views = ViewPair(size=32, turn=True)
    seen = set()
    for _ in range(40):
        result = views.transform({'img': coordinates()})
        boxes = torch.from_numpy(result['boxes'])
        grid = location_grid(boxes, (4, 4)).view(2, 4, 4, 2)
        for image, expected in zip((result['org'], result['view']), grid, strict=True):
            cells = image[..., :2].reshape(4, 8, 4, 8, 2).mean((1, 3))
            # Centres of pixels lie half a pixel behind their index.
            np.testing.assert_allclose(cells + 0.5, expected, atol=0.6)
        seen |= set(boxes[:, 4].tolist())
    assert seen == set(range(8))


def test_without_turns_nothing_is_drawn_for_them():
    np.random.seed(0)
    first = ViewPair(size=32).transform({'img': coordinates()})
    after = np.random.random()
    np.random.seed(0)
    ViewPair(size=32, turn=False).transform({'img': coordinates()})
    assert np.random.random() == after
    assert set(first['boxes'][:, 4].tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize('turns', [1, 2, 3])
def test_a_turned_grid_is_the_array_turned(turns):
    boxes = torch.tensor([[3.0, 5.0, 20.0, 30.0, 0.0]])
    plain = location_grid(boxes, (3, 3)).view(3, 3, 2)
    boxes[:, 4] = 2 * turns
    turned = location_grid(boxes, (3, 3)).view(3, 3, 2)
    np.testing.assert_allclose(turned, np.rot90(plain.numpy(), turns))
