# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Drawing a plan into albedo, height and cover, and lighting it."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator, SeedSequence, default_rng
from numpy.typing import NDArray

from .place import (
    CONTAINER_COLOURS,
    MATERIALS,
    Building,
    Ground,
    Material,
    Mover,
    Plan,
    Stalls,
    Strip,
    Trees,
    rectangle_corners,
)
from .scene import (
    BARE,
    BUILDING,
    IMPERVIOUS,
    LOW_VEGETATION,
    RGB,
    SHIP,
    TREE,
    VEHICLE,
    WATER,
    Bytes,
    DemoScene,
    Floats,
    OrientedBox,
)

Region = tuple[slice, slice]


@dataclass(frozen=True)
class Look:
    """One acquisition; angles in radians, colours relative to white."""

    azimuth: float
    elevation: float
    greenness: float  # 0 dry .. 1 lush
    autumn: float  # 0 green .. 1 all leaves turned
    leafless: float  # 0 in leaf .. 1 bare crowns
    haze: float
    sky: RGB
    sun: RGB
    cast: RGB  # white balance error of the sensor
    balance: float  # how far the camera pulls the mean colour to grey
    exposure: float  # mean brightness that the camera aims for, in linear light
    gamma: float
    blur: float  # standard deviation of the point spread, in pixels
    noise: float  # standard deviation of the sensor noise, in linear light
    seed: int  # of traffic, waves and noise


def draw_look(rng: Generator) -> Look:
    """Draw an acquisition."""
    elevation = float(rng.uniform(0.42, 1.15))
    low = (1.15 - elevation) / 0.73
    season = rng.random()
    cast = 1 + rng.normal(0, (0.07, 0.04, 0.07))
    return Look(
        azimuth=float(rng.uniform(0, 2 * np.pi)),
        elevation=elevation,
        greenness=float(np.clip(rng.beta(1.3, 1.1), 0.03, 1)),
        autumn=float(rng.uniform(0.4, 1)) if season < 0.2 else 0.0,
        leafless=1.0 if season > 0.85 else 0.0,
        haze=float(rng.beta(1.2, 5)) * 0.55,
        sky=(0.86, 0.96, 1.16),
        sun=(1.0 + 0.08 * low, 1.0, 1.0 - 0.12 * low),
        cast=(float(cast[0]), float(cast[1]), float(cast[2])),
        balance=float(rng.uniform(0.0, 0.75)),
        exposure=float(np.exp(rng.uniform(np.log(0.09), np.log(0.38)))),
        gamma=float(rng.uniform(0.8, 1.3)),
        blur=float(rng.uniform(0.35, 0.75)),
        noise=float(rng.uniform(0.002, 0.012)),
        seed=int(rng.integers(1 << 31)),
    )


