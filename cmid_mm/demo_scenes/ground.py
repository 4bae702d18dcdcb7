# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Drawing of ground, strips (roads, rivers) and parking lots."""

import cv2
import numpy as np
from numpy.typing import NDArray

from .canvas import Canvas, Region, linear, nearest_pixels, texture
from .place import MATERIALS, Ground, Material, Stalls, Strip
from .scene import IMPERVIOUS, WATER, Floats


def draw_ground(canvas: Canvas, ground: Ground) -> None:
    """Lay a patch of ground."""
    material = MATERIALS[ground.material]
    region: Region | None = (slice(0, canvas.shape[0]), slice(0, canvas.shape[1]))
    if ground.outline is not None:
        region = canvas.window(ground.outline, 2 * ground.ragged)
    if region is None:
        return
    alpha: Floats
    if ground.outline is None:
        alpha = np.ones(canvas.shape, np.float32)
    else:
        alpha = canvas.fill(ground.outline, region)
        if ground.ragged:
            sigma = max(ground.ragged / canvas.gsd, 0.8)
            alpha = np.asarray(cv2.GaussianBlur(alpha, (0, 0), sigma), np.float32)
            rough = 0.5 * canvas.patchy[2][region] + 0.4 * canvas.fine[1][region]
            alpha = np.clip((alpha + 0.16 * rough - 0.5) * sigma * 1.2 + 0.5, 0, 1)
    inside = alpha > 0.5
    if not inside.any():
        return
    colour, relief = texture(canvas, region, ground)
    if ground.material == 'water' and ground.outline is not None:
        _shade_shallows(canvas, inside, colour)
    canvas.blend(region, alpha, colour)
    _settle(canvas, region, inside, material, relief)
    canvas.height[region][inside] = ground.height
    canvas.roadway[region][inside] = False


def _shade_shallows(canvas: Canvas, inside: NDArray[np.bool_], colour: Floats) -> None:
    """Lighten water along its shore, in place."""
    depth = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 3)
    near = np.exp(-depth * np.float32(canvas.gsd / 4.0))
    bed = linear(canvas.plan.soil)
    colour += (0.35 * near)[..., None] * (bed - colour)


def _settle(
    canvas: Canvas,
    region: Region,
    inside: NDArray[np.bool_],
    material: Material,
    relief: Floats,
) -> None:
    """Write cover, relief and sheen where ground became visible."""
    canvas.cover[region][inside] = material.cover
    canvas.relief[region][inside] = relief[inside]
    canvas.sheen[region][inside] = float(material.cover == WATER)


def draw_strip(canvas: Canvas, strip: Strip) -> None:
    """Lay a road, track or river with its verge and marks."""
    path, gsd = strip.path, canvas.gsd
    steps = np.diff(path, axis=0)
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(steps, axis=1))])
    stations = np.arange(0, length[-1], max(gsd, 1.0))
    px = np.interp(stations, length, path[:, 0])
    py = np.interp(stations, length, path[:, 1])
    reach = strip.width + strip.verge_width + 2 * strip.wander
    points = np.stack([px, py], -1).astype(np.float32)
    low, high = -reach - canvas.rim * gsd, canvas.plan.extent + reach
    high += canvas.rim * gsd
    near = ((points > low) & (points < high)).all(1)
    if near.sum() < 2:
        return
    region = canvas.window(points[near], reach)
    if region is None:
        return
    along, across = _strip_coordinates(canvas, region, points, stations)
    half = np.float32(strip.width / 2)
    wander = strip.wander * canvas.patchy[1][region] if strip.wander else 0.0
    edge = half + wander - np.abs(across)
    if strip.material == 'water':  # a river also narrows and widens
        edge = edge + 0.12 * half * canvas.broad[1][region]
    verge = edge + strip.verge_width
    inside = verge > 0
    if not inside.any():
        return
    if strip.height:
        canvas.height[region][inside] = strip.height
    if strip.verge:
        colour, relief = canvas.texture(region, Ground(None, strip.verge))
        canvas.blend(region, canvas.coverage(verge), colour)
        _settle(canvas, region, inside, MATERIALS[strip.verge], relief)
        if not strip.height:
            canvas.height[region][inside] = 0
    inside = edge > 0
    ground = Ground(None, strip.material, tone=(strip.width % 1) - 0.5)
    colour, relief = canvas.texture(region, ground)
    colour = colour.copy()  # painted on below
    if strip.material == 'water':
        _shade_shallows(canvas, inside, colour)
    if strip.lanes:
        _mark_lanes(canvas, strip, along, across, colour)
    elif strip.material in ('bare', 'gravel'):  # wheel ruts
        ruts = canvas.coverage(0.35 - np.abs(np.abs(across) - 0.8))
        colour *= (1 - 0.2 * ruts)[..., None]
    canvas.blend(region, canvas.coverage(edge), colour)
    _settle(canvas, region, inside, MATERIALS[strip.material], relief)
    canvas.roadway[region][inside] = MATERIALS[strip.material].cover == IMPERVIOUS
    if not strip.height:
        canvas.height[region][inside] = 0


