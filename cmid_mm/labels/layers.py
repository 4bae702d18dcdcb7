# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Own labels of scenes: rasters and vector layers, read on the pixels of an image."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..images import ImageFile, UnreadableImageError, Window, is_image_name
from ..polygons import share_inside
from .attribute_tables import Colour
from .dota import MIN_BOX_SHARE, MIN_SIDE
from .errors import LabelError
from .field_classes import FieldClasses
from .masks import IGNORED
from .polygon_labels import LayerPolygons, PolygonLabels
from .raster_labels import RasterLabels

#: GEOS's number.
_POLYGON = 3


class LabelLayer:
    """Classes of pixels, from a label raster or a vector layer.

    Either is read window by window on the pixel grid of an image, wherever it lies
    itself. A raster in another reference system or resolution gives the class of the
    nearest pixel. Polygons give their class to pixels whose centre lies inside. An
    image that says nothing of its place takes a raster of its size, pixel by pixel.

    Args:
        path: An image file, or whatever GDAL reads as vector layers.
        classes: Names. Defaults to None: those that the raster names (attribute table,
            category names), or the values of the field in sorted order, after the
            background's name if that is none of them.
        label_map: What values mean: name or index of a class, or 255 for ignored, by
            value of the raster or the field. Values that it does not name are what
            the file calls them, else the index itself.
        ignore: Values of pixels or polygons that are ignored.
        field: Field of a vector layer that holds the class. Defaults to None: all
            polygons are of one class, which is the one that is not the background,
            or named like the file.
        layer: Name of the vector layer, if the file has several.
        background: Name or index of the class of ground without a polygon. Defaults
            to None: it is ignored.
        order: Field by which overlapping polygons lie upon each other, the highest
            value on top. Defaults to None: later ones of the file.

    Attributes:
        classes: Names of the classes.
        palette: Their colours (RGB), None if the file has none.

    Raises:
        ImportError: If geopandas or pyogrio is missing and a vector layer is given.
        UnreadableImageError: If a raster is missing or broken.
        FileNotFoundError: If there is no such vector layer.
        LabelError: If there are no names of classes, or values without a class.
    """

    def __init__(
        self,
        path: str | Path,
        classes: Sequence[str] | None = None,
        label_map: Mapping[Any, int | str] | None = None,
        ignore: Sequence[Any] = (),
        field: str | None = None,
        layer: str | None = None,
        background: int | str | None = None,
        order: str | None = None,
    ) -> None:
        self.path = str(path)
        self._source: RasterLabels | PolygonLabels
        if _is_raster(self.path):
            of_polygons = dict(
                field=field, layer=layer, background=background, order=order
            )
            given = [k for k, value in of_polygons.items() if value is not None]
            if given:
                raise LabelError(
                    f'{path} is a raster; {", ".join(given)} are about polygons. Leave '
                    'them out (--field, --background, ...); label_map, ignore and '
                    'classes say what its values are'
                )
            self._source = RasterLabels(self.path, classes, label_map or {}, ignore)
        else:
            named = FieldClasses(
                self.path, classes, label_map or {}, ignore, field, layer, background
            )
            self._source = PolygonLabels(named, order)
        self.classes: tuple[str, ...] = self._source.classes
        self.palette: list[Colour] | None = self._source.palette

    def window(self, image: ImageFile, window: Window) -> NDArray[np.uint8]:
        """Classes of the pixels of a window of an image.

        Args:
            image: Gives the grid.
            window: In its pixels.

        Returns:
            (h, w), 255 where ignored.

        Raises:
            LabelError: If a value has no class, or labels and image do not say where
                they lie and differ in size.
            PlaceMismatchError: If they cannot be brought together.
        """
        return self._source.window(image, window)

    def overlaps(self, image: ImageFile) -> bool:
        """Whether labels lie on the ground of an image."""
        return self._source.overlaps(image)

    def counts(self, image: ImageFile, window: Window) -> NDArray[np.int64]:
        """How many pixels of a window each class has, (number of classes,)."""
        labels = self.window(image, window)
        return np.bincount(labels.ravel(), minlength=256)[: len(self.classes)]


class BoxLayer:
    """Oriented boxes from the polygons of a vector layer.

    The box of a polygon is the smallest rectangle around it, in pixels of the image.
    Each part of a multipolygon is an object of its own.

    Args:
        path: Whatever GDAL reads as vector layers.
        classes: Names. Defaults to None, the values of the field in sorted order.
        label_map: Name or index of a class, or 255 for ignored, by value of the field.
        ignore: Values whose polygons are left out.
        field: Field that holds the class. Defaults to None: all polygons are of one
            class, named like the file unless named.
        layer: Name of the layer, if the file has several.
        min_share: Share of a box that must lie in a window. Defaults to that of
            DOTA's tiles.

    Attributes:
        classes: Names of the classes.

    Raises:
        ImportError: If geopandas or pyogrio is missing.
        FileNotFoundError: If there is no such file.
        LabelError: If the layer cannot be used, or values have no class.
    """

    def __init__(
        self,
        path: str | Path,
        classes: Sequence[str] | None = None,
        label_map: Mapping[Any, int | str] | None = None,
        ignore: Sequence[Any] = (),
        field: str | None = None,
        layer: str | None = None,
        min_share: float = MIN_BOX_SHARE,
    ) -> None:
        self.path, self.min_share = str(path), min_share
        named = FieldClasses(self.path, classes, label_map or {}, ignore, field, layer)
        self.classes = named.classes
        self._polygons = LayerPolygons(named)

    def boxes(
        self, image: ImageFile, window: Window
    ) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
        """The boxes of a window of an image.

        Args:
            image: Gives the pixels.
            window: In these.

        Returns:
            Corners in pixels of the window, (N, 8), beyond it where it cuts a box;
            classes, (N,); the share of each box that lies in the window, (N,), at
            least ``min_share`` and 1 exactly if all of it does.
        """
        import shapely

        polygons = self._polygons.on(image)
        which = polygons.near(window)
        parts, owners = shapely.get_parts(polygons.shapes[which], return_index=True)
        boxes = shapely.oriented_envelope(parts)
        classes = polygons.values[which[owners]]
        # Of a polygon without area it is a line.
        kept = (shapely.get_type_id(boxes) == _POLYGON) & (classes != IGNORED)
        top, left, height, width = window
        corners = shapely.get_coordinates(boxes[kept]).reshape(-1, 5, 2)[:, :4]
        corners = corners - (left, top)
        sides = np.linalg.norm(np.diff(corners[:, :3], axis=1), axis=2)
        shares = np.array([share_inside(quad, width, height) for quad in corners])
        inside = (sides >= MIN_SIDE).all(axis=1) & (shares >= self.min_share)
        return (
            corners[inside].reshape(-1, 8),
            classes[kept][inside].astype(np.int64),
            shares[inside],
        )

    def overlaps(self, image: ImageFile) -> bool:
        """Whether a polygon reaches into an image."""
        return self._polygons.reach(image)

    def counts(self, image: ImageFile, window: Window) -> NDArray[np.int64]:
        """How many boxes of each class a window has, (number of classes,)."""
        classes = self.boxes(image, window)[1]
        return np.bincount(classes, minlength=len(self.classes))


def _is_raster(path: str) -> bool:
    """Whether a file holds pixels: by its ending, else because it opens as such."""
    if is_image_name(path):
        return True
    try:
        ImageFile(path).close()
    except UnreadableImageError:
        return False
    return True
