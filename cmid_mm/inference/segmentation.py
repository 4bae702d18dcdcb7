# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Semantic segmentation: a class for each pixel."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from mmengine.structures import PixelData
from numpy.typing import NDArray
from torch import Tensor

from ..images import Window, write_geotiff, write_image
from ..images.values import resize_nearest
from ..visualization.drawing import IGNORED, resized_mask, to_picture
from ..visualization.panels import mask_panel
from .images import AnyImage
from .task import Task
from .views import View
from .windows import blend_windows

#: Longest side of pictures in pixels; masks have full size.
PICTURE_SIZE = 2048


@dataclass(frozen=True)
class SegmentationResult:
    """The classes of the pixels of one image.

    Attributes:
        image (InputImage): The image.
        mask (np.ndarray): Class index of each pixel, uint8 (H, W), in pixels of the
            file. 255 where the file holds no data.
        classes (list[str]): Names of the classes.
    """

    image: Any
    mask: NDArray[np.uint8]
    classes: list[str]


class Segmentation(Task):
    """Inference of semantic segmentation."""

    name = 'segmentation'

    def result(
        self, image: AnyImage, prediction: Any, missing: NDArray[np.bool_] | None
    ) -> Any:
        """The mask of an image."""
        mask = prediction.pred_sem_seg.data[0].cpu().numpy().astype(np.uint8)
        self._know_classes(len(prediction.seg_logits.data))
        # The config may load images at a fixed size.
        size = image.height, image.width
        mask = resized_mask(mask, size)
        if missing is not None:
            mask[resize_nearest(missing, size)] = IGNORED
        return self.finish(image, mask)

    def large_result(
        self, image: AnyImage, windows: Sequence[Window], batch_size: int
    ) -> Any:
        """The mask of an image from overlapping windows."""
        missing = np.zeros((image.height, image.width), bool)
        scores = self._window_scores(image, windows, batch_size, missing)
        mask = blend_windows(scores, image.height, image.width, self.decide)
        mask[missing] = IGNORED
        return self.finish(image, mask)

    def _window_scores(
        self,
        image: AnyImage,
        windows: Sequence[Window],
        batch_size: int,
        missing: NDArray[np.bool_],
    ) -> Iterator[tuple[Window, NDArray[np.float32]]]:
        """Scores of windows; pixels without data are entered in ``missing``."""
        for window, prediction, absent in self.predict_windows(
            image, windows, batch_size
        ):
            if absent is not None:
                top, left, height, width = window
                missing[top : top + height, left : left + width] |= absent
            scores = _probabilities(prediction)[None]
            self._know_classes(scores.shape[1])
            if scores.shape[-2:] != window[2:]:
                scores = F.interpolate(scores, window[2:], mode='bilinear')
            yield window, scores[0].cpu().numpy()

    def decide(self, scores: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Classes (H, W) of the pixels by their scores (C, H, W)."""
        if len(scores) == 1:
            return self._is_above(scores[0]).astype(np.uint8)
        return scores.argmax(0).astype(np.uint8)

    def _is_above(self, probability: Any) -> Any:
        """Where the only class is; of arrays as of tensors."""
        return probability > self.model.decode_head.threshold

    def merge(self, opinions: Iterable[tuple[View, list[Any]]]) -> list[Any]:
        """The mean of their probabilities."""
        means: list[Tensor] = []
        for count, (view, predictions) in enumerate(opinions, 1):
            found = [view.undo(_probabilities(each)) for each in predictions]
            means = [
                probability if count == 1 else mean + (probability - mean) / count
                for mean, probability in zip(means or found, found, strict=True)
            ]
        for prediction, mean in zip(predictions, means, strict=True):
            several = len(mean) > 1
            best = mean.argmax(0, True) if several else self._is_above(mean)
            prediction.pred_sem_seg = PixelData(data=best)
            # Such that they give these probabilities.
            prediction.seg_logits = PixelData(data=mean.log() if several else mean)
        return predictions

    def _know_classes(self, channels: int) -> None:
        self.set_classes(max(channels, 2))

    def finish(self, image: AnyImage, mask: NDArray[np.uint8]) -> Any:
        """Make the result."""
        return SegmentationResult(image, mask, self.classes)

    def save(self, result: SegmentationResult, folder: Path, name: str) -> list[Path]:
        """Write ``name.tif`` or ``name.png``, the indices, and ``name_overlay.jpg``.

        The GeoTIFF, for a georeferenced image, has its place and the classes'
        colours; 255 is no data.
        """
        picture = to_picture(result.image.preview(PICTURE_SIZE), self.bands)
        drawn = mask_panel(picture, {'prediction': result.mask}, self.meta)
        paths = [folder / f'{name}.png', folder / f'{name}_overlay.jpg']
        write_image(paths[1], drawn)
        if result.image.place is None:
            write_image(paths[0], result.mask)
        else:
            paths[0] = folder / f'{name}.tif'
            write_geotiff(
                paths[0],
                result.mask,
                result.image.place,
                nodata=IGNORED,
                palette=self.palette,
            )
        return paths


def _probabilities(prediction: Any) -> Tensor:
    """Of each class, (C, H, W)."""
    logits: Tensor = prediction.seg_logits.data.float()
    # Of one class, mmseg gives the probability itself.
    return logits if len(logits) == 1 else logits.softmax(0)
