# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Labels from the polygons of a vector layer, on the pixels of an image."""

from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..images import ImageFile, Window
from .field_classes import FieldClasses
from .pixel_polygons import HELD_CORNERS, PixelPolygons, placed
from .recent import Recent, ground_bounds
from .vectors import bounds_in, check_fields, has_index, read_vectors, reprojected


class PolygonLabels:
    """Labels from polygons; see :class:`~cmid_mm.labels.layers.LabelLayer`."""

    palette = None

    def __init__(self, named: FieldClasses, order: str | None) -> None:
        self.classes, self._background = named.classes, named.background
        self._polygons = LayerPolygons(named, order)

    def window(self, image: ImageFile, window: Window) -> NDArray[np.uint8]:
        """Classes of the pixels of a window of an image, (h, w)."""
        return self._polygons.on(image).burned(window, fill=self._background)

    def overlaps(self, image: ImageFile) -> bool:
        """Whether a polygon reaches into an image."""
        return self._polygons.reach(image)


class LayerPolygons:
    """The polygons of a layer with their classes, on the pixels of images.

    Args:
        named: The layer, and which class its polygons are of.
        order: Field by which they are sorted. Defaults to None, as in the file.
    """

    def __init__(self, named: FieldClasses, order: str | None = None) -> None:
        self._named, self._order = named, order
        if order is not None:
            check_fields(named.path, [order], named.layer)
        self._columns = [name for name in {named.field, order} if name is not None]
        self._whole: Recent[Any] = Recent()
        self._on: Recent[PixelPolygons] = Recent(
            HELD_CORNERS, attrgetter('num_corners')
        )

    def on(self, image: ImageFile) -> PixelPolygons:
        """The polygons that may touch an image."""
        return self._on.of_image(image, self._laid_upon)

    def reach(self, image: ImageFile) -> bool:
        """Whether one reaches into an image."""
        return len(self.on(image).touching((0, 0, image.height, image.width))) > 0

    def _laid_upon(self, image: ImageFile) -> PixelPolygons:
        named = self._named
        place = placed(named.path, image.place, image.path)
        bounds = ground_bounds(place, image.header.shape, place.crs)
        if has_index(named.path, named.layer):
            frame = read_vectors(
                named.path, place.crs, self._columns, named.layer, bounds
            )
        else:
            frame = self._whole.get('whole', self._read)
            left, bottom, right, top = bounds_in(bounds, place.crs, frame.crs)
            near = frame.cx[left:right, bottom:top]
            frame = reprojected(named.path, near, place.crs)
        if self._order is not None:
            frame = frame.sort_values(self._order, kind='stable', na_position='first')
        return PixelPolygons(frame.geometry.array, place, named.indices(frame))

    def _read(self) -> Any:
        return read_vectors(self._named.path, None, self._columns, self._named.layer)
