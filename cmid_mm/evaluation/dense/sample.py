# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""A random sample of the cells of many feature maps, drawn as these come."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ...labels.masks import IGNORED


class CellSample:
    """Squares of cells, each equally likely to be among those that are kept.

    Each square gets a random number, and those with the smallest are kept; so memory
    is that of the sample, however many maps there are.

    Args:
        size: Squares that are kept.
        side: Cells along a side of a square; those at the edges of a map are filled
            up with the nearest cells, ignored.
        seed: Of the numbers.
    """

    def __init__(self, size: int, side: int, seed: int) -> None:
        self._size, self._side = size, side
        self._generator = torch.Generator().manual_seed(seed)
        self._keys = torch.empty(0)
        self._features = torch.empty(0)
        self._labels = torch.empty(0, dtype=torch.long)

    @property
    def features(self) -> Tensor:
        """Features of the squares, (N, D, side, side)."""
        return self._features[: len(self._keys)]

    @property
    def labels(self) -> Tensor:
        """Classes of their cells, 255 ignored, (N, side, side)."""
        return self._labels[: len(self._keys)]

    def add(self, features: Tensor, labels: Tensor) -> None:
        """Draw from a feature map.

        Args:
            features: (D, h, w).
            labels: (h, w), 255 ignored.
        """
        depth, rows, columns = features.shape
        side = self._side
        padding = 0, -columns % side, 0, -rows % side
        features = F.pad(features[None], padding, mode='replicate')[0]
        labels = F.pad(labels, padding, value=IGNORED)
        # Views: rows and columns of squares, and of the cells in them.
        squares = features.unfold(1, side, side).unfold(2, side, side)
        marks = labels.unfold(0, side, side).unfold(1, side, side)
        known = torch.nonzero((marks != IGNORED).any(3).any(2))
        keys = torch.rand(len(known), generator=self._generator)
        if not len(self._features):
            self._features = features.new_empty(self._size, depth, side, side)
            self._labels = labels.new_empty(self._size, side, side)
        held = len(self._keys)
        every = torch.cat([self._keys, keys])
        kept = every.topk(min(self._size, len(every)), largest=False).indices
        stays = torch.zeros(len(every), dtype=torch.bool)
        stays[kept] = True
        row, column = known[stays[held:]].T
        free = torch.cat(
            [torch.nonzero(~stays[:held])[:, 0], torch.arange(held, len(kept))]
        )
        self._features[free] = squares[:, row, column].transpose(0, 1)
        self._labels[free] = marks[row, column]
        self._keys = F.pad(self._keys, (0, len(kept) - held))
        self._keys[free] = keys[stays[held:]]
