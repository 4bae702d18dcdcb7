# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Semantic segmentation: a class for each pixel."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from numpy.typing import NDArray
from torch import Tensor, nn

from ..images import write_image
from ..images.strips import (
    Content,
    reduced_values,
    rows_of_raster,
    write_raster,
)
from ..images.values import resize_nearest
from ..visualization.drawing import IGNORED, Picture, resized_mask, to_picture
from ..visualization.panels import mask_panel
from .background import in_background
from .booking import no_data
from .ground import Ground
from .images import AnyImage, InputImage, picture_side
from .merging import Opinions, mean_of_pixels, probabilities
from .rasters import Piece, join_pieces, write_pieces
from .task import Task
from .unfinished import Unfinished
from .vector_files import PolygonOptions, write_polygons
from .windows import Cell, Scored, Scores, WindowGrid, blend

#: Longest side of pictures in pixels; masks have full size.
PICTURE_SIZE = 2048


@dataclass(frozen=True)
class Probabilities:
    """How probabilities are written.

    Attributes:
        which: Those of all ``'classes'``, one band each, or the ``'largest'``.
        bits: 8 or 16.
    """

    which: Literal['classes', 'largest'] = 'classes'
    bits: Literal[8, 16] = 8

    @property
    def dtype(self) -> str:
        """Type of the values, of which the highest is no data."""
        return f'uint{self.bits}'

    @property
    def nodata(self) -> int:
        """Value of pixels without data."""
        return 2**self.bits - 1

    def stored(self, values: Scores, covered: NDArray[np.bool_]) -> NDArray[Any]:
        """Probabilities (C, h, w) as they are written.

        Args:
            values: 0-1, those of the bands that are written.
            covered: Pixels that hold data, (h, w).
        """
        stored = np.rint(values.clip(0, 1) * (self.nodata - 1))
        return np.where(covered, stored, self.nodata).astype(self.dtype)

    def values(self, stored: NDArray[Any]) -> Scores:
        """Probabilities that were stored."""
        return stored.astype(np.float32) / np.float32(self.nodata - 1)


#: Scores of the chosen class, of which polygons have the mean.
_SCORE = Probabilities('largest', 8)
_SCORES = '_score.tif'
_POLYGONS = '.gpkg'
#: Pixels, and at least so many rows, that are made polygons of together.
_PIXELS = 2**21
_LEAST_ROWS = 64


@dataclass(frozen=True)
class SegmentationResult:
    """The classes of the pixels of one image.

    Attributes:
        image (InputImage): The image.
        mask (np.ndarray): Class index of each pixel, uint8 (H, W), in pixels of the
            file. 255 where the file holds no data.
        classes (list[str]): Names of the classes.
        scores (np.ndarray): Probability of each class, float32 (C, H, W), if the task
            has ``probabilities``; else None.
    """

    image: Any
    mask: NDArray[np.uint8]
    classes: list[str]
    scores: Scores | None = None


