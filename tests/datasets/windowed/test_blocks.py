# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from cmid_mm.datasets.windowed.blocks import NO_PART, assign_blocks


@pytest.mark.parametrize('seed', range(5))
def test_each_part_gets_its_share_of_each_class(seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 1000, (60, 4)) * (rng.random((60, 4)) < [1, 0.8, 0.5, 0.2])
    parts = assign_blocks(counts, (0.7, 0.15, 0.15), seed)
    held = np.stack([counts[parts == part].sum(axis=0) for part in range(3)])
    shares = held / counts.sum(axis=0)
    # The rarer a class among blocks, the sooner it is served.
    expected = np.array([0.7, 0.15, 0.15])[:, None]
    assert (np.abs(shares - expected)[:, :3] < [0.16, 0.12, 0.02]).all()
    assert (held > 0).all()


def test_a_class_in_as_many_blocks_as_there_are_parts_is_in_each():
    counts = np.array([[50, 100], [50, 3], [50, 2]] + [[50, 0]] * 17)
    parts = assign_blocks(counts, (0.8, 0.1, 0.1))
    assert sorted(parts[:3]) == [0, 1, 2]
    assert parts[0] == 0
    assert np.bincount(parts).tolist() == [16, 2, 2]


def test_blocks_without_labels_belong_to_no_part_and_the_seed_decides_the_rest():
    counts = np.ones((40, 1), int)
    counts[5] = 0
    first, again, other = (assign_blocks(counts, (0.5, 0.5), s) for s in (1, 1, 2))
    assert first[5] == NO_PART and (first != NO_PART).sum() == 39
    assert (first == again).all() and (first != other).any()
