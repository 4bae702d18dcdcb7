# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Which blocks of ground are for training and which for testing."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Part of a block without any label: none.
NO_PART = -1


def assign_blocks(
    counts: NDArray[np.integer[Any]], shares: Sequence[float], seed: int = 0
) -> NDArray[np.intp]:
    """Share blocks out, so that each part gets its share of each class.

    Iterative stratification (Sechidis et al., "On the stratification of multi-label
    data", 2011) with pixels for examples: the class that stands in the fewest of the
    remaining blocks is served first, its largest block goes to the part that lacks
    most of it. When no more blocks with a class remain than there are parts without
    it, these parts come first: a part without a class cannot be measured.

    Args:
        counts: Labelled pixels by block and class, (B, C).
        shares: Share of each part, in all 1.
        seed: Decides between equals.

    Returns:
        Part of each block, (B,); :data:`NO_PART` of those without labels.
    """
    rng = np.random.default_rng(seed)
    # Of each class as a share of all its pixels.
    weights = counts / np.maximum(counts.sum(axis=0), 1)
    wanted = np.outer(shares, np.ones(counts.shape[1]))
    held: NDArray[np.bool_] = np.zeros(wanted.shape, bool)
    parts = np.full(len(counts), NO_PART)
    remaining: NDArray[np.bool_] = counts.any(axis=1).astype(bool)
    while remaining.any():
        left = (counts[remaining] > 0).sum(axis=0)
        rarest = int(np.argmin(np.where(left > 0, left, len(counts) + 1)))
        of_class = np.where(remaining, counts[:, rarest], 0)
        block = rng.choice(np.flatnonzero(of_class == of_class.max()))
        lacking = ~held[:, rarest]
        in_turn = lacking if lacking.sum() >= left[rarest] else np.ones_like(lacking)
        # Of equals in this class, the one that lacks most in all.
        need = np.lexsort((wanted.sum(axis=1), wanted[:, rarest]))[::-1]
        part = next(int(part) for part in need if in_turn[part])
        parts[block] = part
        wanted[part] -= weights[block]
        held[part] |= counts[block] > 0
        remaining[block] = False
    return parts
