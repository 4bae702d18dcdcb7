# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""A look: one acquisition of a place."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from .scene import RGB


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
