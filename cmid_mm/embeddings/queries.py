# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What is sought: a picture, a point of a raster, a point of the map."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..images import ImageFile, Window
from .index import Entry, Index, UnusableIndexError
from .making import EmbeddingOptions, Maker
from .searching import Shown

#: A file or nothing, and two numbers behind it.
_POINT = re.compile(r'(.*)@(-?[\d.]+(?:e[+-]?\d+)?),(-?[\d.]+(?:e[+-]?\d+)?)', re.I)


class Example(NamedTuple):
    """One example of what is sought.

    Attributes:
        vector: float32 (D,).
        shown: Where it lies.
        point: The point that was asked for, such as ``@9.1,45.2``; empty if the whole
            image was.
    """

    vector: NDArray[np.float32]
    shown: Shown
    point: str


class Queries:
    """Makes examples of what stands on a command line.

    The network is loaded only if an example is not in the index.

    Args:
        index: Where is sought.
        config: Of the model. Defaults to None, that which made the index.
        checkpoint: Likewise.
        device: Where the network computes. Defaults to ``'cpu'``.
    """

    def __init__(
        self,
        index: Index,
        config: str | None = None,
        checkpoint: str | None = None,
        device: str = 'cpu',
    ) -> None:
        self.index = index
        self._given = {'config': config, 'checkpoint': checkpoint}
        self._device = device
        self._maker: Maker | None = None

    def example(self, text: str) -> Example:
        """An example.

        Args:
            text: An image; ``FILE@x,y``, a point in the reference system of a raster,
                or column and row of one without a place; or ``@lon,lat``, a point in
                longitude and latitude that a window of the index covers.

        Raises:
            UnusableIndexError: If the index was made by another model.
            ValueError: If no window holds the point.
        """
        point = _POINT.fullmatch(text)
        if point is None or Path(text).exists():
            return self._of_image(text)
        x, y = float(point[2]), float(point[3])
        if not point[1]:
            return self._of_window(self._at_degrees(x, y), text)
        return self._of_point(point[1], x, y, text)

    def _of_window(self, entry: Entry, text: str) -> Example:
        point = text[text.rindex('@') :]
        return Example(entry.vector, Shown(entry.file, entry.window), point)

    def _of_image(self, path: str) -> Example:
        return Example(self._vector(path, None), Shown(path), '')

    def _of_point(self, path: str, x: float, y: float, name: str) -> Example:
        with ImageFile(path, reading=self.index.reading) as image:
            column, row = x, y
            place = image.place
            if place is not None:
                column, row = place.pixels(np.array([[x, y]]))[0]
            shape = image.header.shape
            where = '' if place is None else f' ({place})'
        if not (0 <= row < shape[0] and 0 <= column < shape[1]):
            raise ValueError(
                f'{name}: lies outside of {path}{where}, which is {shape[1]} x '
                f'{shape[0]} pixels; give x,y in its reference system, or column,row '
                'of an image without one'
            )

        def holds(block: Any) -> NDArray[np.bool_]:
            return block.overlapping(path, (int(row), int(column), 1, 1))

        entry = self._nearest_centre(
            holds, lambda block: _centres(block.windows) - (row, column)
        )
        if entry is not None:
            return self._of_window(entry, name)
        window = self._window_around(row, column, shape)
        shown = Shown(path, window)
        return Example(self._vector(path, window), shown, name[name.rindex('@') :])

    def _at_degrees(self, longitude: float, latitude: float) -> Entry:
        import shapely

        def holds(block: Any) -> NDArray[np.bool_]:
            if block.outlines is None:
                return np.zeros(len(block.valid), bool)
            return shapely.intersects_xy(block.outlines, longitude, latitude)

        def offsets(block: Any) -> NDArray[np.float64]:
            centres = shapely.get_coordinates(shapely.centroid(block.outlines))
            return centres - (longitude, latitude)

        longitude = (longitude + 180) % 360 - 180
        entry = self._nearest_centre(holds, offsets)
        if entry is None:
            raise ValueError(
                f'@{longitude:g},{latitude:g}: no window of {self.index.folder} holds '
                'this point (longitude, latitude in degrees)'
            )
        return entry

    def _nearest_centre(
        self,
        holds: Callable[[Any], NDArray[np.bool_]],
        offsets: Callable[[Any], NDArray[np.float64]],
    ) -> Entry | None:
        """The window whose centre is nearest, among those that hold a point."""
        best, number = np.inf, None
        for block in self.index.blocks():
            rows = np.flatnonzero(holds(block))
            if len(rows):
                distances = np.hypot(*offsets(block)[rows].T)
                nearest = distances.argmin()
                if distances[nearest] < best:
                    best = distances[nearest]
                    number = block.first + int(rows[nearest])
        return None if number is None else self.index.entries([number])[0]

    # -- The network ---------------------------------------------------------------

    @property
    def maker(self) -> Maker:
        """Makes vectors as those of the index were made."""
        if self._maker is None:
            record = self.index.record
            if not record:
                raise UnusableIndexError(
                    f'{self.index.folder} has no index.json that says how its vectors '
                    'were made; give the folder that cmid-mm embed wrote'
                )
            named = {name: value for name, value in self._given.items() if value}
            names = EmbeddingOptions.__dataclass_fields__
            options = {k: v for k, v in {**record, **named}.items() if k in names}
            maker = Maker(EmbeddingOptions(**options), self._device)
            if maker.task.digest != self.index.digest:
                raise UnusableIndexError(
                    f'{self.index.folder} was made by another model than '
                    f'{options["config"]} with {options["checkpoint"]} (digests '
                    f'{self.index.digest}, {maker.task.digest}); vectors of two models '
                    'cannot be compared: name the right --config and --checkpoint, or '
                    'embed the images anew'
                )
            self._maker = maker
        return self._maker

    def _vector(self, path: str, window: Window | None) -> NDArray[np.float32]:
        task = self.maker.task
        image = task.open(path)
        (prediction,) = task.forward([task.sample(image, window).data])
        return prediction['vector']

    def _window_around(self, row: float, column: float, shape: Any) -> Window:
        size = self.index.record.get('window') or max(shape)
        height, width = min(size, shape[0]), min(size, shape[1])
        top = int(np.clip(row - height / 2, 0, shape[0] - height))
        left = int(np.clip(column - width / 2, 0, shape[1] - width))
        return top, left, height, width


def _centres(windows: NDArray[np.int64]) -> NDArray[np.float64]:
    return windows[:, :2] + windows[:, 2:] / 2
