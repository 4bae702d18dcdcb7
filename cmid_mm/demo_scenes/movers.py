# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Drawing of vehicles and ships."""

import dataclasses

import numpy as np
from numpy.random import Generator

from .canvas import Canvas, Region, linear
from .place import CONTAINER_COLOURS, Mover, rectangle_corners
from .scene import BARE, IMPERVIOUS, RGB, SHIP, VEHICLE, WATER, Floats

_PAINTS: tuple[RGB, ...] = (
    (236, 236, 234),
    (232, 232, 230),
    (190, 192, 194),
    (140, 144, 148),
    (84, 86, 90),
    (34, 36, 40),
    (42, 44, 48),
    (150, 36, 34),
    (40, 66, 120),
    (170, 160, 130),
    (60, 84, 70),
)


def draw_movers(canvas: Canvas, rng: Generator) -> list[Mover]:
    """Draw vehicles and ships where their slot is free; returns those drawn whole."""
    water = canvas.cover == WATER
    free = {
        True: water,
        False: (canvas.cover == IMPERVIOUS) | (canvas.cover == BARE),
    }
    limit = canvas.plan.extent
    drawn = []
    # Luck for every slot, so that one slot does not shift the luck of the others.
    luck = rng.random((len(canvas.plan.movers), 2))
    slide = rng.normal(0, 0.12, (len(canvas.plan.movers), 3))
    for slot, (taken, paint), (dx, dy, turn) in zip(
        canvas.plan.movers, luck.tolist(), slide.tolist(), strict=True
    ):
        if taken >= slot.occupancy:
            continue
        mover = dataclasses.replace(
            slot, x=slot.x + dx, y=slot.y + dy, angle=slot.angle + 0.25 * turn
        )
        box = rectangle_corners(
            mover.x, mover.y, mover.length, mover.width, mover.angle
        )
        if box.min() < 0 or box.max() > limit:
            continue
        found = canvas.local(mover.x, mover.y, mover.angle, mover.length, mover.width)
        if found is None:
            continue
        region, u, v = found
        edge = np.minimum(mover.length / 2 - np.abs(u), mover.width / 2 - np.abs(v))
        inside = edge > 0
        open_ground = free[mover.category == 'ship'][region]
        if not inside.any() or not open_ground[inside].all():
            continue
        if mover.category == 'ship':
            _draw_ship(canvas, mover, region, u, v, int(paint * 64))
        else:
            _draw_vehicle(canvas, mover, region, u, v, edge, int(paint * 64))
        open_ground[inside] = False
        drawn.append(mover)
    return drawn