class _Canvas:
    """Albedo, height and land cover of a plan.

    A rim around the image lets things outside it cast their shadows into it.
    """

    def __init__(self, plan: Plan, look: Look, size: int) -> None:
        self.plan, self.look = plan, look
        self.gsd = plan.extent / size
        self.rim = int(np.clip(8 / self.gsd, 8, 24))
        side = size + 2 * self.rim
        self.shape = (side, side)
        steps = (np.arange(side, dtype=np.float32) - self.rim + 0.5) * self.gsd
        self.x = np.broadcast_to(steps[None], self.shape)
        self.y = np.broadcast_to(steps[:, None], self.shape)
        self.albedo = np.zeros((*self.shape, 3), np.float32)
        self.height = np.zeros(self.shape, np.float32)
        self.relief = np.zeros(self.shape, np.float32)
        self.cover = np.full(self.shape, LOW_VEGETATION, np.uint8)
        self.roadway = np.zeros(self.shape, bool)
        self.sheen = np.zeros(self.shape, np.float32)
        rng = default_rng(SeedSequence(plan.seed))
        self.broad = [self._fractal(rng, (45,)) for _ in range(2)]
        self.patchy = [self._fractal(rng, (14, 5)) for _ in range(3)]
        self.fine = [self._fractal(rng, (2.6, 1.3)) for _ in range(2)]
        self._textures: dict[Ground, tuple[Floats, Floats]] = {}
        self.grain = rng.standard_normal(self.shape, np.float32)

    def texture(self, region: Region, ground: Ground) -> tuple[Floats, Floats]:
        """Colour and relief of a boundless ground, made once for all that share it."""
        if ground not in self._textures:
            whole = (slice(0, self.shape[0]), slice(0, self.shape[1]))
            self._textures[ground] = _texture(self, whole, ground)
        colour, relief = self._textures[ground]
        return colour[region], relief[region]

    def _fractal(self, rng: Generator, wavelengths: Sequence[float]) -> Floats:
        """Smooth noise of unit variance, its octaves given in metres, (H, W)."""
        total = np.zeros(self.shape, np.float32)
        side = self.shape[0]
        weight = 1.0
        for wavelength in wavelengths:
            cells = int(np.ceil(side * self.gsd / wavelength)) + 2
            cells = min(cells, side)
            grid = rng.standard_normal((cells, cells), np.float32)
            octave = cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC)
            total += weight * np.asarray(octave, np.float32)
            weight *= 0.75
        total -= total.mean()
        total /= total.std() + np.float32(1e-6)
        return total

    def window(self, points: Floats, margin: float = 0.0) -> Region | None:
        """Pixels around world points, or None when they lie off the canvas."""
        low = (points.min(0) - margin) / self.gsd + self.rim
        high = (points.max(0) + margin) / self.gsd + self.rim
        x0, y0 = (max(int(value), 0) for value in low)
        x1 = min(int(high[0]) + 2, self.shape[1])
        y1 = min(int(high[1]) + 2, self.shape[0])
        if x0 >= x1 or y0 >= y1:
            return None
        return slice(y0, y1), slice(x0, x1)

    def local(
        self, x: float, y: float, angle: float, length: float, width: float
    ) -> tuple[Region, Floats, Floats] | None:
        """Pixels around a rotated rectangle with their metres along and across it."""
        region = self.window(rectangle_corners(x, y, length, width, angle), self.gsd)
        if region is None:
            return None
        dx, dy = self.x[region] - np.float32(x), self.y[region] - np.float32(y)
        c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        return region, dx * c + dy * s, dy * c - dx * s

    def fill(self, outline: Floats, region: Region) -> Floats:
        """Share of each pixel of a region that a polygon covers, 0..1."""
        corner = np.array([region[1].start, region[0].start]) - self.rim
        pixels = (outline / self.gsd - corner - 0.5) * 16
        alpha = np.zeros(
            (region[0].stop - region[0].start, region[1].stop - region[1].start),
            np.uint8,
        )
        limited = np.clip(np.rint(pixels), -(1 << 18), 1 << 18).astype(np.int32)
        cv2.fillPoly(alpha, [limited], 255, cv2.LINE_AA, 4)
        return alpha.astype(np.float32) / 255

    def coverage(self, inside: Floats) -> Floats:
        """Pixel coverage from the distance inside an edge in metres, 0..1."""
        return np.clip(inside / np.float32(self.gsd) + 0.5, 0, 1)

    def blend(self, region: Region, alpha: Floats, colour: Floats) -> None:
        """Lay a linear colour over the albedo."""
        albedo = self.albedo[region]
        albedo += alpha[..., None] * (colour - albedo)


def _linear(colour: Sequence[float]) -> Floats:
    """Display colour 0..255 to linear light 0..1 (gamma 2)."""
    return (np.asarray(colour, np.float32) / 255) ** 2


