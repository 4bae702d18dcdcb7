# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Pieces that layouts of several classes are made of."""

import dataclasses
from typing import TypeVar

import numpy as np
from numpy.random import Generator

from .place import (
    Building,
    Ground,
    Mover,
    Plan,
    Trees,
    inside_polygon,
    pick,
    rectangle_corners,
    scatter,
    split_parcels,
)
from .scene import RGB, Floats

HOUSE_ROOFS: tuple[RGB, ...] = (
    (150, 92, 72),
    (118, 110, 104),
    (92, 88, 88),
    (164, 140, 116),
    (186, 178, 166),
    (128, 98, 82),
)

SHED_ROOFS: tuple[RGB, ...] = (
    (198, 198, 194),
    (166, 168, 168),
    (120, 124, 130),
    (150, 160, 170),
    (214, 210, 200),
    (146, 92, 78),
    (104, 120, 110),
)


def house(
    plan: Plan, x: float, y: float, angle: float, rng: Generator, style: int
) -> float:
    """Add a house, at times with a wing; returns its length."""
    length, width = float(rng.uniform(9, 15)), float(rng.uniform(7, 10))
    shade = float(rng.uniform(0.8, 1.2))
    base = HOUSE_ROOFS[(style + int(rng.random() < 0.3)) % len(HOUSE_ROOFS)]
    colour = (base[0] * shade, base[1] * shade, base[2] * shade)
    eaves = float(rng.uniform(2.8, 6.0))
    roof = pick(rng, ['gable', 'hip', 'hip', 'gable', 'flat'])
    detail = int(rng.integers(1 << 31))
    plan.buildings.append(
        Building(x, y, length, width, angle, eaves, roof, colour, detail)
    )
    if rng.random() < 0.45:
        side = pick(rng, [-1, 1])
        u, v = side * length * 0.24, width * 0.45 * pick(rng, [-1, 1])
        c, s = np.cos(angle), np.sin(angle)
        plan.buildings.append(
            Building(
                float(x + u * c - v * s),
                float(y + u * s + v * c),
                width,
                length * 0.45,
                angle + np.pi / 2,
                eaves - 0.4,
                roof,
                colour,
                detail + 1,
            )
        )
    return length


def hall(
    plan: Plan, x: float, y: float, length: float, width: float, angle: float,
    rng: Generator,
) -> None:  # fmt: skip
    """Add a large commercial or industrial building."""
    shade = float(rng.uniform(0.75, 1.15))
    base = pick(rng, SHED_ROOFS)
    colour = (base[0] * shade, base[1] * shade, base[2] * shade)
    roof = pick(rng, ['flat', 'flat', 'gable', 'shed', 'barrel', 'flat'])
    eaves = float(rng.uniform(5, 12))
    detail = int(rng.integers(1 << 31))
    plan.buildings.append(
        Building(x, y, length, width, angle, eaves, roof, colour, detail)
    )


def fields(
    plan: Plan,
    rng: Generator,
    target: float,
    hedges: float = 0.3,
) -> list[Floats]:
    """Cover the place with parcels; returns their outlines."""
    extent = plan.extent
    outline = rectangle_corners(
        extent / 2, extent / 2, 2 * extent, 2 * extent, rng.uniform(0, 6.3)
    )
    parcels = split_parcels(outline, target, rng)
    favourite = pick(rng, ['crop', 'crop', 'soil'])
    main_angle = float(rng.uniform(0, np.pi))
    for parcel in parcels:
        edges = np.roll(parcel, -1, 0) - parcel
        edge = edges[int(np.linalg.norm(edges, axis=1).argmax())]
        angle = float(np.arctan2(edge[1], edge[0]))
        material = pick(rng, ['crop', 'crop', favourite, favourite, 'soil', 'meadow'])
        spacing = 0.0 if material == 'meadow' else float(rng.uniform(0.8, 4.5))
        angle = main_angle if rng.random() < 0.3 else angle
        tone = float(rng.uniform(-1, 1))
        plan.grounds.append(Ground(parcel, material, tone, angle, spacing, 0.5))
        if material == 'meadow' and rng.random() < 0.25:  # orchard
            low, high = parcel.min(0), parcel.max(0)
            gap = float(rng.uniform(5, 8))
            u, v = np.meshgrid(
                np.arange(low[0], high[0], gap), np.arange(low[1], high[1], gap)
            )
            xy = np.stack([u.ravel(), v.ravel()], -1).astype(np.float32)
            xy = xy[inside_polygon(parcel, xy[:, 0], xy[:, 1])]
            plan.plant(xy, rng, (0.26 * gap, 0.36 * gap), 0.0)
        for start, step in zip(parcel, edges, strict=True):
            if rng.random() < hedges:
                count = max(int(np.linalg.norm(step) / rng.uniform(2.5, 6)), 2)
                share = np.linspace(0, 1, count)
                if rng.random() < 0.3:
                    share = rng.random(count)
                xy = start + share[:, None] * step + rng.normal(0, 0.5, (count, 2))
                plan.plant(xy.astype(np.float32), rng, (1.2, 2.8))
    return parcels


def woods(
    plan: Plan, rng: Generator, spacing: float, outline: Floats | None = None
) -> None:
    """Plant a dense stand over the place or inside ``outline``."""
    xy = scatter(-6, plan.extent + 6, spacing, rng)
    if outline is not None:
        xy = xy[inside_polygon(outline, xy[:, 0], xy[:, 1])]
    plan.plant(xy, rng, (0.52 * spacing, 1.0 * spacing))


def clear(plan: Plan, outline: Floats) -> None:
    """Remove the trees inside an outline."""
    for i, trees in enumerate(plan.trees):
        keep = ~inside_polygon(outline, trees.x, trees.y)
        plan.trees[i] = Trees(
            *(getattr(trees, item.name)[keep] for item in dataclasses.fields(trees))
        )


_S = TypeVar('_S', 'Building', 'Mover')


def raze(plan: Plan, outline: Floats) -> None:
    """Remove buildings, trees and slots inside an outline."""
    clear(plan, outline)

    def outside(items: list[_S]) -> list[_S]:
        if not items:
            return items
        x = np.array([item.x for item in items], np.float32)
        y = np.array([item.y for item in items], np.float32)
        keep = ~inside_polygon(outline, x, y)
        return [item for item, kept in zip(items, keep, strict=True) if kept]

    plan.buildings = outside(plan.buildings)
    plan.movers = outside(plan.movers)
