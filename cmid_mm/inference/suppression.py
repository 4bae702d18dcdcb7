# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Non-maximum suppression of any number of boxes."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmcv.ops import batched_nms
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from ..visualization.drawing import box_corners

#: Boxes that are compared all with all: time grows with the square of their number.
_TOGETHER = 2000


def suppress(
    boxes: Tensor, scores: Tensor, labels: Tensor, nms: dict[str, Any]
) -> tuple[Tensor, Tensor, Tensor]:
    """Keep the best of the boxes that overlap.

    Only boxes that overlap, directly or through others, have to do with each other: so
    they are compared in groups, with the result of comparing all.

    Args:
        boxes: (N, 5) oriented or (N, 4) upright ones.
        scores: Of each, (N,).
        labels: Class of each, (N,); boxes of two classes are not compared.
        nms: As in a config of the detector.

    Returns:
        Boxes, scores and labels that are left.
    """
    parts = []
    for indices in _groups(box_corners(boxes.cpu().numpy()), labels.cpu().numpy()):
        own = torch.as_tensor(indices, device=boxes.device)
        found, kept = batched_nms(boxes[own], scores[own], labels[own], dict(nms))
        # Some kinds lower scores, which come with the boxes.
        parts.append((boxes[own][kept], found[:, -1], labels[own][kept]))
    if not parts:
        return boxes, scores, labels
    kept_boxes, kept_scores, kept_labels = (
        torch.cat(tensors) for tensors in zip(*parts, strict=True)
    )
    return kept_boxes, kept_scores, kept_labels


def _groups(
    corners: NDArray[np.float64], labels: NDArray[np.int64]
) -> Iterator[NDArray[np.intp]]:
    """Divide boxes into groups of which none overlaps another, of about equal size."""
    count = len(corners)
    if count <= _TOGETHER:
        if count:
            yield np.arange(count)
        return
    pairs = np.concatenate(list(_overlapping(corners.reshape(-1, 4, 2), labels)))
    links = coo_array(
        (np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count)
    )
    _, components = connected_components(links, directed=False)
    order = np.argsort(components, kind='stable')
    ends = np.flatnonzero(np.diff(components[order], append=-1)) + 1
    start = 0
    for end, following in zip(ends, [*ends[1:], np.inf], strict=True):
        if following - start > _TOGETHER:
            yield order[start:end]
            start = end


def _overlapping(
    points: NDArray[np.float64], labels: NDArray[np.int64]
) -> Iterator[NDArray[np.intp]]:
    """Pairs of boxes of a class whose upright outlines overlap, (M, 2)."""
    low, high = points.min(1), points.max(1)
    order = np.argsort(low[:, 0], kind='stable')
    low, high, labels = low[order], high[order], labels[order]
    # To the right of a box only those can overlap it that begin before it ends.
    ends = np.searchsorted(low[:, 0], high[:, 0], side='right')
    for first in range(0, len(order), _TOGETHER):
        starts = np.arange(first, min(first + _TOGETHER, len(order)))
        counts = np.maximum(ends[starts] - starts - 1, 0)
        one = np.repeat(starts, counts)
        begins = np.repeat(np.cumsum(counts) - counts, counts)
        other = one + 1 + np.arange(len(one)) - begins
        touching = (low[other, 1] <= high[one, 1]) & (low[one, 1] <= high[other, 1])
        touching &= labels[one] == labels[other]
        yield np.stack((order[one[touching]], order[other[touching]]), 1)
