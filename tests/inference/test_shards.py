# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import pytest

from cmid_mm.inference.shards import Shard


@pytest.mark.parametrize('text', ['4/3', '0/3', '3', '-1/3', '1/0', 'a/b', '1/3/5'])
def test_what_is_no_shard(text):
    with pytest.raises(ValueError, match=rf'shard {text}: expected .* from 1/3 to 3/3'):
        Shard.parse(text)


def test_torchrun_divides_further():
    assert Shard.parse('2/3') == (2, 3)
    started = dict(TORCHELASTIC_RUN_ID='none', RANK='3', WORLD_SIZE='4')
    assert Shard().within(started) == (4, 4)
    assert Shard(2, 3).within(started) == (8, 12)
    # Schedulers set the like for other purposes.
    assert Shard(2, 3).within(dict(RANK='3', WORLD_SIZE='4')) == (2, 3)


@pytest.mark.parametrize('count', [1, 2, 3, 16, 50])
@pytest.mark.parametrize(
    'weights',
    [
        [[7] * 12],
        [[1]] * 40,
        [[1], [1], [30] * 9, [1], [], [5, 5]],
        [[1], [1]],
    ],
)
def test_each_strip_falls_to_one_shard(weights, count):
    shares = [Shard(number, count).shares(weights) for number in range(1, count + 1)]
    for image, strips in enumerate(weights):
        owned = [strip for share in shares for strip in share[image]]
        assert owned == list(range(len(strips)))


def test_shares_are_even():
    weights = [[1]] * 5 + [[10] * 20] + [[1]] * 5
    loads = [
        sum(
            weights[image][strip]
            for image, strips in enumerate(Shard(number, 4).shares(weights))
            for strip in strips
        )
        for number in range(1, 5)
    ]
    assert max(loads) - min(loads) <= 10