def _texture(canvas: _Canvas, region: Region, ground: Ground) -> tuple[Floats, Floats]:
    """Linear colour (H, W, 3) and relief in metres (H, W) of a patch of ground."""
    plan, look = canvas.plan, canvas.look
    material = MATERIALS[ground.material]
    patchy = canvas.patchy[int(abs(ground.tone) * 97) % 3][region]
    fine, grain = canvas.fine[0][region], canvas.grain[region]
    lush, dry = _linear(material.lush), _linear(material.dry)
    if ground.material in ('soil', 'bare'):
        soil = _linear(plan.soil)
        lush, dry = 0.35 * lush + 0.65 * soil, (0.35 * dry + 0.65 * soil) * 1.15
    elif ground.material == 'water':
        lush = dry = _linear(plan.water)
    elif ground.material == 'asphalt':
        lush, dry = lush * plan.paving, dry * plan.paving
    season = (look.greenness + 0.3 * ground.tone) + 0.9 * material.patchy * patchy
    colour = dry + np.clip(season, 0, 1)[..., None] * (lush - dry)
    value = 1 + 0.14 * ground.tone + material.patchy * 0.8 * patchy
    value += material.fine * fine + material.grain * grain
    value += 0.08 * canvas.broad[0][region]
    relief = material.relief * (0.8 * fine + 0.4 * grain)
    if ground.spacing:
        period = max(ground.spacing, 2.4 * canvas.gsd)
        c, s = math.cos(ground.angle), math.sin(ground.angle)
        across = canvas.y[region] * np.float32(c) - canvas.x[region] * np.float32(s)
        wobble = 0.25 * period * canvas.broad[1][region]
        rows = np.cos((across + wobble) * np.float32(2 * np.pi / period))
        depth = 0.10 + 0.22 * abs(math.cos(9 * ground.tone))
        bare = np.clip(depth * (1.1 - rows) - 0.05 * patchy, 0, 0.85)
        if ground.material == 'crop':
            colour += bare[..., None] * (_linear(plan.soil) - colour)
        value += 0.6 * depth * rows
        relief += 0.3 * depth * period * 0.3 * rows
        tram = np.abs(across % np.float32(18 + 6 * ground.tone) - 9)
        value -= 0.22 * canvas.coverage(0.45 - np.abs(tram - 1.0))
    elif ground.material == 'grass' and plan.seed % 3 == 0:  # mowing stripes
        across = canvas.x[region] * np.float32(0.8) + canvas.y[region] * np.float32(0.6)
        value += 0.04 * np.sign(np.sin(across * 2.0))
    elif ground.material == 'planks':
        value += 0.08 * np.sin((canvas.x[region] + canvas.y[region]) * 4.0)
    return colour * np.clip(value, 0.15, 2.2)[..., None], relief


def _draw_ground(canvas: _Canvas, ground: Ground) -> None:
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
    colour, relief = _texture(canvas, region, ground)
    if ground.material == 'water' and ground.outline is not None:
        _shade_shallows(canvas, inside, colour)
    canvas.blend(region, alpha, colour)
    _settle(canvas, region, inside, material, relief)
    canvas.height[region][inside] = ground.height
    canvas.roadway[region][inside] = False


def _shade_shallows(canvas: _Canvas, inside: NDArray[np.bool_], colour: Floats) -> None:
    """Lighten water along its shore, in place."""
    depth = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 3)
    near = np.exp(-depth * np.float32(canvas.gsd / 4.0))
    bed = _linear(canvas.plan.soil)
    colour += (0.35 * near)[..., None] * (bed - colour)


def _settle(
    canvas: _Canvas,
    region: Region,
    inside: NDArray[np.bool_],
    material: Material,
    relief: Floats,
) -> None:
    """Write cover, relief and sheen where ground became visible."""
    canvas.cover[region][inside] = material.cover
    canvas.relief[region][inside] = relief[inside]
    canvas.sheen[region][inside] = float(material.cover == WATER)


def _draw_strip(canvas: _Canvas, strip: Strip) -> None:
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
    canvas: _Canvas, region: Region, points: Floats, stations: NDArray[np.float64]
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
    nearest = _nearest(row[chosen], column[chosen], (height, width))
    index = chosen[nearest]
    tangents = np.gradient(points, axis=0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True) + 1e-6
    tx, ty = tangents[:, 0][index], tangents[:, 1][index]
    dx = canvas.x[region] - points[:, 0][index]
    dy = canvas.y[region] - points[:, 1][index]
    along = stations.astype(np.float32)[index] + dx * tx + dy * ty
    return along, dy * tx - dx * ty


