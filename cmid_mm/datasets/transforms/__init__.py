# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Transforms from a file to a packed view pair."""

from mmpretrain.registry import TRANSFORMS

from ...images import BandMismatchError, UnreadableImageError, load_image
from .index_masks import LoadIndexMask
from .loading import LoadImagery
from .masking import MaskPair
from .packing import PackViewPair
from .photometric import PhotometricNoise
from .views import ViewPair

# The name in configs made before it stood in the root registry.
TRANSFORMS.register_module('LoadImagery', module=LoadImagery)

__all__ = [
    'BandMismatchError',
    'LoadImagery',
    'LoadIndexMask',
    'MaskPair',
    'PackViewPair',
    'PhotometricNoise',
    'UnreadableImageError',
    'ViewPair',
    'load_image',
]
