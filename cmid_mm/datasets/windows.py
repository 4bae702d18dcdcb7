# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Windows of scenes, drawn at random."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..images import Window

#: Points that are drawn at once in the bounding box of a polygon.
_POINTS = 16


class RandomWindows:
    """Windows at any position of scenes, drawn by area.

    A scene is drawn with a chance proportional to its area times its weight, and in it
    every position of a window has the same chance. Of a scene that is smaller than a
    window, its whole side is taken.

    With polygons, these take the place of the scenes' areas: a point of them is drawn,
    and the window around it, shifted inwards at the edges of the scene.

    Args:
        shapes: Height and width of the scenes in pixels, (N, 2).
        size: Side of the windows in pixels.
        weights: Of the scenes, at least 0, (N,). Defaults to None, all 1.
        polygons: Of each scene, those to draw from, in pixels (column, row) and within
            it, without overlap: shapely polygons. Defaults to None, the scenes.

    Raises:
        ValueError: If there is nothing to draw from.
    """

    def __init__(
        self,
        shapes: ArrayLike,
        size: int,
        weights: ArrayLike | None = None,
        polygons: Sequence[Sequence[Any]] | None = None,
    ) -> None:
        self.shapes = np.asarray(shapes, np.int64).reshape(-1, 2)
        self.size = size
        if polygons is None:
            self._polygons = None
            self._scenes = np.arange(len(self.shapes))
            areas = self.shapes.prod(axis=1).astype(np.float64)
        else:
            self._polygons = [part for parts in polygons for part in parts]
            self._scenes = np.repeat(np.arange(len(polygons)), [*map(len, polygons)])
            areas = np.array([part.area for part in self._polygons], np.float64)
        #: Pixels to draw from.
        self.area = float(areas.sum())
        if weights is not None:
            areas = areas * np.asarray(weights, np.float64)[self._scenes]
        self._chances = np.cumsum(areas)
        if not len(areas) or self._chances[-1] <= 0:
            raise ValueError('nothing to draw windows from: no scene has any area')

    def draw(self, rng: np.random.Generator) -> tuple[int, Window]:
        """Draw a window.

        Args:
            rng: Source of chance: the window is a function of its state.

        Returns:
            Number of the scene, and the window.
        """
        chance = rng.random() * self._chances[-1]
        part = int(np.searchsorted(self._chances, chance, side='right'))
        scene = int(self._scenes[part])
        shape = self.shapes[scene]
        sides = np.minimum(shape, self.size)
        if self._polygons is None:
            start = rng.integers(shape - sides + 1)
        else:
            middle = _point_of(self._polygons[part], rng)[::-1]
            start = np.clip(np.floor(middle - sides / 2 + 0.5), 0, shape - sides)
        return scene, (int(start[0]), int(start[1]), int(sides[0]), int(sides[1]))


def _point_of(polygon: Any, rng: np.random.Generator) -> Any:
    """A point of a polygon, any with equal chances: x and y."""
    from shapely import contains_xy

    left, top, right, bottom = polygon.bounds
    while True:
        points = rng.uniform((left, top), (right, bottom), (_POINTS, 2))
        inside = contains_xy(polygon, points)
        if inside.any():
            return points[inside.argmax()]
