# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Labels from a raster, on the pixels of an image."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..images import ImageFile, Pixels, Place, PlaceMismatchError, Window
from ..images.place import check_same_place
from .attribute_tables import Colour, ValueTable, read_value_table
from .errors import LabelError
from .field_classes import check_names, class_index
from .masks import IGNORED, single_band, to_classes
from .recent import Recent, ground_bounds

#: Where users say what values mean.
_WHERE = 'for the labels'


class RasterLabels:
    """Labels from a raster; see :class:`~cmid_mm.labels.layers.LabelLayer`."""

    def __init__(
        self,
        path: str,
        classes: Sequence[str] | None,
        label_map: Mapping[Any, int | str],
        ignore: Sequence[Any],
    ) -> None:
        self.path = path
        with ImageFile(path) as labels:
            self._header, self._place = labels.header, labels.place
        table = read_value_table(path)
        label_map = {_number(path, value): name for value, name in label_map.items()}
        ignore = [_number(path, value) for value in ignore]
        ignored = {*ignore, self._header.nodata} - label_map.keys()
        names = {
            value: name for value, name in _names(table).items() if value not in ignored
        }
        if classes is not None and not set(names.values()) & set(classes):
            names = {}  # the values are the indices, whatever the file calls them
        meant: dict[int, int | str] = {**names, **label_map}
        #: Whether all values must be named, as the index of a class is none.
        self._complete = classes is None or bool(names)
        if classes is None:
            ordered = [meant[value] for value in sorted(meant)]
            classes = list(dict.fromkeys(map(str, filter(_is_name, ordered))))
            if not classes:
                raise LabelError(
                    f'{path} names no classes (no attribute table, no category names, '
                    'no colour table of a few colours); name them: classes=[...] '
                    '(--classes)'
                )
        self.classes = tuple(classes)
        check_names(path, self.classes)
        self._declared = {
            value: class_index(path, str(value), name, self.classes, value)
            for value, name in meant.items()
            if value in label_map or name in self.classes
        } | dict.fromkeys(ignore, IGNORED)
        self.palette = self._palette(table)
        self._on: Recent[ImageFile] = Recent(close=ImageFile.close)

    def _palette(self, table: ValueTable) -> list[Colour] | None:
        """Colours of the classes, if the file has one for each."""
        indices = range(len(self.classes))
        values = {} if self._complete else {index: index for index in indices}
        values |= self._declared
        colours = {
            index: table.colours[value]
            for value, index in reversed(values.items())
            if value in table.colours
        }
        return [colours[i] for i in indices] if {*indices} <= colours.keys() else None

    def window(self, image: ImageFile, window: Window) -> NDArray[np.uint8]:
        """Classes of the pixels of a window of an image, (h, w)."""
        stored = self._on.of_image(image, self._laid_upon).read_indices(window)
        if not self._is_aligned(image) and self._header.alpha is not None:
            stored = Pixels(stored.values)  # transparency is how a mask looks
        values, missing = single_band(self.path, stored)
        tag = self._header.nodata
        if tag is not None and tag not in self._declared:
            missing |= values == tag
        return to_classes(
            self.path,
            values,
            missing,
            tag,
            len(self.classes),
            self._declared,
            self._complete,
            where=_WHERE,
        )

    def _is_aligned(self, image: ImageFile) -> bool:
        """Whether both say where they lie; else pixels lie upon pixels."""
        return _has_ground(self._place) and _has_ground(image.place)

    def _laid_upon(self, image: ImageFile) -> ImageFile:
        if self._is_aligned(image):
            return ImageFile(self.path, onto=image, nearest=True)
        if self._header.shape != image.header.shape:
            lacking = image.path if _has_ground(self._place) else self.path
            raise PlaceMismatchError(
                f'{self.path} is {self._header.width} x {self._header.height} pixels, '
                f'but {image.path} is {image.width} x {image.height}, and {lacking} '
                'does not say where it lies; give labels of the same pixels, or both '
                'files a place and a reference system (gdal_translate -a_srs -a_ullr)'
            )
        check_same_place(
            image.path, image.place, Path(self.path), self._place, image.header.shape
        )
        return ImageFile(self.path, keep=True)

    def overlaps(self, image: ImageFile) -> bool:
        """Whether the raster lies on the ground of an image, by their frames."""
        if not self._is_aligned(image):
            return True
        assert self._place is not None and image.place is not None
        own = ground_bounds(self._place, self._header.shape, self._place.crs)
        other = ground_bounds(image.place, image.header.shape, self._place.crs)
        return all(
            own[axis] < other[axis + 2] and other[axis] < own[axis + 2]
            for axis in (0, 1)
        )


def _names(table: ValueTable) -> dict[int, str]:
    """Names of values; numbers of those that have a colour, if there are no names."""
    listed = [value for value, colour in table.colours.items() if any(colour)]
    if table.names or 255 in listed:  # all 256: a scale of colours, no list of classes
        return table.names
    return {value: str(value) for value in listed}


def _number(path: str, value: Any) -> int:
    """A value of a raster that an option names, also as text.

    Raises:
        LabelError: If it is no whole number.
    """
    try:
        if int(value) == float(value):
            return int(value)
    except (TypeError, ValueError):
        pass
    raise LabelError(
        f'{path} is a raster, whose values are whole numbers, but label_map or ignore '
        f'names {value!r}'
    )


def _is_name(meant: int | str) -> bool:
    return isinstance(meant, str)


def _has_ground(place: Place | None) -> bool:
    return place is not None and place.crs is not None
