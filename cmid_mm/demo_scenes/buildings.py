# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Drawing of buildings and their roofs."""

import numpy as np
from numpy.random import Generator, SeedSequence, default_rng

from .canvas import Canvas, linear
from .place import Building
from .scene import BUILDING, WATER, Floats


def draw_building(canvas: Canvas, building: Building) -> None:
    """Raise a building, unless it would stand on a road or in water."""
    found = canvas.local(
        building.x, building.y, building.angle, building.length, building.width
    )
    if found is None:
        return
    region, u, v = found
    half_u = np.float32(building.length / 2)
    half_v = np.float32(building.width / 2)
    edge_u, edge_v = half_u - np.abs(u), half_v - np.abs(v)
    edge = np.minimum(edge_u, edge_v)
    if building.roof == 'tank':
        edge = half_u - np.hypot(u, v)
    inside = edge > 0
    blocked = canvas.roadway[region] | (canvas.cover[region] == WATER)
    if not inside.any() or (blocked & inside).any():
        return
    rise, value = _roof(canvas, building, u, v, edge_u, edge_v, edge)
    value += 0.05 * canvas.patchy[1][region] + 0.04 * canvas.fine[1][region]
    value += 0.04 * canvas.grain[region]
    colour = linear(building.colour) * np.clip(value, 0.2, 1.8)[..., None]
    rng = default_rng(SeedSequence(building.detail))
    if building.roof == 'flat' or (building.roof == 'shed' and building.length > 20):
        _roof_units(canvas, building, u, v, rise, colour, rng)
    elif building.roof in ('gable', 'hip'):
        u0 = float(rng.uniform(-0.3, 0.3)) * building.length
        stack = np.maximum(np.abs(u - u0), np.abs(v - 0.8)) < 0.45
        rise[stack] += 1.2
        colour[stack] = linear((120, 84, 70))
        if building.length > 8 and rng.random() < 0.18:  # solar panels
            panel = (np.abs(u + u0) < 2.6) & (v > 0.9) & (v < half_v - 0.9)
            colour[panel] = linear((36, 44, 66))
    height = building.eaves + rise
    inside &= height > canvas.height[region]
    canvas.blend(region, canvas.coverage(edge) * (inside | (edge <= 0)), colour)
    canvas.height[region][inside] = height[inside]
    canvas.relief[region][inside] = 0
    canvas.cover[region][inside] = BUILDING
    canvas.sheen[region][inside] = 0


def _roof(
    canvas: Canvas,
    building: Building,
    u: Floats,
    v: Floats,
    edge_u: Floats,
    edge_v: Floats,
    edge: Floats,
) -> tuple[Floats, Floats]:
    """Height above the eaves in metres and relative brightness of a roof, (H, W)."""
    value = np.ones_like(u)
    seam = max(1.1, 2.5 * canvas.gsd)
    if building.roof == 'gable':
        pitch = 0.5 if building.width < 14 else 0.16
        rise = pitch * edge_v
        value += 0.05 * np.sin(u * np.float32(2 * np.pi / seam))
        value += 0.12 * canvas.coverage(0.2 - np.abs(v))
    elif building.roof == 'hip':
        rise = 0.5 * edge
        tile = max(0.45, 2.6 * canvas.gsd)
        value += 0.05 * np.sin(edge * np.float32(2 * np.pi / tile))
        value += 0.10 * canvas.coverage(0.2 - np.abs(edge_u - edge_v))
    elif building.roof == 'shed':  # a row of saw teeth
        span = building.length / max(round(building.length / 9), 1)
        phase = (u + building.length / 2) % span
        rise = 0.28 * phase
        value -= 0.35 * canvas.coverage(phase - 0.8 * span)
    elif building.roof == 'barrel':
        share = np.clip(v / (building.width / 2), -1, 1)
        rise = 0.22 * building.width * np.sqrt(1 - share * share)
        value += 0.05 * np.sin(u * np.float32(2 * np.pi / seam))
    elif building.roof == 'tank':
        rise = 0.08 * edge
        value -= 0.15 * canvas.coverage(0.4 - np.abs(edge - 0.5))
    elif building.roof == 'box':
        rise = np.zeros_like(u)
        value += 0.10 * np.sin(u * np.float32(2 * np.pi / max(0.6, 2.5 * canvas.gsd)))
    else:
        rim = canvas.coverage(0.5 - edge)
        rise = 0.7 * rim
        value += 0.18 * rim
        bay = 6.0
        joint = np.minimum(u % bay, v % bay)
        value -= 0.06 * canvas.coverage(0.12 - joint)
    return rise.astype(np.float32), value.astype(np.float32)


def _roof_units(
    canvas: Canvas,
    building: Building,
    u: Floats,
    v: Floats,
    rise: Floats,
    colour: Floats,
    rng: Generator,
) -> None:
    """Put air conditioning, hatches and skylights on a flat roof, in place."""
    count = int(np.clip(building.length * building.width / 60, 1, 9))
    grid = rng.random() < 0.4
    for i in range(count):
        a, b = rng.uniform(0.5, 1.6, 2)
        if grid:
            u0 = building.length * ((i + 0.5) / count - 0.5)
            v0 = 0.2 * building.width
        else:
            u0 = float(rng.uniform(-0.4, 0.4)) * building.length
            v0 = float(rng.uniform(-0.38, 0.38)) * building.width
        unit = (np.abs(u - u0) < a) & (np.abs(v - v0) < b)
        if rng.random() < 0.6:
            rise[unit] += 1.3
            colour[unit] = linear((176, 176, 174))
        else:
            colour[unit] = linear((92, 104, 116)) * float(rng.uniform(0.8, 2.2))
