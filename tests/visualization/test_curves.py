# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import json
import os

import cv2
import pytest

from cmid_mm.visualization import curves
from cmid_mm.visualization.curves import plot_training_curves, read_scalars


def write_log(path, *records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join(json.dumps(record) for record in records) + '\n')
    return path


@pytest.fixture
def log(tmp_path):
    return write_log(
        tmp_path / 'run/1/vis_data/scalars.json',
        dict(knn_top1=40.0, step=0),
        dict(loss=3.0, loss_rec=1.0, feature_std=0.1, time=0.2, epoch=1, step=10),
        dict(loss=2.0, loss_rec=0.5, feature_std=0.2, time=0.2, epoch=1, step=20),
        dict(knn_top1=50.0, step=20),
    )


def test_reads_each_scalar_with_its_steps(log):
    assert read_scalars(log) == {
        'knn_top1': ([0, 20], [40.0, 50.0]),
        'loss': ([10, 20], [3.0, 2.0]),
        'loss_rec': ([10, 20], [1.0, 0.5]),
        'feature_std': ([10, 20], [0.1, 0.2]),
    }


def test_later_value_of_a_step_counts(tmp_path):
    log = write_log(
        tmp_path / 'scalars.json',
        *(dict(loss=v, step=s) for s, v in [(2, 9), (1, 8), (2, 7)]),
    )
    assert read_scalars(log) == {'loss': ([1, 2], [8, 7])}


def test_folder_stands_for_its_newest_log(tmp_path, log):
    newer = write_log(tmp_path / 'run/2/vis_data/scalars.json', dict(lr=0.5, step=3))
    os.utime(log, (1, 1))
    assert read_scalars(tmp_path / 'run') == {'lr': ([3], [0.5])}
    os.utime(newer, (0, 0))
    assert 'loss' in read_scalars(tmp_path / 'run')


def test_plots_group_losses_and_accuracies(tmp_path, log, monkeypatch):
    drawn = []
    draw = curves._draw_curves
    monkeypatch.setattr(
        curves, '_draw_curves', lambda *args: drawn.append(args[1:3]) or draw(*args)
    )
    out = tmp_path / 'curves.png'
    plot_training_curves([log], out)
    assert drawn == [
        ('accuracy of frozen features (%)', ['knn_top1']),
        ('losses', ['loss', 'loss_rec']),
        ('feature_std', ['feature_std']),
    ]
    assert cv2.imread(str(out)).std() > 0
    drawn.clear()
    plot_training_curves([log], out, names=['loss'])
    assert drawn == [('losses', ['loss'])]


def test_errors_name_the_file_and_the_scalars(tmp_path, log):
    with pytest.raises(FileNotFoundError, match='gone does not exist'):
        read_scalars(tmp_path / 'gone')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(FileNotFoundError, match=r'no scalars\.json below'):
        read_scalars(tmp_path / 'empty')
    (tmp_path / 'text').write_text('{"loss": 1, "step": 1}\nhello\n')
    with pytest.raises(ValueError, match='text, line 2: not a JSON object'):
        read_scalars(tmp_path / 'text')
    (tmp_path / 'blank').write_text('')
    with pytest.raises(ValueError, match='no scalars'):
        read_scalars(tmp_path / 'blank')
    with pytest.raises(ValueError, match='named acc; there are: knn_top1, loss'):
        plot_training_curves([log], tmp_path / 'x.png', ['acc'])
