# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS

from tests.toy import toy_batch
from tests.toy_baselines import QUEUE, build, toy_baseline


@pytest.mark.parametrize('name', ['mocov2_r18_scenes', 'densecl_r18_scenes'])
def test_queues_of_any_length(name):
    model = build(toy_baseline(name))
    queues = [model.queue, model.queue2] if 'densecl' in name else [model.queue]
    before = [queue.clone() for queue in queues]
    batch = model.data_preprocessor(toy_batch())  # of 4: 21 columns end within one
    for _ in range(6):
        model(**batch, mode='loss')
    for queue, initial in zip(queues, before, strict=True):
        changed = (queue != initial).any(0)
        assert changed.all()
        torch.testing.assert_close(queue.norm(dim=0), torch.ones(QUEUE))
        # The last batch: columns 20 and, round the end, 0 to 2.
        latest = queue[:, [20, 0, 1, 2]]
    assert model.queue_ptr.item() == 24 - QUEUE
    keys = F.normalize(torch.randn(4, 128), dim=1)
    model._dequeue_and_enqueue(keys)
    assert torch.equal(model.queue[:, 3:7], keys.t())
    assert not torch.equal(latest, model.queue[:, 3:7])


@pytest.mark.parametrize('name', ['mocov2_r18_scenes', 'densecl_r18_scenes'])
def test_mmpretrain_still_stops_at_such_queues(name):
    """When this fails, the repair can go."""
    cfg = toy_baseline(name)
    cfg.model.type = cfg.model.type.removeprefix('Flexible')
    cfg.data_preprocessor.channels_last = False
    model = build(cfg)
    with pytest.raises(AssertionError):
        model(**model.data_preprocessor(toy_batch()), mode='loss')


def test_densecl_takes_both_layouts():
    losses = []
    for channels_last in (False, True):
        cfg = toy_baseline('densecl_r18_scenes')
        cfg.data_preprocessor.channels_last = channels_last
        model = build(cfg)
        torch.manual_seed(0)
        losses.append(model(**model.data_preprocessor(toy_batch()), mode='loss'))
    for key, value in losses[0].items():
        torch.testing.assert_close(losses[1][key], value, rtol=1e-4, atol=1e-5)


def test_simclr_on_one_process_is_mmpretrains():
    cfg = toy_baseline('simclr_r18_scenes')
    mine = build(cfg)
    theirs = MODELS.build(
        {**cfg.model, 'type': 'SimCLR', 'data_preprocessor': cfg.data_preprocessor}
    ).train()
    theirs.load_state_dict(mine.state_dict())
    for model in (mine, theirs):
        loss = model(**model.data_preprocessor(toy_batch()), mode='loss')['loss']
        loss.backward()
    for first, second in zip(mine.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(first.grad, second.grad)
