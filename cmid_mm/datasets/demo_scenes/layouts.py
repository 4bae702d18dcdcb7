# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Where things stand in each class of scene, and how a place changes."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np
from numpy.random import Generator

from .place import (
    CONTAINER_COLOURS,
    Building,
    Frame,
    Ground,
    Mover,
    Plan,
    Stalls,
    Strip,
    Trees,
    blob,
    inside_polygon,
    pick,
    rectangle_corners,
    scatter,
    spaced,
    split_parcels,
)
from .scene import BARE, LOW_VEGETATION, RGB, TREE, Bytes, Floats

_HOUSE_ROOFS: tuple[RGB, ...] = (
    (150, 92, 72),
    (118, 110, 104),
    (92, 88, 88),
    (164, 140, 116),
    (186, 178, 166),
    (128, 98, 82),
)
_SHED_ROOFS: tuple[RGB, ...] = (
    (198, 198, 194),
    (166, 168, 168),
    (120, 124, 130),
    (150, 160, 170),
    (214, 210, 200),
    (146, 92, 78),
    (104, 120, 110),
)


def _house(
    plan: Plan, x: float, y: float, angle: float, rng: Generator, style: int
) -> float:
    """Add a house, at times with a wing; returns its length."""
    length, width = float(rng.uniform(9, 15)), float(rng.uniform(7, 10))
    shade = float(rng.uniform(0.8, 1.2))
    base = _HOUSE_ROOFS[(style + int(rng.random() < 0.3)) % len(_HOUSE_ROOFS)]
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


def _hall(
    plan: Plan, x: float, y: float, length: float, width: float, angle: float,
    rng: Generator,
) -> None:  # fmt: skip
    """Add a large commercial or industrial building."""
    shade = float(rng.uniform(0.75, 1.15))
    base = pick(rng, _SHED_ROOFS)
    colour = (base[0] * shade, base[1] * shade, base[2] * shade)
    roof = pick(rng, ['flat', 'flat', 'gable', 'shed', 'barrel', 'flat'])
    eaves = float(rng.uniform(5, 12))
    detail = int(rng.integers(1 << 31))
    plan.buildings.append(
        Building(x, y, length, width, angle, eaves, roof, colour, detail)
    )


def _fields(
    plan: Plan,
    rng: Generator,
    target: float,
    outline: Floats | None = None,
    hedges: float = 0.3,
) -> list[Floats]:
    """Cover the place (or ``outline``) with parcels; returns their outlines."""
    extent = plan.extent
    if outline is None:
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


def _woods(
    plan: Plan, rng: Generator, spacing: float, outline: Floats | None = None
) -> None:
    """Plant a dense stand over the place or inside ``outline``."""
    xy = scatter(-6, plan.extent + 6, spacing, rng)
    if outline is not None:
        xy = xy[inside_polygon(outline, xy[:, 0], xy[:, 1])]
    plan.plant(xy, rng, (0.52 * spacing, 1.0 * spacing))


def _surroundings(plan: Plan, rng: Generator, kinds: Sequence[str]) -> None:
    """Fill the place with one kind of countryside or suburb."""
    kind, extent = pick(rng, kinds), plan.extent
    base = {'woods': 'litter', 'scrub': 'scrub', 'bare': 'bare'}.get(kind, 'meadow')
    plan.grounds.append(Ground(None, base, plan.lawn))
    if kind == 'fields':
        _fields(plan, rng, float(rng.uniform(35, 80)))
    elif kind == 'woods':
        _woods(plan, rng, float(rng.uniform(3.8, 6.5)))
    elif kind == 'suburb':
        _streets(plan, rng)
    elif kind == 'yards':
        _yards(plan, rng)
    for _ in range(int(rng.integers(0, 4))):
        x, y = rng.uniform(0, extent, 2)
        patch = blob(x, y, float(rng.uniform(0.08, 0.25)) * extent, rng)
        if kind in ('meadow', 'scrub', 'bare'):
            _woods(plan, rng, float(rng.uniform(3.5, 6)), patch)
        elif kind == 'woods':
            material = pick(rng, ['meadow', 'bare', 'scrub'])
            _clear(plan, patch)
            plan.grounds.append(Ground(patch, material, ragged=1.5))
    if kind in ('meadow', 'scrub', 'bare'):
        count = int(rng.uniform(0.0004, 0.004) * extent**2)
        plan.plant(rng.uniform(0, extent, (count, 2)).astype(np.float32), rng)


