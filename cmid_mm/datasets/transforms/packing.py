# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The packed sample that workers ship to the training device."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS
from numpy.typing import NDArray

from .order import require


@TRANSFORMS.register_module()
class PackViewPair(BaseTransform):
    """Pack a view pair into contiguous tensors.

    Required keys: ``org``, ``view``, ``masks``, ``boxes``, ``sample_idx``. The
    result is a dict of

    - ``inputs``: uint8 (2, C, S, S), or float32 for sources that are not 8-bit,
      0-255 scale; 0 is ``org``, 1 is ``view``;
    - ``masks``: bool (2, S/P, S/P), True = masked;
    - ``boxes``: float32 (2, 5), top, left, height, width and orientation of the views;
    - ``crops``: as ``inputs``, (K, C, s, s), if ``ViewPair`` makes small crops;
    - ``index``: int64 (), position of the image in the data set.

    Raises:
        KeyError: If an earlier transform of the pipeline is missing.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Pack ``results``."""
        require(self, results, org='ViewPair', masks='MaskPair')
        require(self, results, sample_idx='ImageryDataset')
        packed = {
            'inputs': planes_of([results['org'], results['view']]),
            'masks': torch.from_numpy(results['masks']),
            'boxes': torch.from_numpy(results['boxes']),
            'index': torch.tensor(results['sample_idx'], dtype=torch.int64),
        }
        if results.get('crops'):
            packed['crops'] = planes_of(results['crops'])
        return packed

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'


def planes_of(images: Sequence[NDArray[Any]]) -> torch.Tensor:
    """Images of one size, (H, W, C) each, as one tensor, (N, C, H, W)."""
    height, width, channels = images[0].shape
    stacked = np.empty((len(images), channels, height, width), images[0].dtype)
    for planes, image in zip(stacked, images, strict=True):
        # Writes each channel to its plane, some ten times faster than a
        # transposed copy.
        cv2.split(image, list(planes))
    return torch.from_numpy(stacked)
