# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Changes of a place between two dates."""

from collections.abc import Iterable

import numpy as np
from numpy.random import Generator

from .pieces import HOUSE_ROOFS, hall, house, raze, woods
from .place import Ground, Plan, blob, pick, rectangle_corners
from .scene import BARE, LOW_VEGETATION, TREE, Bytes


def edit_plan(plan: Plan, cover: Bytes, rng: Generator) -> Plan:
    """A later state of a place: demolished, built, cleared, planted or flooded."""
    after, extent = plan.copy(), plan.extent
    gsd = extent / len(cover)

    def spot(allowed: Iterable[int]) -> tuple[float, float] | None:
        for _ in range(24):
            row, column = rng.integers(len(cover) // 10, len(cover) * 9 // 10, 2)
            if cover[row, column] in allowed:
                return (float(column) + 0.5) * gsd, (float(row) + 0.5) * gsd
        return None

    demolish = float(rng.choice([0.0, 0.25, 0.5]))
    after.buildings = [b for b in after.buildings if rng.random() >= demolish]
    green = (LOW_VEGETATION, TREE, BARE)
    style = int(rng.integers(len(HOUSE_ROOFS)))
    for _ in range(int(rng.integers(1, 4))):
        place = spot(green)
        if place is None:
            continue
        x, y = place
        angle = float(rng.uniform(0, np.pi))
        if plan.buildings and rng.random() < 0.8:
            angle = pick(rng, plan.buildings).angle
        large = rng.random() < 0.4
        length = float(rng.uniform(18, 38)) if large else 14.0
        width = float(rng.uniform(12, 22)) if large else 11.0
        site = rectangle_corners(x, y, length + 7, width + 7, angle)
        raze(after, site)
        material = pick(rng, ['bare', 'gravel', 'concrete', 'grass'])
        after.grounds.append(Ground(site, material, ragged=0.8))
        if large:
            hall(after, x, y, length, width, angle, rng)
        else:
            house(after, x, y, angle, rng, style)
    for _ in range(int(rng.integers(0, 3))):
        place = spot(green)
        if place is None:
            continue
        patch = blob(*place, float(rng.uniform(0.08, 0.2)) * extent, rng)
        material = pick(rng, ['bare', 'water', 'asphalt', 'meadow', 'litter', 'bare'])
        raze(after, patch)
        after.grounds.append(Ground(patch, material, ragged=1.2))
        if material == 'litter':
            woods(after, rng, float(rng.uniform(3.5, 5.5)), patch)
    return after
