# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What holds of all view pairs: their boxes, their cells' places, their masks."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from cmid_mm.datasets.transforms import MaskPair, ViewPair
from cmid_mm.models.heads import location_grid

pytestmark = pytest.mark.properties
SIDES = st.integers(1, 90)
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def ordered(draw, low, high):
    """Two numbers, the lower one first."""
    return tuple(sorted(draw(st.floats(low, high)) for _ in range(2)))


@given(SIDES, SIDES, ordered(0.01, 1.0), ordered(0.2, 5.0), SEEDS)
def test_a_box_lies_within_the_image_and_has_an_area(height, width, area, ratio, seed):
    np.random.seed(seed)
    views = ViewPair(8, area, ratio)
    top, left, rows, columns = views.sample_box(height, width, views.area)
    assert top >= 0 and left >= 0 and rows >= 1 and columns >= 1
    assert top + rows <= height and left + columns <= width


@given(st.integers(40, 90), st.integers(40, 90), st.integers(2, 6), SEEDS)
def test_cells_lie_where_their_pixels_were(height, width, cells, seed):
    """The image holds the place of each pixel, so each view tells where it is from."""
    np.random.seed(seed)
    size = 8 * cells
    places = np.moveaxis(np.indices((height, width)) + 0.5, 0, -1)
    places = np.dstack([places, places[..., :1]]).astype(np.float32)
    views = ViewPair(size, area=(0.4, 1.0), turn=True)
    results = views.transform({'img': places})
    boxes = torch.from_numpy(results['boxes'])
    assert boxes[:, 4].min() >= 0 and boxes[:, 4].max() <= 7
    told = location_grid(boxes, (cells, cells)).unflatten(1, (cells, cells))
    for name, of_view in zip(('org', 'view'), told, strict=True):
        shown = results[name].reshape(cells, 8, cells, 8, 3).mean((1, 3))
        # Pixels at the edges of a crop are repeated when it is enlarged.
        assert np.abs(shown[..., :2] - of_view.numpy()).max() < 1


@given(st.integers(1, 8), st.integers(1, 9), st.floats(0, 1), SEEDS)
def test_a_mask_hides_its_share_of_the_cells(cells, patch, ratio, seed):
    assume(math.ceil(round(ratio * cells**2, 6)) < cells**2)  # something is seen
    np.random.seed(seed)
    mask_pair = MaskPair(cells * patch, patch, ratio)
    masks = mask_pair.transform({})['masks']
    assert masks.shape == (2, cells, cells)
    hidden = masks.sum((1, 2))
    assert hidden[0] == hidden[1]
    # Whole cells, upwards.
    assert -1e-6 <= hidden[0] - ratio * cells**2 < 1
