# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Making scenes and change pairs from a seed and an index."""

import numpy as np
from numpy.random import Generator, SeedSequence, default_rng

from .changes import edit_plan
from .layouts import LAYOUTS
from .look import draw_look
from .place import Plan
from .rendering import render_plan
from .scene import SCENE_CLASSES, ChangePair, DemoScene

MIN_SIZE, MAX_SIZE = 64, 1024


def make_scene(
    seed: int, index: int, size: int = 256, scene_class: str | None = None
) -> DemoScene:
    """Make one scene.

    Args:
        seed: Seed of the collection, >= 0.
        index: Number of the scene in the collection, >= 0.
        size: Side of the image in pixels, 64 to 1024.
        scene_class: One of ``SCENE_CLASSES``; by default the classes take turns,
            ``SCENE_CLASSES[index % 8]``.

    Returns:
        DemoScene: The same for the same arguments, always.

    Raises:
        ValueError: If an argument is outside its range.
    """
    plan, rng = _start(0, seed, index, size, scene_class)
    return render_plan(plan, draw_look(rng), size)


def make_change_pair(seed: int, index: int, size: int = 256) -> ChangePair:
    """Make one bitemporal pair; in about one of ten nothing changed.

    Args:
        seed: Seed of the collection, >= 0.
        index: Number of the pair in the collection, >= 0.
        size: Side of the images in pixels, 64 to 1024.

    Returns:
        ChangePair: Buildings appear or disappear and ground is converted (built on,
        cleared, planted, flooded); either date can be the richer one.

    Raises:
        ValueError: If an argument is outside its range.
    """
    plan, rng = _start(1, seed, index, size, None)
    looks = [draw_look(rng), draw_look(rng)]
    scenes = [render_plan(plan, looks[0], size)]
    edited = plan if rng.random() < 0.1 else edit_plan(plan, scenes[0].cover, rng)
    scenes.append(render_plan(edited, looks[1], size))
    if rng.random() < 0.5:
        scenes.reverse()
    changed = scenes[0].cover != scenes[1].cover
    return ChangePair(scenes[0], scenes[1], changed.astype(np.uint8) * 255)


def _start(
    stream: int, seed: int, index: int, size: int, scene_class: str | None
) -> tuple['Plan', Generator]:
    """Check the arguments and lay out the place."""
    if seed < 0 or index < 0:
        raise ValueError(f'seed and index must be >= 0, got {seed} and {index}')
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ValueError(f'size must be {MIN_SIZE} to {MAX_SIZE} pixels, got {size}')
    name = SCENE_CLASSES[index % len(SCENE_CLASSES)]
    name = name if scene_class is None else scene_class
    if name not in SCENE_CLASSES:
        raise ValueError(f'unknown scene class {name!r}; one of {SCENE_CLASSES}')
    sequence = SeedSequence(seed, spawn_key=(stream, index))
    rng = default_rng(sequence)
    # Small images look at less detail, but not at proportionally less ground.
    gsd = min(float(rng.uniform(0.32, 0.68)) * (256 / size) ** 0.5, 1.0)
    plan = Plan(name, size * gsd, int(rng.integers(1 << 31)), rng)
    LAYOUTS[name](plan, rng)
    return plan, rng
