# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Sun, shadows and the exposure of the sensor."""

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .canvas import Canvas
from .look import Look
from .scene import WATER, Bytes, Floats


def light(canvas: Canvas, rng: Generator) -> Floats:
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


def expose(radiance: Floats, look: Look, rng: Generator) -> Bytes:
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
