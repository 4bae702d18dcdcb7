# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Layouts of farmland and forest, and the surroundings of others."""

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator

from .pieces import clear, fields, hall, house, woods
from .place import Frame, Ground, Plan, Strip, blob, inside_polygon, pick, scatter
from .settlements import streets, yards


def surroundings(plan: Plan, rng: Generator, kinds: Sequence[str]) -> None:
    """Fill the place with one kind of countryside or suburb."""
    kind, extent = pick(rng, kinds), plan.extent
    base = {'woods': 'litter', 'scrub': 'scrub', 'bare': 'bare'}.get(kind, 'meadow')
    plan.grounds.append(Ground(None, base, plan.lawn))
    if kind == 'fields':
        fields(plan, rng, float(rng.uniform(35, 80)))
    elif kind == 'woods':
        woods(plan, rng, float(rng.uniform(3.8, 6.5)))
    elif kind == 'suburb':
        streets(plan, rng)
    elif kind == 'yards':
        yards(plan, rng)
    for _ in range(int(rng.integers(0, 4))):
        x, y = rng.uniform(0, extent, 2)
        patch = blob(x, y, float(rng.uniform(0.08, 0.25)) * extent, rng)
        if kind in ('meadow', 'scrub', 'bare'):
            woods(plan, rng, float(rng.uniform(3.5, 6)), patch)
        elif kind == 'woods':
            material = pick(rng, ['meadow', 'bare', 'scrub'])
            clear(plan, patch)
            plan.grounds.append(Ground(patch, material, ragged=1.5))
    if kind in ('meadow', 'scrub', 'bare'):
        count = int(rng.uniform(0.0004, 0.004) * extent**2)
        plan.plant(rng.uniform(0, extent, (count, 2)).astype(np.float32), rng)


def farmland(plan: Plan, rng: Generator) -> None:
    """Parcels with rows, field edges, tracks; at times a farm, a pond, a pivot."""
    extent = plan.extent
    plan.grounds.append(Ground(None, pick(rng, ['meadow', 'grass', 'bare'])))
    hedges = float(rng.choice([0.0, 0.1, 0.3]))
    fields(plan, rng, float(rng.uniform(0.25, 0.9)) * extent, hedges=hedges)
    if rng.random() < 0.15:
        x, y = rng.uniform(0, extent, 2)
        turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
        circle = np.stack([x + np.cos(turn) * extent / 2,
                           y + np.sin(turn) * extent / 2], -1)  # fmt: skip
        tone = float(rng.uniform(-1, 1))
        plan.grounds.append(Ground(circle.astype(np.float32), 'crop', tone, 0.3, 2.0))
    frame = Frame(
        extent / 2, rng.uniform(0, 6.3), rng.uniform(0, 3), 1.5 * extent, rng.random()
    )
    if rng.random() < 0.5:
        material, width = pick(rng, [('bare', 3.0), ('gravel', 3.5), ('asphalt', 5.0)])
        v = float(rng.uniform(-0.4, 0.4)) * extent
        path = frame.line(v, extent)
        plan.strips.append(Strip(path, width, material, wander=0.3))
        u = float(rng.uniform(-0.4, 0.4)) * extent
        plan.park(
            frame.at(u, v), frame.heading(u), rng, 0.6, lorry=0.5, moving=True
        )  # a tractor with its trailer, or a car
    if rng.random() < 0.25:
        u, v = rng.uniform(-0.35, 0.35, 2) * extent
        plan.grounds.append(Ground(frame.rectangle(u, v, 45, 34), 'gravel', ragged=2))
        x, y = map(float, frame.at(u - 8, v))
        hall(plan, x, y, 24, 11, frame.heading(u), rng)
        x, y = map(float, frame.at(u + 12, v - 6))
        house(plan, x, y, frame.heading(u), rng, int(rng.integers(6)))
        near = frame.at(u, v) + rng.normal(0, 16, (9, 2))
        plan.plant(near.astype(np.float32), rng)
    if rng.random() < 0.15:
        x, y = rng.uniform(0, extent, 2)
        pond = blob(x, y, float(rng.uniform(8, 0.22 * extent + 8)), rng)
        plan.grounds.append(Ground(pond, 'water', ragged=1.5))


def forest(plan: Plan, rng: Generator) -> None:
    """A closed or open stand with clearings, rides, now and then a stream or pond."""
    extent = plan.extent
    plan.grounds.append(Ground(None, pick(rng, ['litter', 'litter', 'scrub'])))
    spacing = float(rng.uniform(3.4, 7.0))
    woods(plan, rng, spacing)
    if rng.random() < 0.4:  # a second stand of another kind
        plan.evergreen = 1.0 - plan.evergreen
        x, y = rng.uniform(0, extent, 2)
        patch = blob(x, y, 0.45 * extent, rng)
        clear(plan, patch)
        woods(plan, rng, float(rng.uniform(3.2, 6)), patch)
    for _ in range(int(rng.integers(0, 3))):
        x, y = rng.uniform(0, extent, 2)
        patch = blob(x, y, float(rng.uniform(0.06, 0.24)) * extent, rng)
        clear(plan, patch)
        material = pick(rng, ['meadow', 'scrub', 'bare', 'meadow', 'water'])
        plan.grounds.append(Ground(patch, material, ragged=2.0))
        if material == 'scrub':  # young growth
            young = scatter(0, extent, 5, rng)
            young = young[inside_polygon(patch, young[:, 0], young[:, 1])]
            plan.plant(young, rng, (0.6, 1.4))
    if rng.random() < 0.45:
        frame = Frame(
            extent / 2, rng.uniform(0, 6.3), 0.08 * extent, 1.3 * extent, rng.random()
        )
        v = float(rng.uniform(-0.35, 0.35)) * extent
        material = pick(rng, ['bare', 'gravel', 'asphalt', 'water'])
        width = float(rng.uniform(3, 6))
        path = frame.line(v, extent)
        plan.strips.append(Strip(path, width, material, wander=0.6))
