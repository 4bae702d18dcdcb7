# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Polygons on the pixels of an image."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.features import rasterize

from ..images import Place, Window
from .errors import LabelError

#: Corners of polygons that a layer holds ready in a process, some 200 MB.
HELD_CORNERS = 10_000_000

#: Corners from which on a polygon is cut to a window before it is burned there.
_MANY_CORNERS = 1000


class PixelPolygons:
    """Polygons in the pixels of an image, with an index of where they lie.

    Args:
        shapes: Polygons in the reference system of the image.
        place: Of the image.
        values: Of each polygon, 0 to 255.
    """

    def __init__(self, shapes: Any, place: Place, values: NDArray[np.uint8]) -> None:
        import shapely

        self.shapes: NDArray[Any] = shapely.transform(np.asarray(shapes), place.pixels)
        self.values = values
        self._index = shapely.STRtree(self.shapes)

    @property
    def num_corners(self) -> int:
        """Number of corners of all polygons."""
        import shapely

        return int(shapely.get_num_coordinates(self.shapes).sum())

    def touching(self, window: Window) -> NDArray[np.intp]:
        """Which polygons touch a window, in their order."""
        return np.sort(self._index.query(_box(window), predicate='intersects'))

    def near(self, window: Window) -> NDArray[np.intp]:
        """Which polygons have bounds that touch a window, in their order."""
        return np.sort(self._index.query(_box(window)))

    def burned(self, window: Window, fill: int = 0) -> NDArray[np.uint8]:
        """A mask: pixels whose centre lies in a polygon have its value.

        Of polygons that overlap the later one lies upon the earlier ones.

        Args:
            window: Pixels of the image.
            fill: Value of the rest.

        Returns:
            (h, w).
        """
        import shapely

        top, left, height, width = window
        which = self.touching(window)
        shapes = self.shapes[which]
        many = shapely.get_num_coordinates(shapes) > _MANY_CORNERS
        # GDAL looks at all edges for each row. Edges within keep their corners, or
        # are cut one pixel outside, so that windows fit together.
        edges = left - 1, top - 1, left + width + 1, top + height + 1
        shapes[many] = shapely.clip_by_rect(shapes[many], *edges)
        pairs = [
            (shape, value)
            for shape, value in zip(shapes, self.values[which].tolist(), strict=True)
            if not shape.is_empty
        ]
        if not pairs:
            return np.full((height, width), fill, np.uint8)
        return rasterize(
            pairs,
            out_shape=(height, width),
            fill=fill,
            transform=Affine.translation(left, top),
            dtype=np.uint8,
        )


def _box(window: Window) -> Any:
    import shapely

    top, left, height, width = window
    return shapely.box(left, top, left + width, top + height)


def placed(path: str | Path, place: Place | None, image: str | Path) -> Place:
    """The place of an image on which a vector layer shall be laid.

    Raises:
        LabelError: If the image does not say where it lies.
    """
    if place is None or place.crs is None:
        lacks = 'is not georeferenced' if place is None else 'names no reference system'
        raise LabelError(
            f'{path} cannot be laid upon {image}, which {lacks}; give it a place '
            '(gdal_translate -a_srs EPSG:CODE -a_ullr ...)'
        )
    return place
