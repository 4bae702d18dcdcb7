# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from tests.soak.gauge import BOUNDS, Gauge, rise


def noise(count: int = 100) -> np.ndarray:
    return np.random.default_rng(0).normal(900, 1, count)


def test_noise_and_peaks_are_flat():
    values = noise()
    values[::10] += 300  # a validation each tenth epoch
    assert rise('resident set, MiB', values.tolist()).flat


@pytest.mark.parametrize('where', [slice(None), slice(40, None)])
def test_a_slow_leak_is_not(where):
    leak = np.zeros(100)
    leak[where] = np.linspace(0, 10, len(leak[where]))
    found = rise('resident set, MiB', (noise() + leak).tolist())
    assert not found.flat
    assert found.end > found.begin + 4


def test_one_handle_is_a_rise_but_not_a_single_sample():
    assert not rise('handles', [20] * 30 + [21] * 30 + [22] * 30).flat
    assert rise('handles', [20] * 50 + [24] + [20] * 49).flat


def test_everything_that_is_held_is_seen(tmp_path):
    folders = tmp_path / 'run', tmp_path / 'tmp'
    for folder in folders:
        folder.mkdir()
    gauge = Gauge(*folders)
    gauge.take()
    (folders[1] / 'left').touch()
    (folders[0] / 'iter_2.pth').write_bytes(bytes(4096))
    with open(folders[1] / 'left') as held:
        shared = torch.zeros(2**20).share_memory_()
        objects = [[] for _ in range(10_000)]
        gauge.take()
    before, after = gauge.samples
    assert before.keys() == BOUNDS.keys()
    assert held.closed and len(objects) == 10_000
    assert after['handles'] > before['handles']
    assert after['temporary files'] == 1
    assert after['files of checkpoints'] == 1
    assert after['newest checkpoint, KiB'] == 4
    assert after['objects of Python'] > before['objects of Python'] + 9000
    assert after['shared memory, MiB'] - before['shared memory, MiB'] == pytest.approx(
        shared.nbytes / 2**20, abs=0.1
    )
