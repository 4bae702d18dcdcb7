# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Layouts of residential and industrial areas."""

import numpy as np
from numpy.random import Generator

from .pieces import HOUSE_ROOFS, SHED_ROOFS, hall, house
from .place import (
    CONTAINER_COLOURS,
    Building,
    Frame,
    Ground,
    Plan,
    Strip,
    blob,
    pick,
    rectangle_corners,
    scatter,
    spaced,
    split_parcels,
)


def streets(plan: Plan, rng: Generator) -> None:
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
    style = int(rng.integers(len(HOUSE_ROOFS)))
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
    length = min(house(plan, x, y, turn, rng, style), plot)
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
        colour = pick(rng, HOUSE_ROOFS)
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


def residential(plan: Plan, rng: Generator) -> None:
    """Houses along streets, or blocks of flats on lawns with car parks."""
    plan.grounds.append(Ground(None, 'grass', plan.lawn))
    if rng.random() < 0.78:
        streets(plan, rng)
        return
    extent = plan.extent
    frame = Frame(extent / 2, rng.uniform(0, 6.3))
    reach = 0.75 * extent
    pitch_u, pitch_v = float(rng.uniform(44, 60)), float(rng.uniform(34, 44))
    colour = pick(rng, SHED_ROOFS[:5] + HOUSE_ROOFS)
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


def yards(plan: Plan, rng: Generator) -> None:
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
            containers(plan, x, y, angle, 0.7 * long_side, 0.6 * short_side, rng)
        elif use < 0.94:
            length = long_side * float(rng.uniform(0.45, 0.72))
            width = short_side * float(rng.uniform(0.35, 0.6))
            shift = short_side * 0.4 - width / 2
            dx, dy = local.at(0.0, shift)
            hall(plan, x + float(dx), y + float(dy), length, width, angle, rng)
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
    colour = pick(rng, SHED_ROOFS[:5])
    frame = Frame(0.0, float(rng.uniform(0, 3)))
    for u in (-1, 0, 1):
        for v in (-1, 0):
            if rng.random() < 0.8:
                dx, dy = frame.at(u * 2.5 * radius, (v + 0.5) * 2.5 * radius)
                plan.buildings.append(
                    Building(x + float(dx), y + float(dy), 2 * radius, 2 * radius,
                              0.0, float(rng.uniform(5, 12)), 'tank', colour, 0)
                )  # fmt: skip


def containers(
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


def industrial(plan: Plan, rng: Generator) -> None:
    """Lots with halls and yards."""
    base = pick(rng, ['grass', 'asphalt', 'bare'])
    plan.grounds.append(Ground(None, base, plan.lawn))
    yards(plan, rng)
