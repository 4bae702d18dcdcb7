# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""A probe of each pixel on the feature maps of a frozen backbone."""

from .encoder import NORMALIZATIONS, DenseEncoder
from .heads import HEADS
from .probe import DenseScore, probe_pixels
from .windows import LabelledWindows, windows_to_probe

__all__ = [
    'HEADS',
    'NORMALIZATIONS',
    'DenseEncoder',
    'DenseScore',
    'LabelledWindows',
    'probe_pixels',
    'windows_to_probe',
]
