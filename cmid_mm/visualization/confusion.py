# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Confusion matrices as a picture and as a table."""

import csv
import io
from collections.abc import Sequence

from matplotlib.figure import Figure
from torch import Tensor


def confusion_figure(matrix: Tensor, class_names: Sequence[str]) -> Figure:
    """Draw a confusion matrix in percent of each true class.

    Args:
        matrix (Tensor): Counts, (K, K); rows are true classes, columns predictions.
        class_names (Sequence[str]): K names.

    Returns:
        Figure: About 0.3 inch a class; cells of at least half a percent are labelled
        with their value.
    """
    images = matrix.sum(1, keepdim=True)
    percent = (100 * matrix.double() / images.clamp(min=1)).numpy()  # (K, K)
    num_classes = len(class_names)
    side = 2.5 + 0.3 * num_classes
    figure = Figure(figsize=(side, side), layout='constrained')
    axes = figure.subplots()
    axes.imshow(percent, cmap='Blues', vmin=0, vmax=100)
    accuracy = 100 * matrix.trace().item() / max(matrix.sum().item(), 1)
    axes.set_title(
        f'overall accuracy {accuracy:.2f} % of {matrix.sum().item()} images; '
        'cells: % of the true class',
        fontsize=9,
        wrap=True,
    )
    ticks = range(num_classes)
    axes.set_xticks(ticks, class_names, rotation=90, fontsize=8)
    axes.set_yticks(ticks, class_names, fontsize=8)
    axes.set_xlabel('predicted class')
    axes.set_ylabel('true class')
    for row, values in enumerate(percent):
        for column, value in enumerate(values):
            if value >= 0.5:
                colour = 'white' if value > 60 else 'black'
                axes.text(
                    *(column, row, f'{value:.0f}'),
                    ha='center',
                    va='center',
                    color=colour,
                    fontsize=7,
                )
    return figure


def confusion_csv(matrix: Tensor, class_names: Sequence[str]) -> str:
    """Write a confusion matrix as text.

    Args:
        matrix (Tensor): Counts, (K, K); rows are true classes, columns predictions.
        class_names (Sequence[str]): K names.

    Returns:
        str: CSV with a header: true class, the counts of the predicted classes, and
        the accuracy of the class in percent (empty without images).
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(['true class', *class_names, 'accuracy'])
    for label, (name, counts) in enumerate(
        zip(class_names, matrix.tolist(), strict=True)
    ):
        images = sum(counts)
        accuracy = f'{100 * counts[label] / images:.2f}' if images else ''
        writer.writerow([name, *counts, accuracy])
    return text.getvalue()
