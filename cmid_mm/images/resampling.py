# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Pixels of one grid from those of another whose rows and columns are parallel."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from .pixels import Pixels

#: Shares of pixels below this are of rounding, not of pixels.
_NOTHING = 1e-6


@dataclass
class Axis:
    """How the rows of a new grid, or its columns, are made of old ones.

    Attributes:
        first: First of the old ones that are needed.
        stop: First behind them.
        weights: Share of each in each new one, (new, stop - first); a row sums to 1.
    """

    first: int
    stop: int
    weights: csr_array


def axis(edges: NDArray[np.float64], length: int) -> Axis:
    """Average where new pixels are larger than old ones, else interpolate.

    Args:
        edges: Where new pixels begin, and the last one ends, in old pixels.
        length: Number of old pixels.
    """
    count = len(edges) - 1
    step = (edges[-1] - edges[0]) / count
    if step >= 1:
        # The part of each old pixel that lies in a new one.
        span = np.arange(int(np.ceil(step)) + 1)
        index = np.floor(edges[:-1]).astype(int)[:, None] + span
        upper = np.minimum(edges[1:, None], index + 1)
        share = np.maximum(upper - np.maximum(edges[:-1, None], index), 0)
        share[index >= length] = 0
    else:
        # Old pixels count at their centres.
        centres = (edges[1:] + edges[:-1]) / 2 - 0.5
        index = np.floor(centres).astype(int)[:, None] + (0, 1)
        share = 1 - np.abs(centres[:, None] - index)
    index = np.clip(index, 0, length - 1)
    used = share > _NOTHING
    first, stop = int(index[used].min()), int(index[used].max()) + 1
    share /= share.sum(axis=1, keepdims=True)
    rows = np.broadcast_to(np.arange(count)[:, None], index.shape)
    weights = csr_array(
        (share[used], (rows[used], index[used] - first)), (count, stop - first)
    )
    return Axis(first, stop, weights)


def resample(pixels: Pixels, rows: Axis, columns: Axis) -> Pixels:
    """Weigh pixels, as far as they are valid.

    Args:
        pixels: Rows and columns of the old grid that the axes need.
        rows: How new rows are made.
        columns: How new columns are made.

    Returns:
        Values of the same type, valid where any that they are made of is.
    """
    values, valid = pixels.values, pixels.valid
    # Integers of up to 16 bits are exact in 32 bits.
    small = values.dtype.itemsize <= 2 or values.dtype == np.float32
    exact = np.float32 if small else np.float64
    weights = rows.weights.astype(exact), columns.weights.astype(exact)
    if valid is None:
        mean, present = _weigh(values.astype(exact), *weights), None
    else:
        share = _weigh(valid.astype(exact), *weights)
        present = share > _NOTHING
        total = _weigh(np.where(valid, values, 0).astype(exact), *weights)
        mean = total / np.where(present, share, 1)
    if values.dtype.kind in 'iu':
        mean = np.rint(mean)
    return Pixels(np.ascontiguousarray(mean, values.dtype), present)


def _weigh(values: NDArray[Any], rows: Any, columns: Any) -> NDArray[Any]:
    height, width, bands = values.shape
    reduced = rows @ values.reshape(height, width * bands)
    turned = reduced.reshape(-1, width, bands).transpose(1, 0, 2)
    result = columns @ turned.reshape(width, -1)
    return result.reshape(columns.shape[0], -1, bands).transpose(1, 0, 2)
