# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What holds of all orders of images and all windows that are drawn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmid_mm.datasets.sampler import ResumableSampler
from cmid_mm.datasets.windows import RandomWindows

pytestmark = pytest.mark.properties


@given(st.integers(1, 40), st.integers(1, 4), st.integers(0, 9), st.integers(0, 99))
def test_processes_share_an_epoch_without_overlap(size, processes, epoch, seed):
    images = []
    for rank in range(processes):
        sampler = ResumableSampler(range(size), seed=seed)
        sampler.rank, sampler.world_size = rank, processes
        sampler.set_epoch(epoch)
        keys = list(sampler)
        assert len(keys) == len(sampler)
        images += [key % size for key in keys]
        # What is left of a started epoch is the end of the whole one.
        for start in (1, len(keys)):
            sampler.set_epoch(epoch, start * processes)
            assert list(sampler) == keys[start:]
    assert len(set(images)) == len(images) == size // processes * processes


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=4),
    st.integers(1, 60),
    st.integers(0, 2**32 - 1),
)
def test_windows_lie_within_their_scene(shapes, size, seed):
    rng = np.random.default_rng(seed)
    windows = RandomWindows(shapes, size)
    for _ in range(10):
        scene, (top, left, rows, columns) = windows.draw(rng)
        height, width = shapes[scene]
        assert (rows, columns) == (min(size, height), min(size, width))
        assert 0 <= top <= height - rows and 0 <= left <= width - columns
