# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What turns files into samples."""

from .imagery import ImageryDataset
from .sampler import ResumableSampler
from .transforms import (
    LoadImagery,
    MaskPair,
    PackViewPair,
    PhotometricNoise,
    ViewPair,
    load_image,
)

__all__ = [
    'ImageryDataset',
    'LoadImagery',
    'MaskPair',
    'PackViewPair',
    'PhotometricNoise',
    'ResumableSampler',
    'ViewPair',
    'load_image',
]
