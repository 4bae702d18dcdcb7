# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What turns files into samples."""

from .imagery import ImageryDataset
from .sampler import ResumableSampler
from .scenes import (
    AID,
    RESISC45,
    EuroSAT,
    SceneDataset,
    UCMerced,
    find_scenes,
    split_scenes,
)
from .transforms import (
    LoadImagery,
    MaskPair,
    PackViewPair,
    PhotometricNoise,
    ViewPair,
    load_image,
)

__all__ = [
    'AID',
    'EuroSAT',
    'ImageryDataset',
    'LoadImagery',
    'MaskPair',
    'PackViewPair',
    'PhotometricNoise',
    'RESISC45',
    'ResumableSampler',
    'SceneDataset',
    'UCMerced',
    'ViewPair',
    'find_scenes',
    'load_image',
    'split_scenes',
]
