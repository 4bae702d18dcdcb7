# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What a procedural scene is: its classes, image and labels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..labels.dota import format_boxes

Floats = NDArray[np.floating[Any]]
Bytes = NDArray[np.uint8]
RGB = tuple[float, float, float]

SCENE_CLASSES = (
    'farmland',
    'forest',
    'harbour',
    'highway',
    'industrial',
    'parking',
    'residential',
    'river',
)
"""Scene classes in the order of their labels (alphabetical, as folders sort)."""

COVER_CLASSES = (
    'impervious',
    'building',
    'low_vegetation',
    'tree',
    'vehicle',
    'water',
    'bare_ground',
    'ship',
)
"""Segmentation classes in the order of their mask values. Roads, yards and jetties
are impervious; tanks and stacked containers are buildings; fields are low
vegetation in every season. 255 is not used."""

COVER_PALETTE = (
    (230, 230, 230),
    (200, 60, 50),
    (150, 210, 90),
    (30, 120, 50),
    (250, 210, 40),
    (50, 110, 220),
    (170, 130, 90),
    (200, 80, 220),
)
"""RGB display colour of each class of ``COVER_CLASSES``."""

IMPERVIOUS, BUILDING, LOW_VEGETATION, TREE, VEHICLE, WATER, BARE, SHIP = range(8)


@dataclass(frozen=True)
class OrientedBox:
    """One vehicle or ship.

    Attributes:
        corners: Clockwise corners (front left first), (4, 2) float32 of x, y in
            pixels; 0 and ``size`` are the outer edges of the image.
        category: ``'small-vehicle'``, ``'large-vehicle'`` or ``'ship'`` (DOTA names).
        difficult: Whether the short side is below three pixels.
    """

    corners: Floats
    category: str
    difficult: bool


@dataclass(frozen=True)
class DemoScene:
    """An image and its labels.

    Attributes:
        image: RGB, (size, size, 3) uint8.
        scene_class: One of ``SCENE_CLASSES``.
        mask: Index into ``COVER_CLASSES`` of each pixel, (size, size) uint8.
        cover: ``mask`` as it would be without vehicles and ships.
        boxes: Vehicles and ships that lie wholly inside the image.
        gsd: Ground sampling distance in metres per pixel.
    """

    image: Bytes
    scene_class: str
    mask: Bytes
    cover: Bytes
    boxes: tuple[OrientedBox, ...]
    gsd: float

    @property
    def label(self) -> int:
        """Index of ``scene_class`` in ``SCENE_CLASSES``."""
        return SCENE_CLASSES.index(self.scene_class)

    def dota_text(self) -> bytes:
        """Labels in DOTA v1.0 text form: two header lines, then one line a box."""
        return format_boxes(
            np.array([box.corners.ravel() for box in self.boxes]).reshape(-1, 8),
            [box.category for box in self.boxes],
            [int(box.difficult) for box in self.boxes],
            headers={'imagesource': 'demo', 'gsd': f'{self.gsd:.6f}'},
        )


@dataclass(frozen=True)
class ChangePair:
    """One place at two dates.

    Attributes:
        before: First date.
        after: Second date: other light, season, traffic and sensor noise.
        change_mask: 255 where the land cover differs, 0 elsewhere, (size, size) uint8.
            Light, season, vehicles and ships are no change.
    """

    before: DemoScene
    after: DemoScene
    change_mask: Bytes
