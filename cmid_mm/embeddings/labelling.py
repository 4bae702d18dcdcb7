# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""From a few marked windows to a class for every window of an index."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ..images import ImageFile, Reading
from ..images.strips import Content, StripWriter, join_strips, move_raster
from ..labels.errors import LabelError
from ..labels.points import read_points
from .index import Block, Index

#: Value of ground without a vector in maps.
NO_DATA = 255


@dataclass(frozen=True)
class Marked:
    """Windows with a class.

    Attributes:
        vectors: float32 (N, D).
        classes: The class of each.
        outside: Points that no window holds.
        mixed: Windows that hold points of several classes, and are left out.
    """

    vectors: NDArray[np.float32]
    classes: list[str]
    outside: int
    mixed: int


@dataclass(frozen=True)
class Classified:
    """A block of an index with classes.

    Attributes:
        block: The windows.
        labels: Index of the class of each, (n,).
        probability: Of that class, (n,).
    """

    block: Block
    labels: NDArray[np.int64]
    probability: NDArray[np.float64]


def marked_windows(
    index: Index, path: str | Path, field: str, layer: str | None = None
) -> Marked:
    """The windows that hold the points of a vector layer.

    Args:
        index: The index.
        path: Points with a class, in any reference system.
        field: That holds the class.
        layer: Name of the layer, if there are several.

    Raises:
        LabelError: If the layer has no points, none lies in a window, or all are of
            one class.
    """
    points, names = read_points(path, field, 'EPSG:4326', layer)
    import shapely

    shapes = shapely.points(points)
    vectors: list[NDArray[np.float32]] = []
    classes: list[str] = []
    met, mixed = np.zeros(len(points), bool), 0
    for block in index.blocks():
        if block.outlines is None:
            continue
        tree = shapely.STRtree(block.outlines)
        which, rows = tree.query(shapes, predicate='intersects')
        met[which] = True
        marks: dict[int, set[str]] = {}
        for number, row in zip(which, rows, strict=True):
            marks.setdefault(row, set()).add(names[number])
        alike = {row: held.pop() for row, held in marks.items() if len(held) == 1}
        mixed += len(marks) - len(alike)
        vectors += [block.vectors[row] for row in alike]
        classes += alike.values()
    if not met.any():
        raise LabelError(
            f'{path}: none of the {len(points)} points lies in a window of '
            f'{index.folder}; mark places in the scenes that were embedded'
        )
    if len(set(classes)) < 2:
        raise LabelError(
            f'{path}: all marked windows are of one class, '
            f'{", ".join(map(repr, set(classes))) or "or of several at once"}; mark '
            'some of another one too, such as places that are not it'
        )
    return Marked(np.stack(vectors), classes, int((~met).sum()), mixed)


class WindowClassifier:
    """A logistic regression on standardised vectors.

    Args:
        marked: What it learns from.
        strength: Inverse strength of its L2 penalty. Defaults to 1, scikit-learn's.
    """

    def __init__(self, marked: Marked, strength: float = 1.0) -> None:
        self._model = make_pipeline(
            StandardScaler(), LogisticRegression(C=strength, max_iter=1000)
        )
        self._model.fit(marked.vectors, marked.classes)
        #: Names, in the order of the labels.
        self.classes: list[str] = [str(name) for name in self._model.classes_]

    def classify(self, index: Index) -> Iterator[Classified]:
        """Classify an index, block by block."""
        for block in index.blocks():
            scores = self._model.predict_proba(block.vectors)
            labels = scores.argmax(1)
            yield Classified(block, labels, scores.max(1))


def rows_of(
    classified: Classified, classes: Sequence[str]
) -> tuple[list[dict[str, Any]], list[Any]]:
    """What to write of windows: fields, and polygons or None."""
    block = classified.block
    rows = [
        {
            'class': classes[label],
            'probability': round(float(probability), 4),
            'file': block.file,
            'top': int(window[0]),
            'left': int(window[1]),
            'height': int(window[2]),
            'width': int(window[3]),
        }
        for label, probability, window in zip(
            classified.labels, classified.probability, block.windows, strict=True
        )
    ]
    count = len(block.valid)
    return rows, [None] * count if block.outlines is None else list(block.outlines)


class ClassMap:
    """A class raster of the windows of one image, on the grid of its pixels.

    Where windows overlap, the border lies in the middle. Ground without a vector is
    :data:`NO_DATA`.

    Args:
        file: The image.
        classes: Names of the classes.
        reading: At which distance on the ground windows count pixels. Defaults to
            None, the image's own.
    """

    def __init__(
        self, file: str, classes: Sequence[str], reading: Reading | None = None
    ) -> None:
        if len(classes) > NO_DATA:
            raise ValueError(f'a map has at most {NO_DATA} classes, got {len(classes)}')
        with ImageFile(file, reading=reading) as image:
            self._shape, self._place = image.header.shape, image.place
        self._content = Content(nodata=NO_DATA, classes=list(classes))
        self._windows: list[NDArray[np.int64]] = []
        self._labels: list[NDArray[np.int64]] = []

    def add(self, classified: Classified) -> None:
        """Add windows of the image."""
        self._windows.append(classified.block.windows)
        self._labels.append(classified.labels)

    def write(self, path: Path) -> None:
        """Write the raster, a strip of it in memory at a time.

        Args:
            path: The file, ``.tif``, replaced if there is one.
        """
        windows, labels = np.concatenate(self._windows), np.concatenate(self._labels)
        height, width = self._shape
        rows = _cells(windows[:, 0], windows[:, 2], height)
        columns = _cells(windows[:, 1], windows[:, 3], width)
        path.parent.mkdir(parents=True, exist_ok=True)
        strip = path.with_name(f'.{path.name}.strip')
        whole = path.with_name(f'.{path.name}.part.tif')
        try:
            with StripWriter(strip, height, width, self._content) as writer:
                for top, (first, end) in rows.items():
                    values = np.full((end - first, width), NO_DATA, np.uint8)
                    for row in np.flatnonzero(windows[:, 0] == top):
                        left, right = columns[int(windows[row, 1])]
                        values[:, left:right] = labels[row]
                    writer.write(values, first, 0)
            join_strips({0: strip}, whole, self._shape, self._content, self._place)
            move_raster(whole, path)
        finally:
            strip.unlink(missing_ok=True)
            whole.unlink(missing_ok=True)


def _cells(
    starts: NDArray[np.int64], sizes: NDArray[np.int64], length: int
) -> dict[int, tuple[int, int]]:
    """Where the cell of each row (or column) of windows begins and ends."""
    order, first = np.unique(starts, return_index=True)
    ends = np.minimum(order + sizes[first], length)
    borders = [(begin + end) // 2 for begin, end in zip(order[1:], ends, strict=False)]
    gaps = [begin > end for begin, end in zip(order[1:], ends, strict=False)]
    cells = {}
    for i, start in enumerate(order.tolist()):
        begin = start if i == 0 or gaps[i - 1] else int(borders[i - 1])
        end = int(ends[i]) if i == len(order) - 1 or gaps[i] else int(borders[i])
        cells[start] = begin, end
    return cells
