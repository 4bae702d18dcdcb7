# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Figures: what the model reconstructs, and how the training went."""

from .confusion import confusion_csv, confusion_figure
from .curves import plot_training_curves
from .reconstruction import reconstruction_panel

__all__ = [
    'confusion_csv',
    'confusion_figure',
    'plot_training_curves',
    'reconstruction_panel',
]
