# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Drawing a plan into albedo, height and cover, and lighting it."""

import numpy as np
from numpy.random import SeedSequence, default_rng

from .buildings import draw_building
from .canvas import Canvas
from .ground import draw_ground, draw_stalls, draw_strip
from .light import expose, light
from .look import Look
from .movers import draw_movers
from .place import Mover, Plan, Stalls, rectangle_corners
from .scene import DemoScene, OrientedBox
from .trees import draw_trees


def render_plan(plan: Plan, look: Look, size: int) -> DemoScene:
    """Draw a plan, light it and take the picture."""
    canvas = Canvas(plan, look, size)
    rng = default_rng(SeedSequence(look.seed))
    for ground in plan.grounds:
        draw_ground(canvas, ground)
    for strip in plan.strips:
        draw_strip(canvas, strip)
    for patch in plan.patches:
        if isinstance(patch, Stalls):
            draw_stalls(canvas, patch)
        else:
            draw_ground(canvas, patch)
    for building in plan.buildings:
        draw_building(canvas, building)
    draw_trees(canvas, plan.trees)
    image_area = slice(canvas.rim, canvas.rim + size)
    window = (image_area, image_area)
    cover = canvas.cover[window].copy()
    movers = draw_movers(canvas, default_rng(SeedSequence(look.seed, spawn_key=(1,))))
    image = expose(light(canvas, rng)[window], look, rng)
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
