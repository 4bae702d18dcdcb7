# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Where things stand in each class of scene, and how a place changes."""

from collections.abc import Callable

from numpy.random import Generator

from .countryside import farmland, forest
from .place import Plan
from .settlements import industrial, residential
from .shores import harbour, river
from .traffic import highway, parking

LAYOUTS: dict[str, Callable[[Plan, Generator], None]] = {
    'farmland': farmland,
    'forest': forest,
    'harbour': harbour,
    'highway': highway,
    'industrial': industrial,
    'parking': parking,
    'residential': residential,
    'river': river,
}