def _clear(plan: Plan, outline: Floats) -> None:
    """Remove the trees inside an outline."""
    for i, trees in enumerate(plan.trees):
        keep = ~inside_polygon(outline, trees.x, trees.y)
        plan.trees[i] = Trees(
            *(getattr(trees, item.name)[keep] for item in dataclasses.fields(trees))
        )


def _farmland(plan: Plan, rng: Generator) -> None:
    """Parcels with rows, field edges, tracks; at times a farm, a pond, a pivot."""
    extent = plan.extent
    plan.grounds.append(Ground(None, pick(rng, ['meadow', 'grass', 'bare'])))
    hedges = float(rng.choice([0.0, 0.1, 0.3]))
    _fields(plan, rng, float(rng.uniform(0.25, 0.9)) * extent, hedges=hedges)
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
        _hall(plan, x, y, 24, 11, frame.heading(u), rng)
        x, y = map(float, frame.at(u + 12, v - 6))
        _house(plan, x, y, frame.heading(u), rng, int(rng.integers(6)))
        near = frame.at(u, v) + rng.normal(0, 16, (9, 2))
        plan.plant(near.astype(np.float32), rng)
    if rng.random() < 0.15:
        x, y = rng.uniform(0, extent, 2)
        pond = blob(x, y, float(rng.uniform(8, 0.22 * extent + 8)), rng)
        plan.grounds.append(Ground(pond, 'water', ragged=1.5))


def _forest(plan: Plan, rng: Generator) -> None:
    """A closed or open stand with clearings, rides, now and then a stream or pond."""
    extent = plan.extent
    plan.grounds.append(Ground(None, pick(rng, ['litter', 'litter', 'scrub'])))
    spacing = float(rng.uniform(3.4, 7.0))
    _woods(plan, rng, spacing)
    if rng.random() < 0.4:  # a second stand of another kind
        plan.evergreen = 1.0 - plan.evergreen
        x, y = rng.uniform(0, extent, 2)
        patch = blob(x, y, 0.45 * extent, rng)
        _clear(plan, patch)
        _woods(plan, rng, float(rng.uniform(3.2, 6)), patch)
    for _ in range(int(rng.integers(0, 3))):
        x, y = rng.uniform(0, extent, 2)
        patch = blob(x, y, float(rng.uniform(0.06, 0.24)) * extent, rng)
        _clear(plan, patch)
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


def _streets(plan: Plan, rng: Generator) -> None:
    """A grid of (bent) streets with houses, drives, gardens, pools and cars."""
    extent = plan.extent
    bend = float(rng.choice([0.0, 0.0, 0.06])) * extent
    frame = Frame(
        extent / 2, rng.uniform(0, 6.3), bend, 2.2 * extent, rng.uniform(0, 6.3)
    )
    depth, road = float(rng.uniform(24, 34)), float(rng.uniform(6, 9))
    block = 2 * depth + road + 3
    offset = float(rng.uniform(0, block))
    reach = 0.75 * extent + 15
    style = int(rng.integers(len(_HOUSE_ROOFS)))
    plot = float(rng.uniform(15, 24))
    greens = float(rng.uniform(0, 3.5))
    surface = pick(rng, ['asphalt', 'asphalt', 'concrete'])
    pavement = pick(rng, ['concrete', 'concrete', None])
    cross = float(rng.uniform(-0.5, 0.5)) * extent
    for v0 in spaced(-reach - offset, reach, block):
        plan.strips.append(
            Strip(
                frame.line(v0, reach),
                road,
                surface,
                int(rng.random() < 0.3) * 2,
                False,
                pavement,
                1.5,
            )
        )
        for u in spaced(-reach, reach, 14):
            for side in (-1, 1):
                spot = frame.at(u, v0 + side * (road / 2 - 1.3))
                plan.park(spot, frame.heading(u), rng, 0.18, lorry=0.05)
        for side in (-1, 1):
            for u in spaced(-reach, reach, plot):
                if abs(u - cross) < road / 2 + plot / 2:
                    continue
                _plot(plan, frame, float(u), float(v0), side, road, depth, plot,
                      style, greens, rng)  # fmt: skip
    plan.strips.append(
        Strip(frame.cross_line(cross, reach), road, surface, 2, False, pavement, 1.5)
    )


