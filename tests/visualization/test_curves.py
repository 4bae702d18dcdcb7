# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import itertools
import json

import cv2
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from cmid_mm.visualization import curves
from cmid_mm.visualization.curves import (
    curves_figure,
    plot_training_curves,
    read_scalars,
)


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
        'time': ([10, 20], [0.2, 0.2]),
    }


def test_later_value_of_a_step_counts(tmp_path):
    log = write_log(
        tmp_path / 'scalars.json',
        *(dict(loss=v, step=s) for s, v in [(2, 9), (1, 8), (2, 7)]),
    )
    assert read_scalars(log) == {'loss': ([1, 2], [8, 7])}


def test_resumed_run_is_one_curve(tmp_path):
    run = tmp_path / 'run'
    write_log(
        run / '20260101_1/vis_data/scalars.json',
        dict(knn_top1=40.0, step=0),
        *(dict(loss=9 - s, iter=s, epoch=1, step=s) for s in (1, 2, 3, 4, 5)),
        dict(knn_top1=45.0, step=5),
    )
    # From the checkpoint after 3, at another interval.
    write_log(
        run / '20260101_2/vis_data/scalars.json',
        *(dict(loss=1.0, iter=s, epoch=1, step=s) for s in (4, 6)),
        dict(knn_top1=50.0, step=6),
    )
    assert read_scalars(run) == {
        'knn_top1': ([0, 6], [40.0, 50.0]),
        'loss': ([1, 2, 3, 4, 6], [8, 7, 6, 1, 1]),
    }
    write_log(tmp_path / 'b/1/vis_data/scalars.json', dict(loss=1, step=1))
    with pytest.raises(ValueError, match='several runs.*one by one: .*b, .*run'):
        read_scalars(tmp_path)


@pytest.mark.parametrize('epoch', [None, 2])
def test_validation_stands_at_its_iteration(tmp_path, epoch):
    # As mmengine logs it: by epochs, which loops by iterations do not count.
    mark = {} if epoch is None else dict(epoch=epoch)
    log = write_log(
        tmp_path / 'scalars.json',
        dict(loss=2.0, iter=10, step=10),
        dict(mIoU=30.0, step=0),
        dict(loss=1.0, iter=40, step=40, **mark),
        dict(mIoU=50.0, step=epoch or 0),
    )
    assert read_scalars(log)['mIoU'] == ([10, 40], [30.0, 50.0])


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
        ('time of an iteration (s)', ['time']),
    ]
    assert cv2.imread(str(out)).std() > 0
    drawn.clear()
    plot_training_curves([log], out, names=['loss'])
    assert drawn == [('losses', ['loss'])]


def test_panels_wrap_within_the_width_of_a_page(log):
    assert list(curves_figure([log]).get_size_inches()) == [7, 4.8]
    assert list(curves_figure([log], ['loss']).get_size_inches()) == [3.5, 2.4]


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
    # One that is there does not hide one that is not.
    with pytest.raises(ValueError, match=r'named los; did you mean loss\?'):
        plot_training_curves([log], tmp_path / 'x.png', ['los', 'knn_top1'])
    (tmp_path / 'picture.png').write_bytes(b'\x89PNG')
    with pytest.raises(ValueError, match=r'picture\.png is no text; expected a scal'):
        read_scalars(tmp_path / 'picture.png')


def test_a_legend_has_each_scalar_and_each_run_once(tmp_path, log, monkeypatch):
    other = write_log(
        tmp_path / 'other/1/vis_data/scalars.json',
        *(dict(loss=2.0, loss_new=1.0, step=s) for s in (1, 2)),
    )
    figures = []
    save = curves.Figure.savefig
    monkeypatch.setattr(
        curves.Figure,
        'savefig',
        lambda f, *a, **k: figures.append(f) or save(f, *a, **k),
    )
    runs = [log.parents[2], other.parents[2]]
    plot_training_curves(runs, tmp_path / 'x.png', ['loss', 'loss_rec', 'loss_new'])
    (figure,) = figures
    (ax,) = figure.axes
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ['loss', 'loss_rec', 'loss_new']
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ['run', 'other']
    styles = [line.get_linestyle() for line in legend.get_lines()]
    assert styles == ['-', '--']
    drawn = {(line.get_label(), line.get_linestyle()) for line in ax.get_lines()}
    assert drawn == {
        ('loss', '-'),
        ('loss_rec', '-'),
        ('loss', '--'),
        ('loss_new', '--'),
    }


@pytest.mark.parametrize(
    ('name', 'panel'),
    [
        ('aux.loss_ce', 'losses'),
        ('base_lr', 'learning rate'),
        ('features/linear_top1', 'accuracy of frozen features (%)'),
        ('decode.acc_seg', 'accuracy in the training batch (%)'),
        ('data_time', 'time of an iteration (s)'),
        ('dota/AP50', 'dota'),
        ('mIoU', 'validation'),
        ('mF1_batch8', 'validation'),
        ('OA', 'validation'),
        ('teacher_momentum', 'teacher_momentum'),
    ],
)
def test_panels(name, panel):
    assert curves._panel_of(name) == panel


def contrast(a, b, matrix):
    """Distance of two colours (linear RGB) as seen through a matrix."""
    return np.abs(matrix @ (np.array(to_rgb(a)) - np.array(to_rgb(b)))).sum()


def test_colours_differ_without_red_and_green():
    # Machado et al. 2009, protanopia and deuteranopia of full severity.
    blindness = [
        [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
        [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    ]
    for matrix in blindness:
        for a, b in itertools.combinations(curves.COLOURS, 2):
            assert contrast(a, b, np.array(matrix)) > 0.25


@pytest.mark.parametrize(('suffix', 'start'), [('svg', b'<?xml'), ('pdf', b'%PDF')])
def test_vector_formats(log, tmp_path, suffix, start):
    out = tmp_path / f'curves.{suffix}'
    plot_training_curves([log], out)
    assert out.read_bytes().startswith(start)