def _nearest(
    rows: NDArray[np.int_], columns: NDArray[np.int_], shape: tuple[int, int]
) -> NDArray[np.int_]:
    """Index of the nearest of some pixels for every pixel, (H, W)."""
    empty = np.ones(shape, np.uint8)
    empty[rows, columns] = 0
    _, labels = cv2.distanceTransformWithLabels(
        empty, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    table = np.zeros(int(labels.max()) + 1, np.intp)
    table[labels[rows, columns]] = np.arange(len(rows))
    return table[labels]


def _mark_lanes(
    canvas: _Canvas,
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
    colour += (0.85 * paint)[..., None] * (_linear((236, 234, 222)) - colour)


def _draw_stalls(canvas: _Canvas, stalls: Stalls) -> None:
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
    canvas.blend(region, 0.75 * paint, _linear((232, 230, 220)))


def _draw_building(canvas: _Canvas, building: Building) -> None:
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
    colour = _linear(building.colour) * np.clip(value, 0.2, 1.8)[..., None]
    rng = default_rng(SeedSequence(building.detail))
    if building.roof == 'flat' or (building.roof == 'shed' and building.length > 20):
        _roof_units(canvas, building, u, v, rise, colour, rng)
    elif building.roof in ('gable', 'hip'):
        u0 = float(rng.uniform(-0.3, 0.3)) * building.length
        stack = np.maximum(np.abs(u - u0), np.abs(v - 0.8)) < 0.45
        rise[stack] += 1.2
        colour[stack] = _linear((120, 84, 70))
        if building.length > 8 and rng.random() < 0.18:  # solar panels
            panel = (np.abs(u + u0) < 2.6) & (v > 0.9) & (v < half_v - 0.9)
            colour[panel] = _linear((36, 44, 66))
    height = building.eaves + rise
    inside &= height > canvas.height[region]
    canvas.blend(region, canvas.coverage(edge) * (inside | (edge <= 0)), colour)
    canvas.height[region][inside] = height[inside]
    canvas.relief[region][inside] = 0
    canvas.cover[region][inside] = BUILDING
    canvas.sheen[region][inside] = 0


def _roof(
    canvas: _Canvas,
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
    canvas: _Canvas,
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
            colour[unit] = _linear((176, 176, 174))
        else:
            colour[unit] = _linear((92, 104, 116)) * float(rng.uniform(0.8, 2.2))


def _draw_trees(canvas: _Canvas, trees: Sequence[Trees]) -> None:
    """Grow the crowns of all trees that stand on free ground."""
    if not trees:
        return
    joined = {
        item.name: np.concatenate([getattr(part, item.name) for part in trees])
        for item in dataclasses.fields(Trees)
    }
    column = np.floor(joined['x'] / canvas.gsd).astype(int) + canvas.rim
    row = np.floor(joined['y'] / canvas.gsd).astype(int) + canvas.rim
    inside = (column >= 0) & (column < canvas.shape[1])
    inside &= (row >= 0) & (row < canvas.shape[0])
    here = np.flatnonzero(inside)
    ground = canvas.cover[row[here], column[here]]
    free = (ground == LOW_VEGETATION) | (ground == BARE)
    here = here[free & ~canvas.roadway[row[here], column[here]]]
    if not len(here):
        return
    index = here[_nearest(row[here], column[here], canvas.shape)]
    radius = joined['radius'][index]
    conifer = joined['conifer'][index]
    dx, dy = canvas.x - joined['x'][index], canvas.y - joined['y'][index]
    rough = 1 + 0.20 * canvas.fine[0] + 0.10 * canvas.grain
    share = np.hypot(dx, dy) / radius * rough
    crown = np.where(conifer, 1 - share, np.sqrt(np.clip(1 - share * share, 0, 1)))
    tall = (joined['radius'] * np.where(joined['conifer'], 3.2, 1.9))[index]
    tall = tall.astype(np.float32)
    top = tall * np.where(conifer, 0.25 + 0.75 * crown, 0.5 + 0.5 * crown)
    leaves = (share < 1) & (top > canvas.height)
    colour = _foliage(canvas, joined['tint'][here], joined['conifer'][here], here,
                      len(joined['x']))[index]  # fmt: skip
    light = 0.72 + 0.34 * crown + 0.20 * canvas.fine[1] + 0.10 * canvas.grain
    colour = colour * np.clip(light, 0.2, 1.8)[..., None]
    alpha = canvas.coverage((1 - share) * radius) * leaves
    alpha *= np.where(conifer, 1.0, 1.0 - 0.45 * canvas.look.leafless)
    everywhere = (slice(0, canvas.shape[0]), slice(0, canvas.shape[1]))
    canvas.blend(everywhere, alpha.astype(np.float32), colour)
    lower = canvas.look.leafless * ~conifer
    canvas.height[leaves] = (top * (1 - 0.5 * lower))[leaves]
    canvas.relief[leaves] = (0.22 * (canvas.fine[0] + canvas.grain))[leaves]
    canvas.cover[leaves] = TREE
    canvas.sheen[leaves] = 0


def _foliage(
    canvas: _Canvas,
    tint: Floats,
    conifer: NDArray[np.bool_],
    slots: NDArray[np.int_],
    total: int,
) -> Floats:
    """Linear colour of each tree in this season, (total, 3); rows in ``slots`` set."""
    look = canvas.look
    green = _linear((66, 94, 48)) * (0.6 + 0.4 * look.greenness)
    dry = _linear((104, 104, 62))
    leaf = dry + (0.3 + 0.7 * look.greenness) * (green - dry)
    turned = np.where(
        (tint < 0.4)[:, None],
        _linear((168, 124, 56)),
        np.where((tint < 0.7)[:, None], _linear((152, 82, 50)), leaf),
    )
    colour = leaf + look.autumn * (turned - leaf)
    colour = colour + look.leafless * (_linear((118, 106, 94)) - colour)
    colour = np.where(conifer[:, None], _linear((46, 66, 46)), colour)
    result = np.zeros((total, 3), np.float32)
    result[slots] = colour * (0.7 + 0.6 * tint)[:, None]
    return result


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


def _draw_movers(canvas: _Canvas, rng: Generator) -> list[Mover]:
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
    canvas: _Canvas,
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
    colour[:] = _linear(body)
    glass = _linear((38, 44, 52))
    if mover.category == 'small-vehicle':
        rise = np.where(np.abs(u + 0.1 * front) < 0.55 * front, 1.5, 1.0)
        windscreen = np.abs(u - 0.30 * front) < 0.15 * front
        rear = np.abs(u + 0.66 * front) < 0.09 * front
        colour[windscreen | rear] = glass
        if paint % 7 == 0:  # a long roof without a visible rear window
            colour[rear] = _linear(body)
    else:
        cab = u > front - 2.4
        load = _PAINTS[(paint // 3) % 4]
        colour[~cab] = _linear(load)
        colour[np.abs(u - front + 2.5) < 0.3] = _linear((60, 60, 60))
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
    canvas: _Canvas, mover: Mover, region: Region, u: Floats, v: Floats, paint: int
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
    colour[:] = _linear(hulls[paint % 4])
    deck = edge > (0.8 if large else 0.12 * mover.width)
    if not large:
        planks = ((204, 184, 150), (214, 212, 204), (176, 178, 176))[paint % 3]
        colour[deck] = _linear(planks)
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
            colour[hatch] = _linear((150, 148, 138))
            rise[hatch] += 1.0
        colour[bridge] = _linear((230, 230, 226))
        rise[bridge] += 9.0
    else:
        centre = -0.05 * half if paint % 4 else -0.3 * half
        cabin = (np.abs(u - centre) < 0.34 * half) & (np.abs(v) < 0.6 * beam)
        colour[cabin] = _linear((240, 240, 238))
        rise[cabin] += 1.4
        pane = (np.abs(u - centre - 0.3 * half) < 0.1 * half) & (np.abs(v) < 0.6 * beam)
        colour[pane] = _linear((48, 60, 76))
        if paint % 5 == 0:  # a tarpaulin over the cockpit
            cloth = (u < -0.45 * half) & deck
            colour[cloth] = _linear(((40, 60, 120), (110, 40, 40))[paint % 2])
    colour *= (1 + 0.05 * canvas.grain[region])[..., None]
    canvas.blend(region, canvas.coverage(edge), colour)
    canvas.height[region][inside] = rise[inside]
    canvas.relief[region][inside] = 0
    canvas.cover[region][inside] = SHIP
    canvas.sheen[region][inside] = 0


def _draw_wake(canvas: _Canvas, mover: Mover) -> None:
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
    canvas.blend(region, alpha.astype(np.float32), _linear((214, 222, 222)))


def render_plan(plan: Plan, look: Look, size: int) -> DemoScene:
    """Draw a plan, light it and take the picture."""
    canvas = _Canvas(plan, look, size)
    rng = default_rng(SeedSequence(look.seed))
    for ground in plan.grounds:
        _draw_ground(canvas, ground)
    for strip in plan.strips:
        _draw_strip(canvas, strip)
    for patch in plan.patches:
        if isinstance(patch, Stalls):
            _draw_stalls(canvas, patch)
        else:
            _draw_ground(canvas, patch)
    for building in plan.buildings:
        _draw_building(canvas, building)
    _draw_trees(canvas, plan.trees)
    image_area = slice(canvas.rim, canvas.rim + size)
    window = (image_area, image_area)
    cover = canvas.cover[window].copy()
    movers = _draw_movers(canvas, default_rng(SeedSequence(look.seed, spawn_key=(1,))))
    image = _expose(_light(canvas, rng)[window], look, rng)
    return DemoScene(
        image,
        plan.scene_class,
        canvas.cover[window].copy(),
        cover,
        tuple(_box(mover, canvas.gsd) for mover in movers),
        canvas.gsd,
    )


def _box(mover: Mover, gsd: float) -> OrientedBox:
    """Label of a vehicle or ship, in pixels."""
    corners = rectangle_corners(
        mover.x, mover.y, mover.length, mover.width, mover.angle
    )
    short = min(mover.length, mover.width) / gsd
    return OrientedBox(corners / np.float32(gsd), mover.category, short < 3)


def _light(canvas: _Canvas, rng: Generator) -> Floats:
    """Radiance (H, W, 3) from albedo, slopes, cast shadows, sky and sheen."""
    look, gsd = canvas.look, canvas.gsd
    toward = np.array([np.cos(look.azimuth), np.sin(look.azimuth)])
    water = canvas.cover == WATER
    waves = canvas._fractal(rng, (4.0, 1.5))
    relief = canvas.relief + np.where(water, 0.07 * waves, 0)
    surface = canvas.height + relief.astype(np.float32)
    slope_x = cv2.Sobel(surface, cv2.CV_32F, 1, 0, ksize=1, scale=0.5 / gsd)
    slope_y = cv2.Sobel(surface, cv2.CV_32F, 0, 1, ksize=1, scale=0.5 / gsd)
    np.clip(slope_x, -1.6, 1.6, out=slope_x)
    np.clip(slope_y, -1.6, 1.6, out=slope_y)
    facing = np.float32(np.tan(look.elevation)) - (
        slope_x * np.float32(toward[0]) + slope_y * np.float32(toward[1])
    )
    facing /= np.sqrt(1 + slope_x**2 + slope_y**2) * np.float32(np.tan(look.elevation))
    lit = 1 - _shadow(canvas.height, toward, look.elevation, gsd)
    direct = (np.clip(facing, 0, 2.2) * lit)[..., None] * np.array(look.sun, np.float32)
    ambient = 0.24 + 0.25 * look.haze
    sky = np.array(look.sky, np.float32) * np.float32(ambient)
    radiance = canvas.albedo * ((1 - np.float32(ambient)) * direct + sky)
    glint = np.clip(0.5 + 0.35 * waves + 2.0 * (facing - 1), 0, 2) * canvas.sheen
    radiance += (0.022 * glint)[..., None] * np.array(look.sky, np.float32)
    veil = look.haze * np.clip(1 + 0.25 * canvas.broad[0], 0.3, 1.7)[..., None]
    radiance += veil * (np.float32(0.34) * np.array(look.sky, np.float32) - radiance)
    return radiance


def _shadow(
    height: Floats, toward: NDArray[np.float64], elevation: float, gsd: float
) -> Floats:
    """Share of the sun that is blocked, 0..1, (H, W).

    A point is in shadow when some surface towards the sun rises above its line of
    sight: ``max_t height(p + t) - t tan(elevation) > height(p)``. Doubling the reach
    of the running maximum makes that logarithmic in the length of the shadow.
    """
    drop = gsd * float(np.tan(elevation))
    tops = height.copy()
    step, reach = 1.0, float(height.max()) / drop + 1
    size = (height.shape[1], height.shape[0])
    while step <= reach:
        shift = np.array([[1, 0, step * toward[0]], [0, 1, step * toward[1]]])
        ahead = cv2.warpAffine(
            tops,
            shift,
            size,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        np.maximum(tops, ahead - np.float32(step * drop), out=tops)
        step *= 2
    blocked = np.clip((tops - height - 0.25) / 0.5, 0, 1)
    return np.asarray(cv2.GaussianBlur(blocked, (0, 0), 0.5), np.float32)


def _expose(radiance: Floats, look: Look, rng: Generator) -> Bytes:
    """Expose, balance, blur and digitise: radiance to display values, (H, W, 3)."""
    light = np.asarray(cv2.GaussianBlur(radiance, (0, 0), look.blur), np.float32)
    light *= np.array(look.cast, np.float32)
    mean = light.mean((0, 1))
    grey = float(mean.mean())
    light *= (grey / mean) ** np.float32(look.balance)
    light *= np.float32(look.exposure / grey)
    noise = rng.standard_normal(light.shape, np.float32)
    light += noise * (look.noise * np.sqrt(np.clip(light, 0.02, None) / 0.2))
    display = np.clip(light, 0, None) ** np.float32(0.5 * look.gamma)
    display *= np.float32((look.exposure**0.5) / look.exposure ** (0.5 * look.gamma))
    # A soft shoulder keeps highlights from clipping hard.
    display = np.where(display > 0.8, 1 - 0.2 * np.exp(-(display - 0.8) / 0.2), display)
    return (np.clip(display, 0, 1) * 255 + 0.5).astype(np.uint8)
