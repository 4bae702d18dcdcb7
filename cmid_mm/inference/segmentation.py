# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Semantic segmentation: a class for each pixel."""

from collections.abc import Iterator, Sequence
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
from ..images.strips import Content, bounded_cache, reduced_values, write_raster
from ..images.values import resize_nearest
from ..visualization.drawing import IGNORED, Picture, resized_mask, to_picture
from ..visualization.panels import mask_panel
from .images import AnyImage, InputImage
from .rasters import Piece, join_pieces, write_pieces
from .task import Task, no_data
from .unfinished import Unfinished
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
        if self.probabilities is not None:
            scores = self.all_classes(_scores(prediction, size))
        return self.finish(image, mask, scores)

    def large_result(self, image: AnyImage, grid: WindowGrid, batch_size: int) -> Any:
        """The mask of an image from overlapping windows."""
        size = grid.height, grid.width
        mask, scores = np.full(size, IGNORED, np.uint8), None
        if self.probabilities is not None:
            scores = np.zeros((len(self.classes), *size), np.float32)
        for cell in self.cells(image, grid, grid.strips, batch_size):
            top, left, height, width = cell.window
            rows, columns = slice(top, top + height), slice(left, left + width)
            mask[rows, columns] = cell.decided(self.decide)
            if scores is not None and cell.scores is not None:
                scores[:, rows, columns] = self.all_classes(cell.scores)
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
    ) -> Iterator[Cell]:
        """Scores of all windows of some strips, blended; see :func:`blend`."""
        rows = grid.reaching(strips)
        scored = self._window_scores(image, grid, rows, batch_size)
        return blend(scored, grid, strips, folder)

    def _window_scores(
        self, image: AnyImage, grid: WindowGrid, rows: range, batch_size: int
    ) -> Iterator[Scored]:
        for window, prediction, absent in self.predict_windows(
            image, grid, rows, batch_size
        ):
            yield window, _scores(prediction, window[2:]), absent

    def decide(self, scores: Scores) -> NDArray[np.uint8]:
        """Classes (H, W) of the pixels by their scores (C, H, W)."""
        if len(scores) == 1:
            return (scores[0] > self.model.decode_head.threshold).astype(np.uint8)
        return scores.argmax(0).astype(np.uint8)

    def all_classes(self, scores: Scores) -> Scores:
        """Scores of each class; a network may give that of the second alone."""
        return np.concatenate([1 - scores, scores]) if len(scores) == 1 else scores

    def finish(
        self, image: AnyImage, mask: NDArray[np.uint8], scores: Scores | None
    ) -> Any:
        """Make the result."""
        return SegmentationResult(image, mask, self.classes, scores)

    # -- Files ---------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """Which probabilities are written."""
        chosen = self.probabilities
        return {'probabilities': None if chosen is None else vars(chosen)}

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
        and colours; 255 is no data. Probabilities, if chosen, are ``name_prob.tif``.
        """
        place = result.image.place
        contents = self.contents(place is not None)
        overlay = folder / f'{name}_overlay.jpg'
        write_image(overlay, self.draw(result.image, result.mask))
        values = self.values(result.mask, result.scores)
        for (ending, content), planes in zip(contents.items(), values, strict=True):
            write_raster(folder / f'{name}{ending}', planes, content, place)
        return [overlay, *(folder / f'{name}{ending}' for ending in contents)]

    def save_large(
        self, image: AnyImage, grid: WindowGrid, batch_size: int, to: Unfinished
    ) -> tuple[list[Path], Any]:
        """Write what :meth:`save` does, strip by strip."""
        contents = self.contents(image.place is not None)
        with bounded_cache():
            for strips in to.remaining(grid.strips):
                cells = self.cells(image, grid, strips, batch_size, to.path)
                write_pieces(map(self._piece, cells), to, grid, contents)
            if not to.holds_data(grid.strips):
                to.remove()
                raise no_data(image)
            join_pieces(to, grid, contents, image.place)
            *_, mask = (to.result(ending) for ending in contents)
            reduced = self.mask_of_values(reduced_values(mask, PICTURE_SIZE))
            write_image(to.result('_overlay.jpg'), self.draw(image, reduced))
        return to.finish(['_overlay.jpg', *contents]), None

    def _piece(self, cell: Cell) -> Piece:
        mask = cell.decided(self.decide)
        scores = None if cell.scores is None else self.all_classes(cell.scores)
        return cell.window, self.values(mask, scores), bool(cell.covered.any())

    def mask_of_values(self, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A mask as it was before it was written."""
        return values

    def saved_files(self, folder: Path, name: str) -> list[Path]:
        """The files of a result that is complete; none if it is not."""
        for placed in (True, False):
            endings = ['_overlay.jpg', *self.contents(placed)]
            files = [folder / f'{name}{ending}' for ending in endings]
            if all(file.exists() for file in files):
                return files
        return []

    def draw(self, image: AnyImage, mask: NDArray[np.uint8]) -> Picture:
        """A picture of the result, from a mask of any size."""
        assert isinstance(image, InputImage)
        picture = to_picture(image.preview(PICTURE_SIZE), self.bands)
        return mask_panel(picture, {'prediction': mask}, self.meta)


@torch.no_grad()
def _scores(prediction: Any, size: Sequence[int]) -> Scores:
    """Probabilities (C, h, w) of a prediction, resized."""
    logits: Tensor = prediction.seg_logits.data.float()[None]
    # Of one class, mmseg gives the probability instead.
    scores = logits if logits.shape[1] == 1 else logits.softmax(1)
    if scores.shape[-2:] != tuple(size):
        scores = F.interpolate(scores, tuple(size), mode='bilinear')
    return scores[0].cpu().numpy()
