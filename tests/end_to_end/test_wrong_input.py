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
        (dict(mean=[1.0] * 4, std=[1.0] * 4), None, ('data_preprocessor', '4 values')),
        (dict(batch_size=64), None, ('do not fill one batch of 64', 'batch_size')),
        ({}, 'nowhere', ('train_dataloader', 'nowhere', 'data_root')),
    ],
    ids=['bands', 'batch', 'folder'],
)
def test_training(task, changes, data_root, messages, run, data, tmp_path):
    cfg = load_config(str(CONFIGS / TASKS[task]))
    set_data_root(cfg, data_root or str(data / task))
    changes = dict(changes)  # as pytest hands the same one to all
    cfg.train_dataloader.batch_size = changes.pop('batch_size', 2)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
    cfg.train_dataloader.drop_last = True
    # Some demos train by iterations, which an endless sampler fills from few images.
    cfg.train_dataloader.sampler = dict(type='DefaultSampler', shuffle=True)
    cfg.train_cfg = dict(by_epoch=True, max_epochs=1)
    cfg.param_scheduler = None
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
