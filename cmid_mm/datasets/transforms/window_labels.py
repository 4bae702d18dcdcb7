# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Windows of scenes: where they lie, and their labels."""

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmengine.registry import TRANSFORMS

from ...labels.masks import IGNORED


@TRANSFORMS.register_module()
class ShiftWindow(BaseTransform):
    """Move a window of a scene at random, before it is loaded.

    So that training sees each pixel at any position of a window, while each window of
    the grid is drawn equally often. Stands before the loader of the image. The window
    keeps its size and stays within the scene, or the block of it, that it was laid in.
    Required keys: ``window`` and ``bounds``, as the data sets of
    :mod:`cmid_mm.datasets.windowed` give them. Modified key: ``window``.

    Args:
        share: The farthest move, in sides of the window. Defaults to 0.5, half of the
            way to the next window: then all positions are equally likely.

    Raises:
        ValueError: If the share is not between 0 and 1.
    """

    def __init__(self, share: float = 0.5) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f'ShiftWindow: share must be 0 to 1, got {share}')
        self.share = share

    @cache_randomness
    def offset(self, side: int) -> int:
        """Draw a number of pixels along one side."""
        most = round(self.share * side)
        return int(np.random.randint(-most, most + 1))

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Move ``results['window']``."""
        if 'instances' in results:
            raise ValueError(
                'ShiftWindow cannot move windows whose boxes are known already; let '
                'windows overlap (overlap of the data set), and crop'
            )
        window, bounds = results['window'], results['bounds']
        starts = []
        for axis in (0, 1):
            low, side = bounds[axis], window[axis + 2]
            # A window that is larger than its block stays where it is.
            high = low + bounds[axis + 2] - side
            start = window[axis]
            if high > low:
                start = min(max(start + self.offset(side), low), high)
            starts.append(start)
        results['window'] = (*starts, *window[2:])
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(share={self.share})'


@TRANSFORMS.register_module()
class LoadWindowLabels(BaseTransform):
    """Load the labels of a window of a scene, on the pixels of the image.

    Stands in for mmseg's ``LoadAnnotations`` after the loader of the image. Required
    keys: those of the data sets of :mod:`cmid_mm.datasets.windowed`, and ``img``.
    Added keys: ``gt_seg_map``, uint8 (H, W), and ``seg_fields``. Pixels outside the
    area of the data set, and those where the image holds no data, are ignored (255).
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Read the labels of ``results['window']``."""
        mask = results['scenes'].mask(results['img_path'], results['window'])
        missing = results.get('img_missing')
        if missing is not None:
            mask[missing] = IGNORED
        results['gt_seg_map'] = mask
        results.setdefault('seg_fields', []).append('gt_seg_map')
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
