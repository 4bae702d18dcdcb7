# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import os
import signal
import time
from types import SimpleNamespace

import pytest
from mmengine.config import Config

from cmid_mm.datasets.imagery import TooManyUnreadableError
from cmid_mm.engine.data_faults import (
    _WorkerDeaths,
    saved_on_data_fault,
    set_timeouts,
)


def test_loaders_with_workers_get_a_timeout():
    cfg = Config(
        dict(
            train_dataloader=dict(num_workers=2),
            val_dataloader=dict(num_workers=2, timeout=5),
            test_dataloader=dict(num_workers=0),
        )
    )
    set_timeouts(cfg)
    timeouts = [cfg[f'{part}_dataloader'].get('timeout') for part in ('train', 'val')]
    assert timeouts == [600, 5]
    assert 'timeout' not in cfg.test_dataloader  # torch refuses one without workers


def test_death_within_an_iteration_is_told_at_its_end():
    told = []
    before = signal.signal(signal.SIGCHLD, lambda *received: told.append(received))
    try:
        hook = _WorkerDeaths()
        hook.before_train_iter(None, 0)
        os.kill(os.getpid(), signal.SIGCHLD)
        time.sleep(0.01)
        assert told == []
        hook.after_train_iter(None, 0)
        assert len(told) == 1
        hook.before_train_iter(None, 1)
        hook.after_train_iter(None, 1)
        assert len(told) == 1
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_nothing_is_saved_within_an_iteration(tmp_path):
    saved = []
    runner = SimpleNamespace(
        iter=3,
        epoch=0,
        work_dir=str(tmp_path),
        train_dataloader=dict(num_workers=0),
        hooks=[],
        register_hook=lambda hook: None,
        save_checkpoint=lambda *args, **kwargs: saved.append(args),
        logger=SimpleNamespace(warning=lambda text: None),
    )

    def run_iter():
        raise TooManyUnreadableError('in a hook')

    def fetch():
        raise TooManyUnreadableError('in the loader')

    for part, count in ((run_iter, 0), (fetch, 1)):
        with pytest.raises(TooManyUnreadableError), saved_on_data_fault(runner):
            part()
        assert len(saved) == count
