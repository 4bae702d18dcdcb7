# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import pytest

from cmid_mm.datasets.sampler import ResumableSampler


@pytest.fixture
def sampler():
    return ResumableSampler(range(11), seed=5)


def test_epoch_is_a_permutation_that_depends_on_seed_and_epoch(sampler):
    first = list(sampler)
    assert sorted(key % 11 for key in first) == list(range(11))
    sampler.set_epoch(1)
    second = list(sampler)
    assert [k % 11 for k in first] != [k % 11 for k in second]
    assert not set(first) & set(second)  # other augmentations of the same images
    assert list(ResumableSampler(range(11), seed=6)) != first
    sampler.set_epoch(0)
    assert list(sampler) == first


def test_start_leaves_out_the_beginning_only(sampler):
    whole = list(sampler)
    sampler.set_epoch(0, start=4)
    assert list(sampler) == whole[4:]
    assert len(sampler) == 11  # the epoch keeps its length


def test_processes_share_the_images_without_overlap(sampler):
    parts = []
    for rank in range(2):
        part = ResumableSampler(range(11), seed=5)
        part.rank, part.world_size = rank, 2
        parts.append(list(part))
    assert len(parts[0]) == len(parts[1]) == 5
    # Two processes see batch by batch the images that one process would.
    assert {*parts[0][:2], *parts[1][:2]} == set(list(sampler)[:4])


def test_without_shuffling_the_order_stays():
    assert [k % 4 for k in ResumableSampler(range(4), shuffle=False)] == [0, 1, 2, 3]
