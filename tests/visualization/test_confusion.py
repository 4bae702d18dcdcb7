# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from cmid_mm.visualization import confusion_csv, confusion_figure

MATRIX = torch.tensor([[6, 2, 0], [0, 0, 0], [1, 0, 199]])


def test_csv_has_counts_and_accuracies():
    assert confusion_csv(MATRIX, ['field', 'a, b', 'town']) == (
        'true class,field,"a, b",town,accuracy\n'
        'field,6,2,0,75.00\n'
        '"a, b",0,0,0,\n'
        'town,1,0,199,99.50\n'
    )


def test_picture_shows_percent_of_the_true_class():
    axes = confusion_figure(MATRIX, ['field', 'none', 'town']).axes[0]
    shown = axes.images[0].get_array()
    assert np.allclose(shown, [[75, 25, 0], [0, 0, 0], [0.5, 0, 99.5]])
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        'field',
        'none',
        'town',
    ]
    # Column first: a picture's x is the predicted class.
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert texts == {(0, 0): '75', (1, 0): '25', (0, 2): '0', (2, 2): '100'}
    assert '98.56 % of 208 images' in axes.get_title()


def test_names_of_45_classes_do_not_overlap():
    names = [f'thermal_power_station_{i}' for i in range(45)]
    figure = confusion_figure(torch.eye(45, dtype=torch.long), names)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    labels = [
        label.get_window_extent(canvas.get_renderer())
        for label in figure.axes[0].get_yticklabels()
    ]
    assert not any(a.overlaps(b) for a, b in zip(labels, labels[1:], strict=False))
    whole = figure.bbox
    assert min(label.x0 for label in labels) >= whole.x0
