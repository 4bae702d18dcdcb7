# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What turns files into samples."""

from mmengine.registry import DATASETS

from ..dependencies import registered_or_explained
from .change_detection import ChangeDetectionDataset
from .imagery import ImageryDataset
from .sampler import ResumableSampler
from .scene_windows import SceneWindows
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
from .windowed import WindowedChangeDetection
from .windows import RandomWindows

with registered_or_explained(DATASETS, 'FiveClassISPRSDataset', 'WindowedSegmentation'):
    from . import segmentation  # noqa: F401
    from .windowed import segmentation as windowed_segmentation  # noqa: F401
with registered_or_explained(DATASETS, 'OrientedBoxFolder', 'WindowedOrientedBoxes'):
    from . import detection  # noqa: F401
    from .windowed import boxes as windowed_boxes  # noqa: F401

__all__ = [
    'AID',
    'ChangeDetectionDataset',
    'EuroSAT',
    'ImageryDataset',
    'LoadImagery',
    'MaskPair',
    'PackViewPair',
    'PhotometricNoise',
    'RESISC45',
    'RandomWindows',
    'ResumableSampler',
    'SceneDataset',
    'SceneWindows',
    'UCMerced',
    'ViewPair',
    'WindowedChangeDetection',
    'find_scenes',
    'load_image',
    'split_scenes',
]