def _plot(
    plan: Plan, frame: Frame, u: float, street: float, side: int, road: float,
    depth: float, plot: float, style: int, greens: float, rng: Generator,
) -> None:  # fmt: skip
    """One property: lawn, house, drive, trees, at times a pool or a shed."""
    near = frame.at(u, street + side * depth / 2)
    if not (near > -depth).all() or not (near < plan.extent + depth).all():
        return
    angle = frame.heading(u)
    front = street + side * (road / 2 + 1.5)
    tone = float(np.clip(plan.lawn + rng.normal(0, 0.5), -1, 1))
    garden = frame.rectangle(u, front + side * depth / 2, plot - 0.4, depth)
    material = 'grass' if rng.random() < 0.85 else pick(rng, ['bare', 'gravel'])
    plan.grounds.append(Ground(garden, material, tone))
    if rng.random() < 0.06:
        return  # an empty plot
    back = float(rng.uniform(9, 12))
    x, y = map(float, frame.at(u + rng.normal(0, 0.8), front + side * back))
    turn = angle + (np.pi / 2 if rng.random() < 0.25 else 0.0)
    length = min(_house(plan, x, y, turn, rng, style), plot)
    end = u + pick(rng, [-1, 1]) * min(length / 2 - 2, plot / 2 - 2)
    drive = frame.rectangle(end, front + side * 3.4, 3.2, 8.6)
    plan.grounds.append(Ground(drive, pick(rng, ['concrete', 'concrete', 'asphalt'])))
    plan.park(frame.at(end, front + side * 3.2), angle + np.pi / 2, rng, 0.4)
    if rng.random() < 0.14:
        spot = frame.at(u + rng.uniform(-3, 3), front + side * (depth - 6))
        pool = blob(float(spot[0]), float(spot[1]), 2.8, rng)
        plan.grounds.append(Ground(pool, 'pool', ragged=0.0))
    if rng.random() < 0.3:
        spot = frame.at(u + rng.uniform(-5, 5), front + side * (depth - 3.5))
        colour = pick(rng, _HOUSE_ROOFS)
        plan.buildings.append(
            Building(
                float(spot[0]), float(spot[1]), 3.6, 2.8, angle, 2.2, 'gable', colour, 1
            )
        )
    count = int(rng.poisson(greens))
    where = rng.choice([2.5, depth - 4, depth - 6, depth - 2], count)
    along = u + rng.uniform(-plot / 2, plot / 2, count)
    plan.plant(frame.at(along, front + side * where), rng, (1.2, 3.8))
    if rng.random() < 0.25:  # a hedge along the side
        reach = np.arange(1, depth, 1.4, dtype=np.float32)
        edge = np.full_like(reach, u + plot / 2)
        plan.plant(frame.at(edge, front + side * reach), rng, (0.7, 1.1))


def _residential(plan: Plan, rng: Generator) -> None:
    """Houses along streets, or blocks of flats on lawns with car parks."""
    plan.grounds.append(Ground(None, 'grass', plan.lawn))
    if rng.random() < 0.78:
        _streets(plan, rng)
        return
    extent = plan.extent
    frame = Frame(extent / 2, rng.uniform(0, 6.3))
    reach = 0.75 * extent
    pitch_u, pitch_v = float(rng.uniform(44, 60)), float(rng.uniform(34, 44))
    colour = pick(rng, _SHED_ROOFS[:5] + _HOUSE_ROOFS)
    roof = pick(rng, ['flat', 'flat', 'hip'])
    for row, v in enumerate(spaced(-reach + rng.uniform(0, 30), reach, pitch_v)):
        if row % 3 == 1:
            plan.strips.append(
                Strip(frame.line(v, reach), 7, 'asphalt', 2, False, 'concrete', 1.5)
            )
            for u in spaced(-reach, reach, 2.7):
                for side in (-1, 1):
                    spot = frame.at(u, v + side * 6.8)
                    plan.park(spot, frame.angle + np.pi / 2, rng, 0.45)
            lot = frame.rectangle(0, v, 2 * reach, 19)
            plan.grounds.append(Ground(lot, 'asphalt'))
            continue
        for u in spaced(-reach + rng.uniform(0, 20), reach, pitch_u):
            x, y = map(float, frame.at(u, v))
            detail = int(rng.integers(1 << 31))
            plan.buildings.append(
                Building(x, y, 34, 12.5, frame.angle, 12.0, roof, colour, detail)
            )
            path = frame.rectangle(u, v + 8.5, pitch_u, 1.8)
            plan.grounds.append(Ground(path, 'concrete'))
    count = int(rng.uniform(0.002, 0.008) * extent**2)
    plan.plant(rng.uniform(0, extent, (count, 2)).astype(np.float32), rng)


