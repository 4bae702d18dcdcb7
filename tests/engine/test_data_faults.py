# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace

import pytest
from mmengine.config import Config

from cmid_mm.datasets.imagery import TooManyUnreadableError
from cmid_mm.engine.data_faults import saved_on_data_fault, set_timeouts


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
