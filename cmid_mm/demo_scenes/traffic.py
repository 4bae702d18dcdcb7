# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Layouts of highways and parking lots."""

import numpy as np
from numpy.random import Generator

from .countryside import surroundings
from .pieces import hall, raze
from .place import Frame, Ground, Plan, Stalls, Strip, pick, spaced


def parking(plan: Plan, rng: Generator) -> None:
    """Rows of stalls with cars, planted islands, a shop or a road beside."""
    extent = plan.extent
    surroundings(plan, rng, ['meadow', 'scrub', 'suburb', 'yards', 'woods'])
    frame = Frame(extent / 2, float(rng.uniform(0, 6.3)))
    half_u = float(rng.uniform(0.36, 0.8)) * extent
    half_v = float(rng.uniform(0.3, 0.7)) * extent
    shift = float(rng.uniform(-0.15, 0.15)) * extent
    lot = frame.rectangle(0, shift, 2 * half_u + 8, 2 * half_v + 8)
    material = pick(rng, ['asphalt', 'asphalt', 'concrete', 'gravel'])
    raze(plan, frame.rectangle(0, shift, 2 * half_u + 22, 2 * half_v + 22))
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
        raze(plan, frame.rectangle(0, shift + half_v + 6 + width / 2, 999, width))
        length = float(rng.uniform(0.8, 1.8)) * half_u
        hall(plan, x, y, length, width, frame.angle, rng)


def highway(plan: Plan, rng: Generator) -> None:
    """Two carriageways through any country; at times ramps and an overpass."""
    extent = plan.extent
    surroundings(
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
    raze(plan, corridor)
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
        raze(plan, frame.rectangle(0.3 * extent, float(vs[10]), extent, 20))
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