def _yards(plan: Plan, rng: Generator) -> None:
    """Lots with halls, yards, tanks, containers and lorries between roads."""
    extent = plan.extent
    frame = Frame(extent / 2, float(rng.uniform(0, 6.3)))
    square = rectangle_corners(
        extent / 2, extent / 2, 1.5 * extent, 1.5 * extent, frame.angle
    )
    for lot in split_parcels(square, float(rng.uniform(45, 75)), rng):
        middle = lot.mean(0)
        x, y = map(float, middle)
        edges = np.roll(lot, -1, 0) - lot
        sides = np.linalg.norm(edges, axis=1)
        edge = edges[int(sides.argmax())]
        angle = float(np.arctan2(edge[1], edge[0]))
        long_side, short_side = float(sides.max()), float(np.sort(sides)[-3])
        inner = (middle + (lot - middle) * 0.86).astype(np.float32)
        material = pick(
            rng, ['concrete', 'asphalt', 'asphalt', 'gravel', 'concrete', 'bare']
        )
        plan.grounds.append(Ground(lot, 'grass', plan.lawn))
        plan.grounds.append(Ground(inner, material, float(rng.uniform(-1, 1))))
        local = Frame(0.0, angle)
        use = rng.random()
        if use < 0.12:
            _tanks(plan, x, y, min(long_side, short_side), rng)
        elif use < 0.26:
            _containers(plan, x, y, angle, 0.7 * long_side, 0.6 * short_side, rng)
        elif use < 0.94:
            length = long_side * float(rng.uniform(0.45, 0.72))
            width = short_side * float(rng.uniform(0.35, 0.6))
            shift = short_side * 0.4 - width / 2
            dx, dy = local.at(0.0, shift)
            _hall(plan, x + float(dx), y + float(dy), length, width, angle, rng)
            for u in spaced(-0.4 * long_side, 0.4 * long_side, 4.0):
                spot = middle + local.at(u, -0.33 * short_side)
                plan.park(spot, angle + np.pi / 2, rng, 0.4, lorry=0.35)
        else:
            plan.plant(scatter(0, extent, 9, rng), rng)
        rim = rng.random(int(rng.integers(0, 7)))
        for corner, step in zip(lot, edges, strict=True):
            if rng.random() < 0.3:
                trees = corner + 0.03 * (middle - corner) + rim[:, None] * step
                plan.plant(trees.astype(np.float32), rng, (1.2, 2.6))
        start = lot[int(sides.argmax())]
        path = np.stack([start, start + edge]).astype(np.float32)
        if rng.random() < 0.6:
            plan.strips.append(Strip(path, 7, 'asphalt', 2))
            lane = start + edge * rng.random() + local.at(0.0, 1.7)
            plan.park(lane, angle, rng, 0.7, lorry=0.4, moving=True)


def _tanks(plan: Plan, x: float, y: float, side: float, rng: Generator) -> None:
    """A tank farm around (x, y)."""
    radius = float(rng.uniform(4, 0.16 * side + 4))
    colour = pick(rng, _SHED_ROOFS[:5])
    frame = Frame(0.0, float(rng.uniform(0, 3)))
    for u in (-1, 0, 1):
        for v in (-1, 0):
            if rng.random() < 0.8:
                dx, dy = frame.at(u * 2.5 * radius, (v + 0.5) * 2.5 * radius)
                plan.buildings.append(
                    Building(x + float(dx), y + float(dy), 2 * radius, 2 * radius,
                              0.0, float(rng.uniform(5, 12)), 'tank', colour, 0)
                )  # fmt: skip


