# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Outlines of regions of pixels, from nothing but their corners.

In a row of corners of a region, the first and the second are the ends of an edge, the
third and the fourth are, and so on; in a column likewise. So corners may be found some
rows at a time, and be held in any order until the region is complete. A corner is one
number: its row, its column, whether its edges lie right of it (else left) and below it
(else above), and whether an outline, with the region on its left, leaves it sideways.
"""

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, depth_first_order

_ROW, _COLUMN = 32, 3
_RIGHT, _BELOW, _SIDEWAYS = 4, 2, 1


def corners(
    numbers: NDArray[np.int32], top: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Find the corners of regions in the middle of each two by two pixels.

    Args:
        numbers: Number of each pixel's region, 0 for none, with one more pixel on each
            side: (h + 1, w + 2).
        top: Row of the upper edge of the second row of pixels.

    Returns:
        The region of each corner, ascending, and the corner.
    """
    beside = numbers[:, 1:] != numbers[:, :-1]
    upon = numbers[1:] != numbers[:-1]
    rows, columns = np.nonzero(
        (beside[:-1] | beside[1:]) & (upon[:, :-1] | upon[:, 1:])
    )
    # Upper left, lower left, upper right and lower right: a bit for each side.
    around = [numbers[rows + (n & 1), columns + (n >> 1)] for n in range(4)]
    places = (rows + top) << _ROW | columns << _COLUMN
    owners, found = [], []
    for which, own in enumerate(around):
        across, along, opposite = (around[which ^ other] for other in (2, 1, 3))
        alone = (own != across) & (own != along)
        for outer, owner, there in (
            (True, own, alone),
            (False, across, alone & (across == along) & (across == opposite)),
        ):
            there = there & (owner > 0)
            sideways = _SIDEWAYS * (outer == (which in (1, 2)))
            owners.append(owner[there])
            found.append(places[there] | which << 1 | sideways)
    owner = np.concatenate(owners)
    order = np.argsort(owner, kind='stable')
    return owner[order], np.concatenate(found)[order]


def outlined(owners: NDArray[np.intp], found: NDArray[np.int64]) -> NDArray[Any]:
    """Make polygons of shapely of all corners of regions.

    Args:
        owners: The region of each corner: 0, 1 and so on, ascending.
        found: The corners.

    Returns:
        The polygon of each region, with holes; column and row of its corners.
    """
    found = found[np.lexsort((found, owners))]
    # Where a region meets itself at a corner its outlines touch, and do not cross: they
    # go around the pixels of others.
    twice = (np.diff(found >> _COLUMN) == 0) & (np.diff(owners) == 0)
    found[:-1][twice] ^= _BELOW
    found[1:][twice] ^= _BELOW

    # Edges along rows lie between the corners 0 and 1, 2 and 3, and so on.
    places = _columns(found) << _ROW | found >> _ROW << 1 | (found & _BELOW) >> 1
    downwards = np.lexsort((places, owners))
    partner = np.empty(len(found), np.int32)
    partner[downwards[::2]], partner[downwards[1::2]] = downwards[1::2], downwards[::2]
    del places, downwards
    tails = np.arange(0, len(found), 2, dtype=np.int32)
    tails += found[::2] & _SIDEWAYS == 0
    order, starts = _cycles(partner[tails ^ 1] >> 1)
    tails = tails[order]
    points = np.stack((tails, tails ^ 1), 1).ravel()
    sizes = 2 * np.diff(starts, append=len(order))
    found, owners = found[points], owners[points[2 * starts]]
    rings = shapely.linearrings(
        _columns(found).astype(np.float64),
        (found >> _ROW).astype(np.float64),
        indices=np.repeat(np.arange(len(starts)), sizes),
    )
    # The first edge of a region is one of its outer ring, which so comes first.
    return shapely.polygons(rings, indices=owners)


def _columns(found: NDArray[np.int64]) -> NDArray[np.int64]:
    return (found & (1 << _ROW) - 1) >> _COLUMN


def _cycles(following: NDArray[np.int32]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Go through the cycles of a permutation, in the order of their least members.

    Args:
        following: What follows each one.

    Returns:
        All members, cycle after cycle, and where in them the cycles start.
    """
    count = len(following)
    each = np.arange(count + 1, dtype=np.int32)
    graph = csr_array((np.ones(count), following, each), (count, count))
    _, cycle = connected_components(graph, directed=False)
    first = np.sort(np.unique(cycle, return_index=True)[1])
    # In one path, the end of a cycle to the start of the next one.
    before = np.empty_like(following)
    before[following] = each[:-1]
    graph.indices[before[first]] = np.roll(first, -1)
    order = depth_first_order(graph, first[0], return_predecessors=False)
    is_first = np.zeros(count, bool)
    is_first[first] = True
    return order, np.flatnonzero(is_first[order])
