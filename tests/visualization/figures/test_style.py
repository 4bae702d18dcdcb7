# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import io

import numpy as np

from cmid_mm.visualization.figures.style import colour_bar, panels, show_cells


def test_a_bar_of_nearly_equal_values_has_no_offset():
    """It would stand in large letters over the label: 1e-7+1."""
    figure, axes = panels(1, 1, bar=True)
    values = 1 - np.arange(16).reshape(4, 4) * 1e-6
    colour_bar(figure, show_cells(axes[0, 0], values, 1, (4, 4)), axes, 'similarity')
    figure.savefig(io.BytesIO())
    axis = figure.axes[-1].xaxis
    assert axis.get_offset_text().get_text() == ''
    texts = [label.get_text() for label in axis.get_ticklabels()]
    assert len(set(texts)) == len(texts) <= 7