def _containers(
    plan: Plan, x: float, y: float, angle: float, length: float, width: float,
    rng: Generator,
) -> None:  # fmt: skip
    """Stacks of 6 m and 12 m containers over a rectangle."""
    frame = Frame(0.0, angle)
    for v in spaced(-width / 2, width / 2, 8.0):
        for row in (0.0, 2.7):
            for u in spaced(-length / 2, length / 2, 12.6):
                if rng.random() < 0.25:
                    continue
                dx, dy = frame.at(u, v + row)
                tiers = int(rng.integers(1, 4))
                plan.buildings.append(
                    Building(x + float(dx), y + float(dy), 12.2, 2.5, angle,
                              2.6 * tiers, 'box', pick(rng, CONTAINER_COLOURS), 0)
                )  # fmt: skip


def _industrial(plan: Plan, rng: Generator) -> None:
    """Lots with halls and yards."""
    base = pick(rng, ['grass', 'asphalt', 'bare'])
    plan.grounds.append(Ground(None, base, plan.lawn))
    _yards(plan, rng)


def _parking(plan: Plan, rng: Generator) -> None:
    """Rows of stalls with cars, planted islands, a shop or a road beside."""
    extent = plan.extent
    _surroundings(plan, rng, ['meadow', 'scrub', 'suburb', 'yards', 'woods'])
    frame = Frame(extent / 2, float(rng.uniform(0, 6.3)))
    half_u = float(rng.uniform(0.36, 0.8)) * extent
    half_v = float(rng.uniform(0.3, 0.7)) * extent
    shift = float(rng.uniform(-0.15, 0.15)) * extent
    lot = frame.rectangle(0, shift, 2 * half_u + 8, 2 * half_v + 8)
    material = pick(rng, ['asphalt', 'asphalt', 'concrete', 'gravel'])
    _raze(plan, frame.rectangle(0, shift, 2 * half_u + 22, 2 * half_v + 22))
    plan.patches.append(Ground(lot, material, float(rng.uniform(-0.6, 0.6))))
    aisle, stall = float(rng.uniform(5.5, 7)), 5.2
    slant = float(rng.choice([0.0, 0.0, 0.45]))
    occupancy = float(rng.uniform(0.2, 0.95))
    pitch, island = 2.7, rng.random() < 0.6
    for v in spaced(-half_v + stall, half_v - stall, 2 * stall + aisle):
        x, y = map(float, frame.at(0.0, v + shift))
        if material != 'gravel':
            plan.patches.append(Stalls(x, y, 2 * half_u, 2 * stall, frame.angle, pitch))
        for u in spaced(-half_u + pitch / 2, half_u, pitch):
            planted = island and abs((u + half_u) % 32.4 - 1.35) < 1.4
            if planted:
                bed = frame.rectangle(u, v + shift, pitch, 2 * stall)
                plan.patches.append(Ground(bed, 'grass', plan.lawn))
                spots = frame.at(np.array([u, u]), v + shift + np.array([-2.5, 2.5]))
                plan.plant(spots, rng, (1.0, 2.6))
                continue
            for side in (-1, 1):
                spot = frame.at(u, v + shift + side * stall / 2)
                angle = frame.angle + side * (np.pi / 2) + slant
                plan.park(spot, angle, rng, occupancy)
        lane = frame.at(rng.uniform(-half_u, half_u), v + shift + stall + aisle / 2)
        plan.park(lane, frame.angle, rng, 0.5, lorry=0.1, moving=True)
    if rng.random() < 0.5:
        width = float(rng.uniform(20, 40))
        x, y = map(float, frame.at(0.0, shift + half_v + 6 + width / 2))
        _raze(plan, frame.rectangle(0, shift + half_v + 6 + width / 2, 999, width))
        length = float(rng.uniform(0.8, 1.8)) * half_u
        _hall(plan, x, y, length, width, frame.angle, rng)


_S = TypeVar('_S', 'Building', 'Mover')


def _raze(plan: Plan, outline: Floats) -> None:
    """Remove buildings, trees and slots inside an outline."""
    _clear(plan, outline)

    def outside(items: list[_S]) -> list[_S]:
        if not items:
            return items
        x = np.array([item.x for item in items], np.float32)
        y = np.array([item.y for item in items], np.float32)
        keep = ~inside_polygon(outline, x, y)
        return [item for item, kept in zip(items, keep, strict=True) if kept]

    plan.buildings = outside(plan.buildings)
    plan.movers = outside(plan.movers)


