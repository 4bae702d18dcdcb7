# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The tools on configs whose types are classes."""

import copy
import json
from pathlib import Path

import pytest

from cmid_mm.images import find_images
from tests.lazy_configs import write_lazy_config

from .trained_tasks import dump, files


@pytest.mark.parametrize('task', ['scene', 'segmentation', 'change'])
def test_classes_and_names_of_types_do_the_same(task, trained, data, tmp_path, run):
    cfg, checkpoint = trained(task)
    cfg = copy.deepcopy(cfg)
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].update(num_workers=0, persistent_workers=False)
        cfg[f'{split}_dataloader'].dataset.indices = 2
    configs = {
        'names': dump(cfg, tmp_path / 'names.py'),
        'classes': write_lazy_config(cfg, tmp_path / 'classes.py'),
    }
    assert "type='" not in (tmp_path / 'classes_base.py').read_text()[:200]
    images = find_images(data / task / 'test')[:1]
    if task == 'change':
        images += [Path(str(images[0]).replace('/A/', '/B/'))]
    for style, config in configs.items():
        out = tmp_path / style
        options = ('--work-dir', out / 'work', '--json', out / 'metrics.json')
        assert run('test.py', config, checkpoint, *options) is None
        arguments = (checkpoint, *images, '--out', out / 'predicted')
        assert run('predict.py', config, *arguments) is None
        options = ('--out', out / 'seen', '--number', 1)
        assert run('browse_dataset.py', config, *options) is None
    metrics = [
        json.loads((tmp_path / style / 'metrics.json').read_text())['metrics']
        for style in configs
    ]
    assert metrics[0] == metrics[1] and metrics[0]
    for folder in ('predicted', 'seen'):
        names, classes = (tmp_path / style / folder for style in configs)
        assert files(names) == files(classes) != set()
        for name in files(names):
            assert (names / name).read_bytes() == (classes / name).read_bytes()


def test_training_with_classes(trained, tmp_path, run):
    cfg = copy.deepcopy(trained('scene')[0])
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.train_dataloader.update(batch_size=4, num_workers=0, persistent_workers=False)
    config = write_lazy_config(cfg, tmp_path / 'classes.py')
    options = ('train_cfg.max_epochs=1', 'val_cfg=None', 'val_evaluator=None')
    assert (
        run(
            *('train.py', config, '--work-dir', tmp_path / 'work', '--cfg-options'),
            *(*options, 'val_dataloader=None', 'default_hooks.checkpoint.save_best='),
        )
        is None
    )
    assert (tmp_path / 'work' / 'epoch_1.pth').is_file()
