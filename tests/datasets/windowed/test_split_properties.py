# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What holds of all divisions of the ground."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmid_mm.datasets.windowed.blocks import NO_PART, assign_blocks
from cmid_mm.datasets.windowed.splits import _lay_out

pytestmark = pytest.mark.properties
SEEDS = st.integers(0, 2**32 - 1)


@given(st.integers(1, 3), st.floats(60, 400), st.floats(0, 4), SEEDS)
def test_blocks_lie_apart_by_the_guard_within_the_ground(scenes, side, guard, seed):
    rng = np.random.default_rng(seed)
    low = rng.uniform(-500, 500, (scenes, 2))
    outlines = np.concatenate([low, low + rng.uniform(10, 300, (scenes, 2))], 1)
    blocks = np.array(_lay_out(outlines, side, guard))
    left, bottom, right, top = blocks.T
    assert (right > left).all() and (top > bottom).all()
    assert left.min() == outlines[:, 0].min() and right.max() == outlines[:, 2].max()
    assert bottom.min() == outlines[:, 1].min() and top.max() == outlines[:, 3].max()
    for index, one in enumerate(blocks):
        others = np.delete(blocks, index, 0)
        gaps = np.maximum(one[:2] - others[:, 2:], others[:, :2] - one[2:])
        assert (gaps.max(1) >= guard - 1e-6).all()


@given(st.integers(1, 12), st.integers(1, 4), st.integers(2, 3), SEEDS)
def test_each_labelled_block_has_one_part(blocks, classes, parts, seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 50, (blocks, classes)) * rng.integers(0, 2, (blocks, 1))
    shares = rng.dirichlet(np.full(parts, 3.0))
    found = assign_blocks(counts, list(shares), seed)
    labelled = counts.any(1)
    assert (found[~labelled] == NO_PART).all()
    assert ((found[labelled] >= 0) & (found[labelled] < parts)).all()
    assert (found == assign_blocks(counts, list(shares), seed)).all()
    # No part is empty while another has several blocks of one class.
    if classes == 1 and labelled.sum() >= parts:
        assert set(found[labelled]) == set(range(parts))