class Segmentation(Task):
    """Inference of semantic segmentation."""

    name = 'segmentation'
    #: How probabilities are written; None for not at all.
    probabilities: Probabilities | None = None
    #: Of which regions polygons are written; None for none.
    polygons: PolygonOptions | None = None

    def __init__(self, cfg: Config, model: nn.Module, meta: dict[str, Any]) -> None:
        super().__init__(cfg, model, meta)
        self.set_classes(max(self.model.out_channels, 2))

    # -- Prediction ----------------------------------------------------------------

    def result(
        self, image: AnyImage, prediction: Any, missing: NDArray[np.bool_] | None
    ) -> Any:
        """The mask of an image."""
        mask = prediction.pred_sem_seg.data[0].cpu().numpy().astype(np.uint8)
        # The config may load images at a fixed size.
        size = image.height, image.width
        mask = resized_mask(mask, size)
        if missing is not None:
            mask[resize_nearest(missing, size)] = IGNORED
        scores = None
        if self.keeps_scores:
            scores = self.all_classes(_scores(prediction, size).cpu().numpy())
        return self.finish(image, mask, scores)

    def large_result(self, image: AnyImage, grid: WindowGrid, batch_size: int) -> Any:
        """The mask of an image from overlapping windows."""
        size = grid.height, grid.width
        mask, scores = np.full(size, IGNORED, np.uint8), None
        if self.keeps_scores:
            scores = np.zeros((len(self.classes), *size), np.float32)
        for cell in self.cells(image, grid, grid.strips, batch_size):
            top, left, height, width = cell.window
            rows, columns = slice(top, top + height), slice(left, left + width)
            mask[rows, columns] = cell.decided(self.decide)
            probable = cell.scores if self.keeps_scores else None
            if scores is not None and probable is not None:
                scores[:, rows, columns] = self.all_classes(probable)
        if (mask == IGNORED).all():
            raise no_data(image)
        return self.finish(image, mask, scores)

    def cells(
        self,
        image: AnyImage,
        grid: WindowGrid,
        strips: range,
        batch_size: int,
        folder: Path | None = None,
    ) -> Generator[Cell, None, None]:
        """Scores of all windows of some strips, blended; see :func:`blend`."""
        rows = grid.reaching(strips)
        scored = self._window_scores(image, grid, rows, batch_size)
        # The network goes on while they are blended and written.
        with closing(in_background(scored, ahead=2 * batch_size)) as predicted:
            yield from blend(predicted, grid, strips, folder)

    def _window_scores(
        self, image: AnyImage, grid: WindowGrid, rows: range, batch_size: int
    ) -> Iterator[Scored]:
        for window, prediction, absent in self.predict_windows(
            image, grid, rows, batch_size
        ):
            yield window, _scores(prediction, window[2:]), absent

    def merge(self, opinions: Opinions) -> list[Any]:
        """The mean of their probabilities."""
        return mean_of_pixels(
            opinions, getattr(self.model.decode_head, 'threshold', None)
        )

    def decide(self, scores: Tensor) -> Tensor:
        """Classes (H, W) of the pixels by their scores (C, H, W)."""
        if len(scores) == 1:
            return scores[0] > self.model.decode_head.threshold
        return scores.max(0).indices  # several times faster than argmax on a CPU

    def all_classes(self, scores: Scores) -> Scores:
        """Scores of each class; a network may give that of the second alone."""
        return np.concatenate([1 - scores, scores]) if len(scores) == 1 else scores

    def finish(
        self, image: AnyImage, mask: NDArray[np.uint8], scores: Scores | None
    ) -> Any:
        """Make the result."""
        return SegmentationResult(image, mask, self.classes, scores)

    @property
    def keeps_scores(self) -> bool:
        """Whether a result needs the scores of the classes."""
        return self.probabilities is not None or self.polygons is not None

    # -- Files ---------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """Which probabilities and polygons are written."""
        chosen = {'probabilities': self.probabilities, 'polygons': self.polygons}
        return {name: each and vars(each) for name, each in chosen.items()}

    def contents(self, placed: bool) -> dict[str, Content]:
        """What the rasters of a result are, by the endings of their names.

        The mask is the last one; that of an image without a place is a PNG.
        """
        contents = {}
        if self.probabilities is not None:
            contents['_prob.tif'] = Content(
                self.probabilities.dtype,
                self.probability_names(),
                self.probabilities.nodata,
                1 / (self.probabilities.nodata - 1),
                overviews='average',
            )
        return contents | {'.tif' if placed else '.png': self.mask_content(placed)}

    def mask_content(self, placed: bool) -> Content:
        """What the mask is; a PNG holds nothing but the values."""
        if not placed:
            return Content()
        palette = self.palette[: len(self.classes)]
        return Content(nodata=IGNORED, palette=palette, classes=self.classes)

    def probability_names(self) -> list[str]:
        """What the bands of the probabilities are called."""
        assert self.probabilities is not None
        largest = self.probabilities.which == 'largest'
        return ['largest probability'] if largest else self.classes

    def values(
        self, mask: NDArray[np.uint8], scores: Scores | None
    ) -> list[NDArray[Any]]:
        """Values of the rasters of :meth:`contents`.

        Args:
            mask: Classes, (h, w); 255 where there is no data.
            scores: Probability of each class, (C, h, w), if it is known.
        """
        values = [self.mask_values(mask)]
        if self.probabilities is None:
            return values
        if scores is None:
            chosen = np.zeros((len(self.probability_names()), *mask.shape), np.float32)
        else:
            chosen = self.chosen_probabilities(scores)
        return [self.probabilities.stored(chosen, mask != IGNORED), *values]

    def mask_values(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A mask as it is written."""
        return mask

    def chosen_probabilities(self, scores: Scores) -> Scores:
        """Those that are written, of those of all classes."""
        assert self.probabilities is not None
        largest = self.probabilities.which == 'largest'
        return scores.max(0, keepdims=True) if largest else scores

    def save(self, result: Any, folder: Path, name: str) -> list[Path]:
        """Write ``name.tif`` or ``name.png``, the indices, and ``name_overlay.jpg``.

        The GeoTIFF, for a georeferenced image, has its place and the classes' names
        and colours; 255 is no data. Probabilities, if chosen, are ``name_prob.tif``,
        polygons ``name.gpkg``.
        """
        place = result.image.place
        contents = self.contents(place is not None)
        overlay = folder / f'{name}_overlay.jpg'
        write_image(overlay, self.draw(result.image, result.mask))
        values = self.values(result.mask, result.scores)
        for (ending, content), planes in zip(contents.items(), values, strict=True):
            write_raster(folder / f'{name}{ending}', planes, content, place)
        written = [overlay, *(folder / f'{name}{ending}' for ending in contents)]
        if self.polygons is not None:
            written.append(folder / f'{name}{_POLYGONS}')
            score = _SCORE.values(_chosen_score(result.mask, result.scores))
            self._write_polygons(written[-1], [(result.mask, score)], result.image)
        return written

    def write_strips(
        self,
        image: AnyImage,
        grid: WindowGrid,
        strips: range,
        batch_size: int,
        to: Unfinished,
    ) -> None:
        """Write rasters of some strips."""
        contents = self.contents(image.place is not None)
        working = {**contents}
        if self.polygons is not None:
            working[_SCORES] = Content(_SCORE.dtype)
        with closing(self.cells(image, grid, strips, batch_size, to.path)) as cells:
            write_pieces(map(self._piece, cells), to, grid, strips, working)

    def join_strips(
        self, image: AnyImage, grid: WindowGrid, to: Unfinished
    ) -> tuple[list[Path], Any]:
        """Write what :meth:`save` does."""
        if not to.holds_data(grid.strips):
            to.remove()
            raise no_data(image)
        contents = self.contents(image.place is not None)
        join_pieces(to, grid, contents, image.place)
        *_, mask = contents
        side = picture_side(grid.height, grid.width, PICTURE_SIZE)
        values = reduced_values(to.result(mask), side)
        reduced = self.mask_of_values(values)
        write_image(to.result('_overlay.jpg'), self.draw(image, reduced))
        if self.polygons is not None:
            rows = self._rows(to, grid, mask)
            self._write_polygons(to.result(_POLYGONS), rows, image)
        return to.finish(self._endings(contents)), None

    def _piece(self, cell: Cell) -> Piece:
        mask = cell.decided(self.decide)
        scores = cell.scores if self.keeps_scores else None
        if scores is not None:
            scores = self.all_classes(scores)
        values = self.values(mask, scores)
        if self.polygons is not None:
            values.append(_chosen_score(mask, scores))
        return cell.window, values, bool(cell.covered.any())

    def _endings(self, contents: Iterable[str]) -> list[str]:
        """Endings of all files of a result, that of the mask last."""
        polygons = [] if self.polygons is None else [_POLYGONS]
        return ['_overlay.jpg', *polygons, *contents]

    def _rows(
        self, to: Unfinished, grid: WindowGrid, ending: str
    ) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
        """Classes and scores of some rows at a time, of strips that are done."""
        count = max(_LEAST_ROWS, _PIXELS // grid.width)
        for strip in grid.strips:
            masks = rows_of_raster(to.part(strip, ending), count)
            scores = rows_of_raster(to.part(strip, _SCORES), count)
            for values, stored in zip(masks, scores, strict=True):
                yield self.mask_of_values(values), _SCORE.values(stored)

    def _write_polygons(self, path: Path, rows: Iterable[Any], image: AnyImage) -> None:
        ground = Ground(image.place, image.height, image.width)
        write_polygons(path, rows, self.classes, ground, self.polygon_options())

    def polygon_options(self) -> PolygonOptions:
        """Of which regions polygons are written."""
        assert self.polygons is not None
        return self.polygons

    def mask_of_values(self, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A mask as it was before it was written."""
        return values

    def saved_files(self, folder: Path, name: str) -> list[Path]:
        """The files of a result that is complete; none if it is not."""
        for placed in (True, False):
            endings = self._endings(self.contents(placed))
            files = [folder / f'{name}{ending}' for ending in endings]
            if all(file.exists() for file in files):
                return files
        return []

    def draw(self, image: AnyImage, mask: NDArray[np.uint8]) -> Picture:
        """A picture of the result, from a mask of any size."""
        assert isinstance(image, InputImage)
        picture = to_picture(image.preview(PICTURE_SIZE), self.bands)
        return mask_panel(picture, {'prediction': mask}, self.meta)


def _chosen_score(mask: NDArray[np.uint8], scores: Scores | None) -> NDArray[Any]:
    """Scores of the classes of a mask, (h, w), as they are stored."""
    covered = mask != IGNORED
    if scores is None:
        return _SCORE.stored(np.zeros(mask.shape, np.float32), covered)
    chosen = np.take_along_axis(scores, np.where(covered, mask, 0)[None], 0)
    return _SCORE.stored(chosen[0], covered)


@torch.no_grad()
def _scores(prediction: Any, size: Sequence[int]) -> Tensor:
    """Probabilities (C, h, w) of a prediction, resized."""
    scores = probabilities(prediction)[None]
    if scores.shape[-2:] != tuple(size):
        scores = F.interpolate(scores, tuple(size), mode='bilinear')
    return scores[0]