def _highway(plan: Plan, rng: Generator) -> None:
    """Two carriageways through any country; at times ramps and an overpass."""
    extent = plan.extent
    _surroundings(
        plan, rng, ['fields', 'meadow', 'woods', 'scrub', 'suburb', 'bare', 'yards']
    )
    frame = Frame(
        extent / 2, float(rng.uniform(0, 6.3)), float(rng.uniform(0, 0.08)) * extent,
        2.5 * extent, float(rng.uniform(0, 6.3)),
    )  # fmt: skip
    lanes = int(rng.integers(2, 5))
    width, median = 3.6 * lanes + 2, float(rng.uniform(1, 14))
    middle = float(rng.uniform(-0.18, 0.18)) * extent
    surface = pick(rng, ['asphalt', 'asphalt', 'concrete'])
    reach = 0.9 * extent + 10
    corridor = frame.rectangle(0, middle, 3 * extent, 2 * width + median + 16)
    _raze(plan, corridor)
    verge = Strip(frame.line(middle, reach), 2 * width + median + 12, 'grass',
                   wander=1.0)  # fmt: skip
    plan.strips.append(verge)
    busy = float(rng.uniform(0.1, 0.6))
    for side in (-1, 1):
        v = middle + side * (median + width) / 2
        plan.strips.append(
            Strip(frame.line(v, reach), width, surface, lanes, True, 'gravel', 0.8)
        )
        for lane in range(lanes):
            lane_v = v + (lane - (lanes - 1) / 2) * 3.6
            u = -reach
            while u < reach:
                u += float(rng.uniform(9, 34))
                heading = frame.heading(u) + (0.0 if side > 0 else np.pi)
                spot = frame.at(u, lane_v)
                plan.park(spot, heading, rng, busy, lorry=0.18, moving=True)
    if rng.random() < 0.45:
        us = np.linspace(-0.2 * extent, reach, 25)
        share = np.clip((us + 0.2 * extent) / (0.6 * extent), 0, None)
        vs = middle + median / 2 + width + share**2 * 0.5 * extent
        _raze(plan, frame.rectangle(0.3 * extent, float(vs[10]), extent, 20))
        plan.strips.append(Strip(frame.at(us, vs), 5.5, surface, 1, True, 'grass', 3.0))
    if rng.random() < 0.35:
        u0 = float(rng.uniform(-0.3, 0.3)) * extent
        tilt = float(rng.normal(0, 0.15)) * extent
        ends = np.array([u0 - tilt, u0 + tilt], np.float32)
        path = frame.at(ends, np.array([-reach, reach], np.float32))
        plan.strips.append(Strip(path, 9, surface, 2, True, 'concrete', 1.0, 0.0, 6.5))
    elif rng.random() < 0.4:
        path = frame.line(middle + pick(rng, [-1, 1]) * (width + median + 22), reach)
        plan.strips.append(Strip(path, 7, 'asphalt', 2))


