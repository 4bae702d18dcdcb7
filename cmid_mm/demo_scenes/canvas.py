# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The maps that a plan is drawn into, and how colours get there."""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.random import Generator, SeedSequence, default_rng
from numpy.typing import NDArray

from .look import Look
from .place import MATERIALS, Ground, Plan, rectangle_corners
from .scene import LOW_VEGETATION, Floats

Region = tuple[slice, slice]


class Canvas:
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
            self._textures[ground] = texture(self, whole, ground)
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


def linear(colour: Sequence[float]) -> Floats:
    """Display colour 0..255 to linear light 0..1 (gamma 2)."""
    return (np.asarray(colour, np.float32) / 255) ** 2


def texture(canvas: Canvas, region: Region, ground: Ground) -> tuple[Floats, Floats]:
    """Linear colour (H, W, 3) and relief in metres (H, W) of a patch of ground."""
    plan, look = canvas.plan, canvas.look
    material = MATERIALS[ground.material]
    patchy = canvas.patchy[int(abs(ground.tone) * 97) % 3][region]
    fine, grain = canvas.fine[0][region], canvas.grain[region]
    lush, dry = linear(material.lush), linear(material.dry)
    if ground.material in ('soil', 'bare'):
        soil = linear(plan.soil)
        lush, dry = 0.35 * lush + 0.65 * soil, (0.35 * dry + 0.65 * soil) * 1.15
    elif ground.material == 'water':
        lush = dry = linear(plan.water)
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
            colour += bare[..., None] * (linear(plan.soil) - colour)
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


def nearest_pixels(
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
