# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import resource
from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MessageHub

from cmid_mm.engine.hooks import throughput_hook as module
from cmid_mm.engine.hooks.throughput_hook import ThroughputHook


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(module.time, 'perf_counter', lambda: now.seconds)
    return now


@pytest.fixture
def runner(request):
    hub = MessageHub.get_instance(f'throughput_{request.node.name}')
    return SimpleNamespace(message_hub=hub)


def rates(runner):
    scalars = runner.message_hub.log_scalars
    if 'train/images_per_s' not in scalars:
        return []
    return scalars['train/images_per_s'].data[0].tolist()


def run_epoch(hook, runner, clock, durations, batch):
    hook.before_train_epoch(runner)
    for batch_idx, seconds in enumerate(durations):
        clock.seconds += seconds
        hook.after_train_iter(runner, batch_idx, batch)


def test_rate_is_averaged_over_the_last_iterations(clock, runner):
    hook = ThroughputHook(window=2)
    batch = dict(inputs=torch.zeros(8, 2, 3, 4, 4))
    run_epoch(hook, runner, clock, [1, 3, 1, 1, 0.5], batch)
    assert rates(runner) == [8 / 1, 16 / 4, 16 / 4, 16 / 2, 16 / 1.5]
    clock.seconds += 1000  # an evaluation between epochs
    run_epoch(hook, runner, clock, [3.5], batch)
    assert rates(runner)[-1] == 16 / 4


def test_all_processes_count(clock, runner, monkeypatch):
    monkeypatch.setattr(module, 'get_world_size', lambda: 4)
    hook = ThroughputHook(window=1)
    run_epoch(hook, runner, clock, [2], dict(inputs=torch.zeros(8, 2, 3, 4, 4)))
    assert rates(runner) == [16]


@pytest.mark.parametrize(
    'inputs',
    [
        torch.zeros(6, 3, 4, 4),
        [torch.zeros(6, 3, 4, 4), torch.zeros(6, 3, 4, 4)],  # two views
        [torch.zeros(3, 4, 4)] * 6,
    ],
)
def test_layouts_of_batches(clock, runner, inputs):
    hook = ThroughputHook(window=1)
    run_epoch(hook, runner, clock, [2], dict(inputs=inputs))
    assert rates(runner) == [3]


def test_peak_memory_of_the_gpu_survives_resets(clock, runner, monkeypatch):
    readings = iter([30, 50, 10])
    monkeypatch.setattr(module.torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(
        module.torch.cuda, 'max_memory_allocated', lambda: next(readings) * 2**20
    )
    hook = ThroughputHook(window=3)
    run_epoch(hook, runner, clock, [1, 1, 1], dict(inputs=torch.zeros(1, 3, 4, 4)))
    assert runner.message_hub.get_scalar('train/peak_memory_mb').current() == 50


def test_resident_memory_without_gpu(clock, runner, monkeypatch):
    monkeypatch.setattr(module.torch.cuda, 'is_available', lambda: False)
    usage = SimpleNamespace(ru_maxrss=3 * 2**20)  # KiB
    monkeypatch.setattr(module.sys, 'platform', 'linux')
    monkeypatch.setattr(resource, 'getrusage', lambda who: usage)
    hook = ThroughputHook(window=1)
    run_epoch(hook, runner, clock, [1], dict(inputs=torch.zeros(1, 3, 4, 4)))
    assert runner.message_hub.get_scalar('train/peak_memory_mb').current() == 3072


def test_printed_before_the_logger():
    assert ThroughputHook.priority == 'NORMAL'
