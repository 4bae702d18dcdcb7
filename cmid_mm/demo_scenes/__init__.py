# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Procedural aerial scenes with labels for all four downstream tasks.

A scene is made in two steps. A *plan* lays out a place in metres (parcels, roads,
buildings, trees, slots for vehicles and ships); a *look* is one acquisition of it
(sun, haze, season, exposure, sensor). Rendering a plan under a look fills an albedo,
a height and a land-cover map, then lights them: shading and cast shadows follow
from the heights and the position of the sun. A change pair is one plan and an edited
copy of it under two looks, so that real changes and nuisance changes stay apart.
Georeferenced scenes are several plans under one look, side by side.

Everything is a pure function of ``(seed, index, size, scene_class)``: scene ``i``
does not depend on how many scenes are made or in which order.
"""

from .making import make_change_pair, make_scene
from .rasters import MAP_CLASSES, RASTERS
from .scene import (
    COVER_CLASSES,
    COVER_PALETTE,
    SCENE_CLASSES,
    ChangePair,
    DemoScene,
    OrientedBox,
)
from .writing import TASKS, write_demo_data

__all__ = [
    'COVER_CLASSES',
    'COVER_PALETTE',
    'MAP_CLASSES',
    'RASTERS',
    'SCENE_CLASSES',
    'TASKS',
    'ChangePair',
    'DemoScene',
    'OrientedBox',
    'make_change_pair',
    'make_scene',
    'write_demo_data',
]
