# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Wrong input to training, the same in every task, is told in one line."""

import pytest

from cmid_mm.configs import load_config
from cmid_mm.engine.launch import set_data_root

from .trained_tasks import CONFIGS, TASKS, dump


@pytest.mark.parametrize('task', TASKS)
@pytest.mark.parametrize(
    ('changes', 'data_root', 'messages'),
    [
        (dict(mean=[1.0] * 4, std=[1.0] * 4), None, ('mean', '4 values', '3 bands')),
        (dict(batch_size=64), None, ('do not fill one batch of 64', 'batch_size')),
        ({}, 'nowhere', ('train_dataloader', 'nowhere', 'data_root')),
    ],
    ids=['bands', 'batch', 'folder'],
)
def test_training(task, changes, data_root, messages, run, data, tmp_path):
    cfg = load_config(str(CONFIGS / TASKS[task]))
    set_data_root(cfg, data_root or str(data / task))
    cfg.train_dataloader.batch_size = changes.pop('batch_size', 2)
    cfg.train_dataloader.dataset.pop('indices', None)
    cfg.train_dataloader.dataset.pop('fraction', None)
    preprocessor = cfg.get('data_preprocessor') or cfg.model.data_preprocessor
    if 'mean' in changes and preprocessor.get('type') == 'SegDataPreProcessor':
        preprocessor.type = 'MultiBandSegPreprocessor'  # the other takes 1 or 3
    preprocessor.update(changes)
    config = dump(cfg, tmp_path / 'config.py')
    error = run('train.py', config, '--work-dir', tmp_path / 'work')
    assert isinstance(error, str) and error.startswith('error: ')
    for message in messages:
        assert message in error