def _draw_vehicle(
    canvas: Canvas,
    mover: Mover,
    region: Region,
    u: Floats,
    v: Floats,
    edge: Floats,
    paint: int,
) -> None:
    """A car with its glass, or a lorry with cab and trailer."""
    body = _PAINTS[paint % len(_PAINTS)]
    front = mover.length / 2
    colour = np.empty((*u.shape, 3), np.float32)
    colour[:] = linear(body)
    glass = linear((38, 44, 52))
    if mover.category == 'small-vehicle':
        rise = np.where(np.abs(u + 0.1 * front) < 0.55 * front, 1.5, 1.0)
        windscreen = np.abs(u - 0.30 * front) < 0.15 * front
        rear = np.abs(u + 0.66 * front) < 0.09 * front
        colour[windscreen | rear] = glass
        if paint % 7 == 0:  # a long roof without a visible rear window
            colour[rear] = linear(body)
    else:
        cab = u > front - 2.4
        load = _PAINTS[(paint // 3) % 4]
        colour[~cab] = linear(load)
        colour[np.abs(u - front + 2.5) < 0.3] = linear((60, 60, 60))
        colour[np.abs(u - front + 0.9) < 0.3] = glass
        rise = np.where(cab, 2.6, 3.6)
    colour *= (1 + 0.05 * canvas.grain[region])[..., None]
    alpha = canvas.coverage(edge.astype(np.float32))
    canvas.blend(region, alpha, colour)
    inside = edge > 0
    canvas.height[region][inside] += rise[inside].astype(np.float32)
    canvas.relief[region][inside] = 0
    canvas.cover[region][inside] = VEHICLE


def _draw_ship(
    canvas: Canvas, mover: Mover, region: Region, u: Floats, v: Floats, paint: int
) -> None:
    """A hull with deck, cabin or cargo; a wake when it is under way."""
    half, beam = mover.length / 2, mover.width / 2
    if mover.moving:
        _draw_wake(canvas, mover)
    taper = np.clip((u / half - 0.35) / 0.65, 0, 1)
    limit = beam * (1 - 0.92 * taper**2.2)
    edge = np.minimum(limit - np.abs(v), half - np.abs(u)).astype(np.float32)
    inside = edge > 0
    large = mover.length > 30
    hulls: tuple[RGB, ...] = (
        ((126, 62, 54), (70, 76, 84), (50, 74, 110), (150, 150, 146))
        if large
        else ((236, 236, 232), (226, 226, 220), (190, 186, 176), (70, 84, 120))
    )
    colour = np.empty((*u.shape, 3), np.float32)
    colour[:] = linear(hulls[paint % 4])
    deck = edge > (0.8 if large else 0.12 * mover.width)
    if not large:
        planks = ((204, 184, 150), (214, 212, 204), (176, 178, 176))[paint % 3]
        colour[deck] = linear(planks)
    rise = np.full(u.shape, 4.0 if large else 0.9, np.float32)
    if large:
        bridge = (u < -0.68 * half) & (u > -0.92 * half) & (np.abs(v) < 0.8 * beam)
        hold = (u > -0.6 * half) & (u < 0.66 * half) & (np.abs(v) < 0.78 * beam)
        cell = np.floor(u / 6.5).astype(int) * 7 + np.floor(v / 2.6).astype(int) * 3
        boxes = np.array(CONTAINER_COLOURS, np.float32)[(cell + paint) % 6]
        if paint % 2:
            colour[hold] = ((boxes / 255) ** 2)[hold]
            rise[hold] += (2.6 * (1 + (cell + paint) % 2))[hold]
        else:  # hatches
            hatch = hold & (u % 9 > 1.2)
            colour[hatch] = linear((150, 148, 138))
            rise[hatch] += 1.0
        colour[bridge] = linear((230, 230, 226))
        rise[bridge] += 9.0
    else:
        centre = -0.05 * half if paint % 4 else -0.3 * half
        cabin = (np.abs(u - centre) < 0.34 * half) & (np.abs(v) < 0.6 * beam)
        colour[cabin] = linear((240, 240, 238))
        rise[cabin] += 1.4
        pane = (np.abs(u - centre - 0.3 * half) < 0.1 * half) & (np.abs(v) < 0.6 * beam)
        colour[pane] = linear((48, 60, 76))
        if paint % 5 == 0:  # a tarpaulin over the cockpit
            cloth = (u < -0.45 * half) & deck
            colour[cloth] = linear(((40, 60, 120), (110, 40, 40))[paint % 2])
    colour *= (1 + 0.05 * canvas.grain[region])[..., None]
    canvas.blend(region, canvas.coverage(edge), colour)
    canvas.height[region][inside] = rise[inside]
    canvas.relief[region][inside] = 0
    canvas.cover[region][inside] = SHIP
    canvas.sheen[region][inside] = 0


def _draw_wake(canvas: Canvas, mover: Mover) -> None:
    """Foam behind a ship under way and its two bow waves."""
    trail = 4.0 * mover.length
    back = mover.length / 2 + trail / 2 - 0.4 * mover.length
    x = mover.x - back * np.cos(mover.angle)
    y = mover.y - back * np.sin(mover.angle)
    found = canvas.local(float(x), float(y), mover.angle, trail, 0.8 * trail)
    if found is None:
        return
    region, u, v = found
    behind = np.clip(trail / 2 - u, 0, None)  # metres behind the bow
    fade = np.exp(-behind / (0.45 * trail)) * (u < trail / 2)
    spread = np.abs(v) - (0.3 * mover.width + 0.30 * behind)
    arms = np.exp(-((spread / (0.4 + 0.05 * behind)) ** 2))
    foam = np.exp(-((v / (0.35 * mover.width + 0.05 * behind)) ** 2))
    foam *= behind > 0.6 * mover.length
    texture = np.clip(0.7 + 0.5 * canvas.fine[0][region], 0, 1.5)
    alpha = np.clip(fade * (0.35 * arms + 0.75 * foam) * texture, 0, 0.9)
    alpha = alpha * (canvas.cover[region] == WATER)
    canvas.blend(region, alpha.astype(np.float32), linear((214, 222, 222)))