def _river(plan: Plan, rng: Generator) -> None:
    """A winding river with banks through any country; at times a bridge, boats."""
    extent = plan.extent
    _surroundings(
        plan, rng, ['fields', 'fields', 'meadow', 'woods', 'scrub', 'suburb', 'yards']
    )
    frame = Frame(
        extent / 2, float(rng.uniform(0, 6.3)), float(rng.uniform(0.03, 0.17)) * extent,
        float(rng.uniform(0.9, 2.2)) * extent, float(rng.uniform(0, 6.3)),
    )  # fmt: skip
    width = max(float(rng.uniform(0.13, 0.40)) * extent, 9.0)
    wander = float(rng.uniform(0.004, 0.03)) * extent
    v0, reach = float(rng.uniform(-0.15, 0.15)) * extent, 1.1 * extent
    path = frame.line(v0, reach)
    bank = pick(rng, ['sand', 'bare', 'meadow', 'litter', 'gravel'])
    margin = float(rng.uniform(1.5, 0.1 * extent))
    plan.strips.append(Strip(path, width + 2 * margin, bank, wander=1.6 * wander + 0.3))
    plan.strips.append(Strip(path, width, 'water', wander=wander))
    for _ in range(int(rng.integers(0, 3))):
        spot = frame.at(rng.uniform(-0.5, 0.5) * extent, v0 + rng.normal(0, width / 3))
        bar = blob(float(spot[0]), float(spot[1]), 0.16 * width, rng)
        material = pick(rng, ['sand', 'gravel', 'meadow'])
        plan.patches.append(Ground(bar, material, ragged=1.5))
    if rng.random() < 0.65:
        count = int(rng.uniform(0.3, 1.5) * extent / 4)
        for side in (-1, 1):
            us = rng.uniform(-0.8, 0.8, count) * extent
            v = v0 + side * (width / 2 + margin * rng.uniform(0.4, 1.6, count))
            plan.plant(frame.at(us, v), rng, (1.5, 4.0))
    if rng.random() < 0.3:
        u = float(rng.uniform(-0.35, 0.35)) * extent
        deck = frame.cross_line(u, reach)
        plan.strips.append(
            Strip(
                deck,
                float(rng.uniform(7, 13)),
                pick(rng, ['asphalt', 'concrete']),
                2,
                False,
                'concrete',
                1.0,
                0.0,
                5.0,
            )
        )
    for _ in range(int(rng.integers(0, 3))):
        u = float(rng.uniform(-0.4, 0.4)) * extent
        spot = frame.at(u, v0)
        length = min(float(rng.uniform(6, 22)), 0.8 * width)
        plan.movers.append(
            Mover(float(spot[0]), float(spot[1]), frame.heading(u), 'ship', 0.7,
                   length, 0.3 * length, True)
        )  # fmt: skip


def _harbour(plan: Plan, rng: Generator) -> None:
    """A shore with jetties and moored boats, or a quay with large ships."""
    extent = plan.extent
    _surroundings(plan, rng, ['suburb', 'yards', 'yards', 'meadow', 'scrub', 'woods'])
    frame = Frame(extent / 2, float(rng.uniform(0, 6.3)))
    shore = float(rng.uniform(-0.5, 0.1)) * extent
    reach = 1.5 * extent
    sea = frame.rectangle(0, shore + reach, 2 * reach, 2 * reach)
    _raze(plan, sea)
    quay_width = float(rng.uniform(8, 20))
    quay = frame.rectangle(0, shore - quay_width / 2, 2 * reach, quay_width)
    _raze(plan, quay)
    natural = rng.random() < 0.3
    if natural:
        plan.patches.append(Ground(quay, pick(rng, ['sand', 'gravel']), ragged=4))
        plan.patches.append(Ground(sea, 'water', ragged=5))
    else:
        paving = pick(rng, ['concrete', 'asphalt'])
        plan.patches.append(Ground(quay, paving, height=1.5))
        plan.patches.append(Ground(sea, 'water'))
    if rng.random() < 0.72 or natural:
        _marina(plan, frame, shore, rng)
    else:
        _port(plan, frame, shore, rng)
    if rng.random() < 0.5:
        u, v = rng.uniform(-0.4, 0.4) * extent, shore + rng.uniform(0.5, 0.9) * extent
        spot, length = frame.at(u, v), float(rng.uniform(7, 20))
        angle = frame.angle + float(rng.uniform(0, 6.3))
        plan.movers.append(
            Mover(float(spot[0]), float(spot[1]), angle, 'ship', 0.8, length,
                   0.28 * length, True)
        )  # fmt: skip
    if not natural:
        for u in spaced(-0.7 * extent, 0.7 * extent, 5.5):
            spot = frame.at(u, shore - quay_width + 3)
            plan.park(spot, frame.angle, rng, 0.3, lorry=0.2)


