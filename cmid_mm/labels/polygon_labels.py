# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Labels from the polygons of a vector layer, on the pixels of an image."""

import numpy as np
from numpy.typing import NDArray

from ..images import ImageFile, Window
from .field_classes import FieldClasses
from .recent import Recent, ground_bounds
from .vectors import PixelPolygons, check_fields, placed, read_vectors


class PolygonLabels:
    """Labels from polygons; see :class:`~cmid_mm.labels.layers.LabelLayer`."""

    palette = None

    def __init__(self, named: FieldClasses, order: str | None) -> None:
        self._named, self._order = named, order
        if order is not None:
            check_fields(named.path, [order], named.layer)
        self.classes = named.classes
        self._on: Recent[PixelPolygons] = Recent()

    def window(self, image: ImageFile, window: Window) -> NDArray[np.uint8]:
        """Classes of the pixels of a window of an image, (h, w)."""
        polygons = self._on.get(image, self._laid_upon)
        return polygons.burned(window, fill=self._named.background)

    def overlaps(self, image: ImageFile) -> bool:
        """Whether a polygon reaches into an image."""
        polygons = self._on.get(image, self._laid_upon)
        return len(polygons.touching((0, 0, image.height, image.width))) > 0

    def _laid_upon(self, image: ImageFile) -> PixelPolygons:
        return polygons_on(image, self._named, self._order)


def polygons_on(
    image: ImageFile, named: FieldClasses, order: str | None = None
) -> PixelPolygons:
    """The polygons of a layer that may touch an image, with their classes.

    Args:
        image: Gives the pixels.
        named: The layer, and which class its polygons are of.
        order: Field by which they are sorted. Defaults to None, as in the file.
    """
    place = placed(named.path, image.place, image.path)
    frame = read_vectors(
        named.path,
        place.crs,
        [name for name in {named.field, order} if name is not None],
        named.layer,
        ground_bounds(place, image.header.shape, place.crs),
    )
    if order is not None:
        frame = frame.sort_values(order, kind='stable', na_position='first')
    return PixelPolygons(frame.geometry.array, place, named.indices(frame))