def _strip_coordinates(
    canvas: Canvas, region: Region, points: Floats, stations: NDArray[np.float64]
) -> tuple[Floats, Floats]:
    """Metres along and (signed) across a path for each pixel of a region.

    Each pixel takes the nearest path sample from a labelled distance transform; the
    tangent there makes both coordinates exact to second order.
    """
    height = region[0].stop - region[0].start
    width = region[1].stop - region[1].start
    column = (points[:, 0] / canvas.gsd + canvas.rim - region[1].start).astype(int)
    row = (points[:, 1] / canvas.gsd + canvas.rim - region[0].start).astype(int)
    seen = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    if not seen.any():  # the path passes beside the region, its verge may not
        far = np.full((height, width), 1e6, np.float32)
        return far, far
    chosen = np.flatnonzero(seen)
    nearest = nearest_pixels(row[chosen], column[chosen], (height, width))
    index = chosen[nearest]
    tangents = np.gradient(points, axis=0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True) + 1e-6
    tx, ty = tangents[:, 0][index], tangents[:, 1][index]
    dx = canvas.x[region] - points[:, 0][index]
    dy = canvas.y[region] - points[:, 1][index]
    along = stations.astype(np.float32)[index] + dx * tx + dy * ty
    return along, dy * tx - dx * ty


def _mark_lanes(
    canvas: Canvas,
    strip: Strip,
    along: Floats,
    across: Floats,
    colour: Floats,
) -> None:
    """Paint wheel tracks and marks on a road, in place."""
    lane = (strip.width - (2.0 if strip.edge_lines else 0.0)) / strip.lanes
    within = (across / lane + strip.lanes / 2) % 1.0
    wear = 0.06 * np.cos(within * np.float32(4 * np.pi))
    colour *= (1 + wear)[..., None]
    paint = np.zeros_like(across)
    for divider in range(1, strip.lanes):
        at = (divider - strip.lanes / 2) * lane
        line = canvas.coverage(0.09 - np.abs(across - at))
        middle = 2 * divider == strip.lanes and not strip.edge_lines
        dashes = (along % 9 < 5) if middle else (along % 12 < 4)
        paint = np.maximum(paint, line * dashes)
    if strip.edge_lines:
        at = strip.lanes * lane / 2
        line = canvas.coverage(0.11 - np.abs(np.abs(across) - at))
        paint = np.maximum(paint, line)
    colour += (0.85 * paint)[..., None] * (linear((236, 234, 222)) - colour)


def draw_stalls(canvas: Canvas, stalls: Stalls) -> None:
    """Paint parking lines: stall dividers and the spine between two rows."""
    found = canvas.local(stalls.x, stalls.y, stalls.angle, stalls.length, stalls.width)
    if found is None:
        return
    region, u, v = found
    phase = (u + stalls.length / 2) % stalls.pitch
    divider = 0.07 - np.minimum(phase, stalls.pitch - phase)
    line = np.maximum(divider, 0.07 - np.abs(v))
    box = np.minimum(stalls.length / 2 - np.abs(u), stalls.width / 2 - np.abs(v))
    paint = canvas.coverage(np.minimum(line, box).astype(np.float32))
    canvas.blend(region, 0.75 * paint, linear((232, 230, 220)))
