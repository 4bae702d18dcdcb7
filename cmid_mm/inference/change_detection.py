# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Change detection: what differs between two dates."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..images import find_pairs, without_masks
from ..images.strips import Content
from ..visualization.drawing import IGNORED, Picture
from ..visualization.panels import change_panel
from .images import AnyImage, InputPair
from .segmentation import PICTURE_SIZE, Segmentation
from .vector_files import PolygonOptions
from .windows import Scores

#: Value of pixels without data in the files, between unchanged and changed.
_NO_DATA = 127
_GREYS = np.full(256, _NO_DATA, np.uint8)
_GREYS[:2] = 0, 255
_INDICES = np.full(256, IGNORED, np.uint8)
_INDICES[[0, 255]] = 0, 1


@dataclass(frozen=True)
class ChangeResult:
    """What changed between two images.

    Attributes:
        image (InputPair): The images.
        mask (np.ndarray): 1 where the place changed, else 0, and 255 where either
            date holds no data; uint8 (H, W).
        scores (np.ndarray): Probability of no change and of change, float32
            (2, H, W), if the task has ``probabilities``; else None.
    """

    image: InputPair
    mask: NDArray[np.uint8]
    scores: Scores | None = None


class ChangeDetection(Segmentation):
    """Inference of change detection."""

    name = 'change detection'

    def find(self, names: Sequence[str | Path]) -> list[Any]:
        """Pairs that files or folders name."""
        pairs = dict(find_pairs(names))
        scenes = without_masks(list(pairs), self.quality)
        return [(scene, pairs[scene]) for scene in scenes]

    def open(self, image: Any) -> InputPair:
        """Open both images of a pair."""
        if not isinstance(image, (tuple, list)) or len(image) != 2:
            raise ValueError(
                f'change detection takes pairs (first date, second date), got {image!r}'
            )
        return InputPair(image, self.loader, self.area)

    def finish(
        self, image: AnyImage, mask: NDArray[np.uint8], scores: Scores | None
    ) -> ChangeResult:
        """Make the result."""
        assert isinstance(image, InputPair)
        return ChangeResult(image, mask, scores)

    def settings(self) -> dict[str, Any]:
        """How pairs are loaded, and which probabilities are written."""
        return {'align': self.loader.align, **super().settings()}

    def mask_content(self, placed: bool) -> Content:
        """0 is unchanged, 255 changed and 127 without data at either date."""
        return Content(nodata=_NO_DATA) if placed else Content()

    def mask_values(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A mask as it is written."""
        return _GREYS[mask]

    def mask_of_values(self, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A mask as it was before it was written."""
        return _INDICES[values]

    def probability_names(self) -> list[str]:
        """One band, whichever probabilities are chosen."""
        return ['probability of change']

    def chosen_probabilities(self, scores: Scores) -> Scores:
        """The probability of change."""
        return scores[1:2]

    def polygon_options(self) -> PolygonOptions:
        """Only of what has changed."""
        return replace(super().polygon_options(), background=self.classes[:1])

    def draw(self, image: AnyImage, mask: NDArray[np.uint8]) -> Picture:
        """Both dates, and what changed, from a mask of any size."""
        assert isinstance(image, InputPair)
        pixels = np.concatenate(image.previews(PICTURE_SIZE), axis=2)
        return change_panel(pixels, {'prediction': mask}, self.bands)
