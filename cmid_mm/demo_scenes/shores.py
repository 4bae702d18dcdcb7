# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Layouts of rivers and harbours."""

import numpy as np
from numpy.random import Generator

from .countryside import surroundings
from .pieces import raze
from .place import Frame, Ground, Mover, Plan, Strip, blob, pick, spaced
from .settlements import containers


def river(plan: Plan, rng: Generator) -> None:
    """A winding river with banks through any country; at times a bridge, boats."""
    extent = plan.extent
    surroundings(
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


def harbour(plan: Plan, rng: Generator) -> None:
    """A shore with jetties and moored boats, or a quay with large ships."""
    extent = plan.extent
    surroundings(plan, rng, ['suburb', 'yards', 'yards', 'meadow', 'scrub', 'woods'])
    frame = Frame(extent / 2, float(rng.uniform(0, 6.3)))
    shore = float(rng.uniform(-0.5, 0.1)) * extent
    reach = 1.5 * extent
    sea = frame.rectangle(0, shore + reach, 2 * reach, 2 * reach)
    raze(plan, sea)
    quay_width = float(rng.uniform(8, 20))
    quay = frame.rectangle(0, shore - quay_width / 2, 2 * reach, quay_width)
    raze(plan, quay)
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
    raze(plan, yard)
    plan.patches.append(Ground(yard, 'concrete', -0.5, height=1.5))
    x, y = map(float, frame.at(0.0, shore - 32))
    containers(plan, x, y, frame.angle, 1.4 * extent, 36, rng)
    for u in spaced(-0.7 * extent, 0.7 * extent, 20):
        spot = frame.at(u, shore - 6)
        plan.park(spot, frame.angle, rng, 0.6, lorry=0.7, moving=True)
