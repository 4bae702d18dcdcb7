# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace

import pytest
from mmengine.logging import MessageHub
from mmengine.runner import LogProcessor

from cmid_mm.engine.hooks import LogHistoryHook


def lengths(name, iterations, epoch, **processor):
    """Length of the history after each iteration, and the last values."""
    hub = MessageHub.get_instance(f'history_{name}')
    runner = SimpleNamespace(
        message_hub=hub,
        log_processor=LogProcessor(**processor),
        train_dataloader=range(epoch),
    )
    hook, found = LogHistoryHook(keep=10), []
    for runner.iter in range(iterations):
        hub.update_scalar('train/loss', 0.5 * runner.iter)
        hook.after_train_iter(runner, 0)
        found.append(len(hub.get_scalar('train/loss').data[0]))
    return found, hub.get_scalar('train/loss')


@pytest.mark.parametrize(
    ('epoch', 'processor', 'kept'),
    [
        (4, {}, 10),
        (15, {}, 15),
        (4, dict(window_size=12), 12),
        (4, dict(custom_cfg=[dict(data_src='loss', window_size=13)]), 13),
        (4, dict(custom_cfg=[dict(data_src='loss', window_size='epoch')]), 10),
    ],
)
def test_recent_values_are_kept(request, epoch, processor, kept):
    found, history = lengths(request.node.name, 40, epoch, **processor)
    assert max(found) == kept + 9 and found[-1] == kept
    expected = [0.5 * i for i in range(40 - kept, 40)]
    assert history.data[0].tolist() == expected
    assert history.data[1].tolist() == [1] * kept
    assert history.mean(kept) == sum(expected) / kept


@pytest.mark.parametrize('window', ['global', None])
def test_averages_over_the_run_need_all(request, window):
    custom = dict(data_src='loss', method_name='mean', window_size=window)
    found, _ = lengths(request.node.name, 40, 4, custom_cfg=[custom])
    assert found[-1] == 40
