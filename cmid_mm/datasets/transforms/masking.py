# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Random masks of a view pair (docs/method.md, Hiding)."""

import math
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

from ...ranges import Count, Share


@TRANSFORMS.register_module()
class MaskPair(BaseTransform):
    """Draw one random mask for each of the two views.

    Added key: ``masks``, bool (2, g, g) with g = size / patch_size, True = masked.
    Exactly ceil(ratio * g * g) cells of each mask are True.

    Args:
        size (int): Side of the views in pixels.
        patch_size (int): Side P of a mask cell in pixels. Defaults to 32.
        ratio (float): Share of masked cells. Defaults to 0.6.
        share: Share of the views that are masked; of the others no cell is True.

    Raises:
        ValueError: If ``size`` is no multiple of ``patch_size``, ``ratio`` or
            ``share`` is not between 0 and 1, or no cell would be left to see.
    """

    def __init__(
        self,
        size: Count,
        patch_size: Count = 32,
        ratio: Share = 0.6,
        share: Share = 1.0,
    ) -> None:
        if size % patch_size:
            raise ValueError(
                f'MaskPair: size {size} is not a multiple of patch_size {patch_size}'
            )
        if not 0 <= ratio <= 1:
            raise ValueError(f'MaskPair: ratio must be in 0-1, got {ratio}')
        if not 0 <= share <= 1:
            raise ValueError(f'MaskPair: share must be in 0-1, got {share}')
        self.share = share
        self.size = size
        self.patch_size = patch_size
        self.ratio = ratio
        self.grid = size // patch_size
        # Rounding first keeps products such as 0.7 * 10 * 10 = 70.00000000000001
        # from masking one cell too many.
        self.num_masked = math.ceil(round(ratio * self.grid**2, 6))
        if self.num_masked == self.grid**2:
            raise ValueError(
                f'MaskPair: ratio {ratio} hides all {self.grid} x {self.grid} cells of '
                'a masked view, as shares of a cell are rounded up, so that nothing '
                f'would be seen; set a lower ratio or a patch_size below {patch_size}'
            )

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add the masks."""
        cells = self.grid**2
        masks = np.zeros((2, cells), bool)
        for mask in masks:
            if self.share < 1 and np.random.random() >= self.share:
                continue
            mask[np.random.permutation(cells)[: self.num_masked]] = True
        results['masks'] = masks.reshape(2, self.grid, self.grid)
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(size={self.size}, '
            f'patch_size={self.patch_size}, ratio={self.ratio}, share={self.share})'
        )
