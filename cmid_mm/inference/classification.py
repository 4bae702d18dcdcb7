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
from .findings import Findings, FindingTask
from .georeferencing import write_boxes
from .ground import Ground
from .images import AnyImage, InputImage
from .merging import Opinions, mean_of_scores
from .windows import WindowGrid

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
        tiles (np.ndarray): Top, left, height and width of each in pixels, (N, 4). They
            do not overlap: where windows do, the border lies in the middle. Those
            without data, or with their centre outside the area, are left out.
        scores (np.ndarray): Score of each class, 0-1, float32 (N, C).
        classes (list[str]): Names of the classes.
    """

    image: InputImage
    tiles: NDArray[np.int64]
    scores: NDArray[np.float32]
    classes: list[str]

    @property
    def best(self) -> list[list[tuple[str, float]]]:
        """The five best classes of each tile and their scores, best first."""
        return [_best(scores, self.classes) for scores in self.scores]


def _best(scores: NDArray[np.float32], classes: list[str]) -> list[tuple[str, float]]:
    order = np.argsort(-scores, kind='stable')[:BEST]
    return [(classes[i], float(scores[i])) for i in order]


class Classification(FindingTask):
    """Inference of scene classification."""

    name = 'classification'
    has_summary = True

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

    def merge(self, opinions: Opinions) -> list[Any]:
        """The mean of their scores."""
        return mean_of_scores(opinions)

    def found(self, window: Window, prediction: Any) -> Findings:
        """The scores of a tile."""
        scores = prediction.pred_score.cpu().numpy()
        return {'window': np.array([window]), 'scores': scores[None]}

    def merged(
        self, image: AnyImage, grid: WindowGrid, findings: Findings
    ) -> TilesResult:
        """The scores of all tiles."""
        assert isinstance(image, InputImage)
        rows = _borders(grid.tops, grid.size, grid.height)
        columns = _borders(grid.lefts, grid.size, grid.width)
        spans = [rows[top] + columns[left] for top, left, *_ in findings['window']]
        tiles = np.array([(a, b, c - a, d - b) for a, c, b, d in spans])
        scores = findings['scores']
        if image.part is not None:
            inside = image.part.holds(tiles[:, 1::-1] + tiles[:, :1:-1] / 2)
            tiles, scores = tiles[inside], scores[inside]
        if not len(tiles):
            raise OutsideAreaError(f'{image.path}: no tile has its centre in the area')
        self.set_classes(scores.shape[1])
        return TilesResult(image, tiles, scores, self.classes)

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
            for tile, known in zip(result.tiles.tolist(), best, strict=True)
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


def _borders(
    starts: Sequence[int], size: int, length: int
) -> dict[int, tuple[int, int]]:
    """Where the parts nearest to the middle of each window begin and end on a side.

    Args:
        starts: Where the windows begin.
        size: Of the windows.
        length: Of the side.

    Returns:
        First pixel and the first one behind, by the window's first pixel.
    """
    middles = [(a + size + b) // 2 for a, b in zip(starts, starts[1:], strict=False)]
    edges = [0, *middles, length]
    return {start: (edges[i], edges[i + 1]) for i, start in enumerate(starts)}


def _corners(tiles: NDArray[np.int64]) -> NDArray[np.float64]:
    """Corners of tiles, (N, 8)."""
    top, left, height, width = tiles.astype(np.float64).T
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
