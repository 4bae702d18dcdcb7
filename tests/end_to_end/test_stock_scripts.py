# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The scripts that mmpretrain and mmseg ship, on our configs and logs."""

import importlib.util
import json
import re
import runpy
import sys
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest

from cmid_mm.visualization.curves import read_scalars

from .trained_tasks import dump

QUIET = ('test_dataloader.num_workers=0', 'test_dataloader.persistent_workers=False')


@pytest.fixture
def stock(monkeypatch):
    """Run a script of another package in this process."""
    matplotlib.use('Agg')
    # What these scripts set, others must not find.
    monkeypatch.setattr(sys, 'path', list(sys.path))

    def run_script(package: str, script: str, *args: object) -> None:
        found = importlib.util.find_spec(package)
        assert found is not None and found.submodule_search_locations
        path = Path(found.submodule_search_locations[0], '.mim', 'tools', script)
        monkeypatch.setattr(sys, 'argv', [script, *map(str, args)])
        runpy.run_path(str(path), run_name='__main__')

    return run_script


def test_t_sne_of_features(stock, trained, tmp_path):
    cfg, checkpoint = trained('scene')
    config = dump(cfg, tmp_path / 'config.py')
    options = ('--perplexity', 3, '--n-iter', 250, '--device', 'cpu')
    stock(
        *('mmpretrain', 'visualization/vis_tsne.py', config),
        *('--checkpoint', checkpoint, '--work-dir', tmp_path, *options),
        *('--cfg-options', *QUIET),
    )
    (features,) = tmp_path.rglob('feat_3.npy')
    assert np.load(features).shape == (8, 512)
    assert len(list(tmp_path.rglob('feat_3.png'))) == 1


def test_browsing_a_data_set(stock, trained, tmp_path):
    cfg, _ = trained('scene')
    config = dump(cfg, tmp_path / 'config.py')
    # The other modes of this script do not run with Matplotlib 3.9 and later.
    options = ('--mode', 'original', '--channel-order', 'RGB', '--phase', 'test')
    stock(
        *('mmpretrain', 'visualization/browse_dataset.py', config, '--not-show'),
        *('--output-dir', tmp_path / 'shown', '--show-number', 3, *options),
    )
    pictures = sorted((tmp_path / 'shown').iterdir())
    assert len(pictures) == 3
    assert all(cv2.imread(str(picture)).std() > 10 for picture in pictures)


@pytest.mark.parametrize(
    ('task', 'package', 'metric'),
    [('scene', 'mmpretrain', 'accuracy/OA'), ('segmentation', 'mmseg', 'mIoU')],
)
def test_testing(stock, run, trained, tmp_path, task, package, metric):
    cfg, checkpoint = trained(task)
    config = dump(cfg, tmp_path / 'config.py')
    options = ('--work-dir', tmp_path / 'stock', '--cfg-options', *QUIET)
    stock(package, 'test.py', config, checkpoint, *options)
    own = ('--work-dir', tmp_path / 'own', '--json', tmp_path / 'own.json')
    assert run('test.py', config, checkpoint, *own, '--cfg-options', *QUIET) is None
    expected = json.loads((tmp_path / 'own.json').read_text())['metrics'][metric]
    (log,) = (tmp_path / 'stock').rglob('*.json')
    assert json.loads(log.read_text())[metric] == pytest.approx(expected, abs=0.01)


def test_curves_and_times_of_a_log(stock, run, trained, tmp_path, capsys):
    cfg, _ = trained('scene')
    cfg = cfg.copy()
    for split in ('train', 'val'):
        cfg[f'{split}_dataloader'].update(
            batch_size=2, num_workers=0, persistent_workers=False
        )
    cfg.default_hooks.logger.interval = 1
    config = dump(cfg, tmp_path / 'config.py')
    work = ('--work-dir', tmp_path / 'work')
    options = ('--cfg-options', 'train_cfg.max_epochs=1')
    assert run('train.py', config, *work, *options) is None
    (log,) = (tmp_path / 'work').rglob('scalars.json')

    script = 'analysis_tools/analyze_logs.py'
    picture = tmp_path / 'curve.png'
    keys = ('--keys', 'loss', 'accuracy/OA')
    stock('mmpretrain', script, 'plot_curve', log, *keys, '--out', picture)
    assert cv2.imread(str(picture)).std() > 5
    capsys.readouterr()
    stock('mmpretrain', script, 'cal_train_time', log)
    seconds = re.search(r'average iter time: ([\d.]+) s/iter', capsys.readouterr().out)
    assert seconds is not None and float(seconds.group(1)) > 0

    # Ours: the runner of any package writes another log, of this name.
    (other,) = (path for path in log.parent.glob('*.json') if path != log)
    assert re.fullmatch(r'\d{8}_\d{6}\.json', other.name)
    steps, losses = read_scalars(other)['loss']
    assert steps == [1, 2, 3, 4] and all(np.isfinite(losses))