def _marina(plan: Plan, frame: Frame, shore: float, rng: Generator) -> None:
    """Jetties across the shore with boats on both sides."""
    extent = plan.extent
    boat = float(rng.uniform(6.5, 15))
    beam, jetty = 0.34 * boat, float(rng.uniform(1.4, 3.0))
    gap = 2 * boat + jetty + float(rng.uniform(5, 12))
    reach = float(rng.uniform(0.5, 1.2)) * extent
    occupancy = float(rng.uniform(0.45, 0.95))
    surface = pick(rng, ['planks', 'concrete'])
    slip = beam + float(rng.uniform(0.5, 1.2))
    for u in spaced(-0.8 * extent + rng.uniform(0, gap), 0.8 * extent, gap):
        dock = frame.rectangle(u, shore + reach / 2 - 1, jetty, reach)
        plan.patches.append(Ground(dock, surface, height=0.8))
        for v in spaced(shore + 6, shore + reach, slip):
            for side in (-1, 1):
                size = boat * float(rng.uniform(0.7, 1.0))
                spot = frame.at(u + side * (jetty / 2 + size / 2 + 0.5), v)
                angle = frame.angle + (np.pi if rng.random() < 0.5 else 0.0)
                plan.movers.append(
                    Mover(float(spot[0]), float(spot[1]), angle, 'ship', occupancy,
                           size, min(beam, 0.36 * size))
                )  # fmt: skip
            if slip > 3.4 and round((v - shore) / slip) % 2 == 0:  # finger piers
                pier = frame.rectangle(u, v + slip / 2, 1.5 * boat, 0.7)
                plan.patches.append(Ground(pier, surface, height=0.5))


def _port(plan: Plan, frame: Frame, shore: float, rng: Generator) -> None:
    """Large ships alongside the quay and a pier, with containers ashore."""
    extent = plan.extent
    length = float(np.clip(rng.uniform(0.3, 0.7) * extent, 22, 140))
    beam = length * float(rng.uniform(0.14, 0.2))
    u0 = float(rng.uniform(-0.3, 0.3)) * extent
    pier = float(rng.uniform(8, 16))
    side = pick(rng, [-1, 1])
    dock = frame.rectangle(u0, shore + 0.4 * extent, pier, 0.8 * extent + 4)
    plan.patches.append(Ground(dock, 'concrete', height=2.0))
    for flank in (-1, 1):
        spot = frame.at(u0 + flank * (pier + beam + 3) / 2, shore + 0.62 * length + 6)
        angle = frame.angle + side * np.pi / 2
        plan.movers.append(
            Mover(float(spot[0]), float(spot[1]), angle, 'ship', 0.8, length, beam)
        )
    for u in (u0 - 0.7 * extent, u0 + 0.65 * extent):
        spot = frame.at(u, shore + beam * 0.45 + 2)
        plan.movers.append(
            Mover(float(spot[0]), float(spot[1]), frame.angle, 'ship', 0.7,
                   0.8 * length, 0.85 * beam)
        )  # fmt: skip
    yard = frame.rectangle(0, shore - 26, 3 * extent, 52)
    _raze(plan, yard)
    plan.patches.append(Ground(yard, 'concrete', -0.5, height=1.5))
    x, y = map(float, frame.at(0.0, shore - 32))
    _containers(plan, x, y, frame.angle, 1.4 * extent, 36, rng)
    for u in spaced(-0.7 * extent, 0.7 * extent, 20):
        spot = frame.at(u, shore - 6)
        plan.park(spot, frame.angle, rng, 0.6, lorry=0.7, moving=True)


LAYOUTS: dict[str, Callable[[Plan, Generator], None]] = {
    'farmland': _farmland,
    'forest': _forest,
    'harbour': _harbour,
    'highway': _highway,
    'industrial': _industrial,
    'parking': _parking,
    'residential': _residential,
    'river': _river,
}


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
    style = int(rng.integers(len(_HOUSE_ROOFS)))
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
        _raze(after, site)
        material = pick(rng, ['bare', 'gravel', 'concrete', 'grass'])
        after.grounds.append(Ground(site, material, ragged=0.8))
        if large:
            _hall(after, x, y, length, width, angle, rng)
        else:
            _house(after, x, y, angle, rng, style)
    for _ in range(int(rng.integers(0, 3))):
        place = spot(green)
        if place is None:
            continue
        patch = blob(*place, float(rng.uniform(0.08, 0.2)) * extent, rng)
        material = pick(rng, ['bare', 'water', 'asphalt', 'meadow', 'litter', 'bare'])
        _raze(after, patch)
        after.grounds.append(Ground(patch, material, ragged=1.2))
        if material == 'litter':
            _woods(after, rng, float(rng.uniform(3.5, 5.5)), patch)
    return after
