# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
from dataclasses import asdict

import pytest
import torch
from mmengine.config import Config

from cmid_mm.datasets import ResumableSampler
from cmid_mm.engine.layout import Layout, keep_step_size
from tests.end_to_end.pretraining import toy_run, train, write_images


def keys(processes, epoch, start, count):
    """Keys of an epoch that all processes yield together, behind the first so many."""
    yielded = []
    for rank in range(processes):
        sampler = ResumableSampler(range(23), seed=5)
        sampler.rank, sampler.world_size = rank, processes
        sampler.set_epoch(epoch, start)
        yielded += list(sampler)[:count]
    return yielded


@pytest.mark.parametrize('before', [1, 2, 3])
@pytest.mark.parametrize('after', [1, 2, 3])
def test_the_rest_of_an_epoch_is_shared_anew(before, after):
    layout = Layout(23, before, 2, 1, epoch=4, iteration=100, seen=0)
    assert layout.seen_at(5, 102) is None
    seen = layout.seen_at(4, 102)
    first = keys(before, 4, 0, 2 * 2)
    rest = keys(after, 4, seen, None)
    assert len(first) == seen == 4 * before
    whole = set(keys(1, 4, 0, None))
    assert len({*first, *rest}) == len(first) + len(rest)
    assert {*first, *rest} <= whole and 23 - len(first) - len(rest) < after


@pytest.mark.parametrize(
    ('before', 'now', 'batch_size', 'counts', 'said'),
    [
        ((2, 4, 1), 1, 4, 2, 'accumulative_counts=2'),
        ((1, 4, 2), 2, 4, 1, 'accumulative_counts=1'),
        ((1, 4, 1), 2, 2, 1, 'batch_size=2'),
        ((2, 4, 1), 3, 4, 1, '12 images, it had 8. The learning rate stays; --auto-'),
        ((2, 4, 1), 2, 5, 1, ''),  # another batch size on purpose
    ],
)
def test_a_step_keeps_its_images(
    before, now, batch_size, counts, said, tmp_path, monkeypatch, capsys
):
    cfg = kept(before, now, 5 if batch_size == 5 else 4, tmp_path, monkeypatch)
    assert cfg.train_dataloader.batch_size == batch_size
    assert cfg.optim_wrapper.get('accumulative_counts', 1) == counts
    out = capsys.readouterr().out
    assert said in out and bool(out) == bool(said)


@pytest.mark.parametrize(
    ('before', 'now', 'batch_size'), [((2, 4, 1), 1, 8), ((1, 4, 2), 2, 2)]
)
def test_iterations_keep_their_images(before, now, batch_size, tmp_path, monkeypatch):
    """Of a run that counts them."""
    train_cfg = dict(by_epoch=False, max_iters=9)
    wrapper = dict(accumulative_counts=before[2])
    cfg = kept(
        *(before, now, 4, tmp_path, monkeypatch),
        train_cfg=train_cfg,
        optim_wrapper=wrapper,
    )
    assert cfg.train_dataloader.batch_size == batch_size
    assert cfg.optim_wrapper.accumulative_counts == before[2]


def kept(before, now, batch_size, tmp_path, monkeypatch, **settings):
    """The config of a run that goes on in other processes."""
    layout = Layout(23, *before, epoch=0, iteration=0, seen=0)
    hub = dict(runtime_info=dict(layout=asdict(layout)))
    torch.save(dict(message_hub=hub), tmp_path / 'iter_3.pth')
    monkeypatch.setenv('WORLD_SIZE', str(now))
    cfg = Config(
        dict(
            resume=True,
            load_from=str(tmp_path / 'iter_3.pth'),
            launcher='pytorch',
            train_dataloader=dict(batch_size=batch_size),
            **{'optim_wrapper': {}, **settings},
        )
    )
    keep_step_size(cfg)
    return cfg


def test_schedules_go_on_at_the_same_part_of_the_run(tmp_path):
    """Resumed with half the batch, a run has twice as many iterations."""
    images = write_images(tmp_path / 'images', count=8)
    train(toy_run(images, tmp_path), kill_at=6)  # of 12, within the second epoch
    resume = dict(resume=True, load_from=str(tmp_path / 'iter_6.pth'))
    cfg = toy_run(images, tmp_path, **resume)
    cfg.train_dataloader.batch_size = 1
    other = toy_run(images, tmp_path / 'other')
    other.train_dataloader.batch_size = 1
    runs = train(cfg), train(other)
    assert [run.iter for run in runs] == [24, 24]
    rates = [run.message_hub.get_scalar('train/lr').data[0][-8:] for run in runs]
    assert rates[0] == pytest.approx(rates[1])
