# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Prediction inside the polygons of a vector layer only."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..images import Place, Window
from ..images.values import resize_nearest
from ..labels.vectors import Area, placed


class OutsideAreaError(ValueError):
    """An image lies outside the area to predict in."""


class PartInArea:
    """The part of an image that lies in an area.

    Args:
        area: The area.
        path: The image, for errors.
        place: Where it lies.
        shape: Its height and width in pixels.

    Raises:
        LabelError: If the image does not say where it lies.
        OutsideAreaError: If it lies outside.
    """

    def __init__(
        self, area: Area, path: Path, place: Place | None, shape: tuple[int, int]
    ) -> None:
        self.area = area
        self.place = placed(area.path, place, path)
        self.shape = shape
        if area.window_of(self.place, shape) is None:
            raise OutsideAreaError(f'{path} lies outside the area of {area.path}')

    def touches(self, window: Window) -> bool:
        """Whether the area reaches into a window."""
        return self.area.touches(self.place, window)

    def outside(
        self, window: Window | None, shape: tuple[int, int]
    ) -> NDArray[np.bool_]:
        """Which pixels lie outside.

        Args:
            window: Part of the image; None for the whole image.
            shape: Height and width in which it was loaded.
        """
        inside = self.area.mask(self.place, window or (0, 0, *self.shape))
        return resize_nearest(~inside, shape)

    def holds(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which points, (N, 2) as column and row, lie inside."""
        import shapely

        return shapely.contains_xy(self._outlines, *points.T)

    @cached_property
    def _outlines(self) -> Any:
        import shapely

        outlines = self.area.outlines(self.place)
        shapely.prepare(outlines)
        return outlines
