# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Figures of what features know, each a function that returns a matplotlib figure."""

from ..curves import curves_figure
from .attention import attention_figure
from .correspondence import correspondence_figure
from .embedding_map import map_figure
from .pca import pca_figure
from .prototypes import prototypes_figure
from .reconstruction import reconstruction_figure
from .similarity import similarity_figure
from .source import FigureEncoder, load_figure_encoder
from .spectra import spectra_figure
from .style import save_figure

__all__ = [
    'FigureEncoder',
    'attention_figure',
    'correspondence_figure',
    'curves_figure',
    'load_figure_encoder',
    'map_figure',
    'pca_figure',
    'prototypes_figure',
    'reconstruction_figure',
    'save_figure',
    'similarity_figure',
    'spectra_figure',
]
