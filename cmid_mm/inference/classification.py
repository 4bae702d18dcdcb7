# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Scene classification: a class for each image, or for each tile of a large one."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..files import write_bytes
from ..images import Window
from ..images.writing import write_image
from ..visualization.drawing import (
    IGNORED,
    Picture,
    enlarge,
    fit,
    titled,
    to_picture,
)
from ..visualization.panels import mask_panel
from .areas import OutsideAreaError
from .georeferencing import write_boxes
from .ground import Ground
from .images import AnyImage, InputImage
from .task import Task

#: Classes listed for each image.
BEST = 5
#: Longest side of pictures of tiles in pixels.
PICTURE_SIZE = 2048


@dataclass(frozen=True)
class ClassificationResult:
    """The class of one image.

    Attributes:
        image (InputImage): The image.
        scores (np.ndarray): Score of each class, 0-1, float32.
        classes (list[str]): Names of the classes.
    """

    image: InputImage
    scores: NDArray[np.float32]
    classes: list[str]

    @property
    def best(self) -> list[tuple[str, float]]:
        """The five best classes and their scores, best first."""
        return _best(self.scores, self.classes)


@dataclass(frozen=True)
class TilesResult:
    """The classes of the tiles of one image.

    Attributes:
        image (InputImage): The image.
        tiles (list): Top, left, height and width of each in pixels. Tiles do not
            overlap: where the windows do, the border lies in the middle. Those without
            data, and those whose centre lies outside the area, are left out.
        scores (np.ndarray): Score of each class, 0-1, float32 (N, C).
        classes (list[str]): Names of the classes.
    """

    image: InputImage
    tiles: list[Window]
    scores: NDArray[np.float32]
    classes: list[str]

    @property
    def best(self) -> list[list[tuple[str, float]]]:
        """The five best classes of each tile and their scores, best first."""
        return [_best(scores, self.classes) for scores in self.scores]


def _best(scores: NDArray[np.float32], classes: list[str]) -> list[tuple[str, float]]:
    order = np.argsort(-scores, kind='stable')[:BEST]
    return [(classes[i], float(scores[i])) for i in order]


