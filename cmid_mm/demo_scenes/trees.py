# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Drawing of trees."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .canvas import Canvas, linear, nearest_pixels
from .place import Trees
from .scene import BARE, LOW_VEGETATION, TREE, Floats


def draw_trees(canvas: Canvas, trees: Sequence[Trees]) -> None:
    """Grow the crowns of all trees that stand on free ground."""
    if not trees:
        return
    joined = {
        item.name: np.concatenate([getattr(part, item.name) for part in trees])
        for item in dataclasses.fields(Trees)
    }
    column = np.floor(joined['x'] / canvas.gsd).astype(int) + canvas.rim
    row = np.floor(joined['y'] / canvas.gsd).astype(int) + canvas.rim
    inside = (column >= 0) & (column < canvas.shape[1])
    inside &= (row >= 0) & (row < canvas.shape[0])
    here = np.flatnonzero(inside)
    ground = canvas.cover[row[here], column[here]]
    free = (ground == LOW_VEGETATION) | (ground == BARE)
    here = here[free & ~canvas.roadway[row[here], column[here]]]
    if not len(here):
        return
    index = here[nearest_pixels(row[here], column[here], canvas.shape)]
    radius = joined['radius'][index]
    conifer = joined['conifer'][index]
    dx, dy = canvas.x - joined['x'][index], canvas.y - joined['y'][index]
    rough = 1 + 0.20 * canvas.fine[0] + 0.10 * canvas.grain
    share = np.hypot(dx, dy) / radius * rough
    crown = np.where(conifer, 1 - share, np.sqrt(np.clip(1 - share * share, 0, 1)))
    tall = (joined['radius'] * np.where(joined['conifer'], 3.2, 1.9))[index]
    tall = tall.astype(np.float32)
    top = tall * np.where(conifer, 0.25 + 0.75 * crown, 0.5 + 0.5 * crown)
    leaves = (share < 1) & (top > canvas.height)
    colour = _foliage(canvas, joined['tint'][here], joined['conifer'][here], here,
                      len(joined['x']))[index]  # fmt: skip
    light = 0.72 + 0.34 * crown + 0.20 * canvas.fine[1] + 0.10 * canvas.grain
    colour = colour * np.clip(light, 0.2, 1.8)[..., None]
    alpha = canvas.coverage((1 - share) * radius) * leaves
    alpha *= np.where(conifer, 1.0, 1.0 - 0.45 * canvas.look.leafless)
    everywhere = (slice(0, canvas.shape[0]), slice(0, canvas.shape[1]))
    canvas.blend(everywhere, alpha.astype(np.float32), colour)
    lower = canvas.look.leafless * ~conifer
    canvas.height[leaves] = (top * (1 - 0.5 * lower))[leaves]
    canvas.relief[leaves] = (0.22 * (canvas.fine[0] + canvas.grain))[leaves]
    canvas.cover[leaves] = TREE
    canvas.sheen[leaves] = 0


def _foliage(
    canvas: Canvas,
    tint: Floats,
    conifer: NDArray[np.bool_],
    slots: NDArray[np.int_],
    total: int,
) -> Floats:
    """Linear colour of each tree in this season, (total, 3); rows in ``slots`` set."""
    look = canvas.look
    green = linear((66, 94, 48)) * (0.6 + 0.4 * look.greenness)
    dry = linear((104, 104, 62))
    leaf = dry + (0.3 + 0.7 * look.greenness) * (green - dry)
    turned = np.where(
        (tint < 0.4)[:, None],
        linear((168, 124, 56)),
        np.where((tint < 0.7)[:, None], linear((152, 82, 50)), leaf),
    )
    colour = leaf + look.autumn * (turned - leaf)
    colour = colour + look.leafless * (linear((118, 106, 94)) - colour)
    colour = np.where(conifer[:, None], linear((46, 66, 46)), colour)
    result = np.zeros((total, 3), np.float32)
    result[slots] = colour * (0.7 + 0.6 * tint)[:, None]
    return result