class Classification(Task):
    """Inference of scene classification."""

    name = 'classification'

    def default_window(self, pipeline: Sequence[dict[str, Any]]) -> int:
        """None: a scene is classified as a whole, unless tiles are asked for."""
        return 0

    def check_window(self, window: int | None, overlap: int | None) -> tuple[int, int]:
        """Tiles do not overlap unless they shall."""
        return super().check_window(window, overlap or 0)

    def result(
        self, image: AnyImage, prediction: Any, missing: NDArray[np.bool_] | None
    ) -> ClassificationResult:
        """The scores of an image."""
        assert isinstance(image, InputImage)
        scores = prediction.pred_score.cpu().numpy()
        self.set_classes(len(scores))
        return ClassificationResult(image, scores, self.classes)

    def large_result(
        self, image: AnyImage, windows: Sequence[Window], batch_size: int
    ) -> TilesResult:
        """The scores of each tile."""
        assert isinstance(image, InputImage)
        cells = dict(zip(windows, tile_cells(windows), strict=True))
        tiles: list[Window] = []
        scores: list[NDArray[np.float32]] = []
        for window, prediction, _ in self.predict_windows(image, windows, batch_size):
            top, left, height, width = cells[window]
            centre = np.array([[left + width / 2, top + height / 2]])
            if image.part is None or image.part.holds(centre)[0]:
                tiles.append(cells[window])
                scores.append(prediction.pred_score.cpu().numpy())
        if not tiles:
            raise OutsideAreaError(f'{image.path}: no tile has its centre in the area')
        self.set_classes(len(scores[0]))
        return TilesResult(image, tiles, np.stack(scores), self.classes)

    def save(
        self, result: ClassificationResult | TilesResult, folder: Path, name: str
    ) -> list[Path]:
        """Write the picture ``name.jpg`` with the class above it.

        Of tiles, ``name.csv`` has the five best classes of each. The picture shows the
        best, and so does ``name.geojson`` or ``name.gpkg`` of a georeferenced image.
        """
        path = folder / f'{name}.jpg'
        if isinstance(result, TilesResult):
            write_image(path, self._draw_tiles(result))
            return [path, *self._save_tiles(result, folder / name)]
        picture = fit(
            enlarge(to_picture(result.image.preview(1024), self.bands), 256), 1024
        )
        text = '  '.join(f'{label} {score:.2f}' for label, score in result.best[:2])
        write_image(path, titled(picture, text))
        return [path]

    def _draw_tiles(self, result: TilesResult) -> Picture:
        picture = to_picture(result.image.preview(PICTURE_SIZE), self.bands)
        factor = picture.shape[0] / result.image.height
        mask = np.full(picture.shape[:2], IGNORED, np.uint8)
        for tile, best in zip(result.tiles, result.scores.argmax(1), strict=True):
            edges = np.add(tile, (0, 0, *tile[:2]))
            top, left, bottom, right = (edges * factor).round().astype(int)
            mask[top:bottom, left:right] = best
        return mask_panel(picture, {'prediction': mask}, self.meta)

    def _save_tiles(self, result: TilesResult, path: Path) -> list[Path]:
        best = result.best
        rows = [
            [*tile, *_texts(known)]
            for tile, known in zip(result.tiles, best, strict=True)
        ]
        table = path.with_name(f'{path.name}.csv')
        _write_table(table, ['top', 'left', 'height', 'width'], rows)
        image = result.image
        if image.place is None:
            return [table]
        fields: dict[str, Any] = {}
        for rank in range(len(best[0])):
            ending = f'_{rank + 1}' if rank else ''
            fields[f'class{ending}'] = [known[rank][0] for known in best]
            scores = [known[rank][1] for known in best]
            fields[f'score{ending}'] = np.array(scores).round(4)
        layer = path.with_name(f'{path.name}.{self.vector_format}')
        ground = Ground(image.place, image.height, image.width)
        write_boxes(layer, _corners(result.tiles), fields, ground, 'tiles')
        return [table, layer]

    def summary(self, result: ClassificationResult | TilesResult) -> list[Any] | None:
        """A row of ``predictions.csv``; an image in tiles has a file of its own."""
        if isinstance(result, TilesResult):
            return None
        return [result.image.path, *_texts(result.best)]

    def save_summary(self, summaries: Sequence[list[Any] | None], folder: Path) -> None:
        """Write ``predictions.csv``: the five best classes of each image."""
        rows = [row for row in summaries if row is not None]
        if rows:
            _write_table(folder / 'predictions.csv', ['image'], rows)


def tile_cells(windows: Sequence[Window]) -> list[Window]:
    """Parts of an image that are nearest to the middle of each window.

    Args:
        windows: All windows of the image, row by row.

    Returns:
        A part for each, none of which overlap.
    """
    rows = _borders([(top, top + height) for top, _, height, _ in windows])
    columns = _borders([(left, left + width) for _, left, _, width in windows])
    cells = []
    for top, left, *_ in windows:
        (upper, lower), (first, last) = rows[top], columns[left]
        cells.append((upper, first, lower - upper, last - first))
    return cells


def _borders(spans: Sequence[tuple[int, int]]) -> dict[int, tuple[int, int]]:
    """Where the parts of overlapping spans begin and end, by the spans' beginnings."""
    spans = sorted(set(spans))
    middles = [
        (end + start) // 2
        for (_, end), (start, _) in zip(spans, spans[1:], strict=False)
    ]
    edges = [spans[0][0], *middles, spans[-1][1]]
    return {
        start: (first, last)
        for (start, _), first, last in zip(spans, edges, edges[1:], strict=False)
    }


def _corners(tiles: Sequence[Window]) -> NDArray[np.float64]:
    """Corners of tiles, (N, 8)."""
    top, left, height, width = np.array(tiles, np.float64).T
    right, bottom = left + width, top + height
    return np.stack((left, top, right, top, right, bottom, left, bottom), 1)


def _texts(best: Sequence[tuple[str, float]]) -> list[str]:
    """Classes and scores as a table has them."""
    return [text for name, score in best for text in (name, f'{score:.4f}')]


def _write_table(path: Path, columns: Sequence[str], rows: Sequence[list[Any]]) -> None:
    """Write a CSV of some columns, and classes and scores, the best first."""
    count = (len(rows[0]) - len(columns)) // 2
    more = [f'{what}_{i}' for i in range(2, count + 1) for what in ('class', 'score')]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerows([[*columns, 'class', 'score', *more], *rows])
    write_bytes(path, text.getvalue().encode())
