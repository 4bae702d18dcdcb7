# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Scene classification: a class for each image."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..files import write_bytes
from ..images.writing import write_image
from ..visualization.drawing import enlarge, fit, titled, to_picture
from .images import AnyImage, InputImage
from .merging import Opinions, mean_of_scores
from .task import Task

#: Classes listed for each image.
BEST = 5


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
        order = np.argsort(-self.scores, kind='stable')[:BEST]
        return [(self.classes[i], float(self.scores[i])) for i in order]


class Classification(Task):
    """Inference of scene classification."""

    name = 'classification'

    def default_window(self, pipeline: Sequence[dict[str, Any]]) -> int:
        """None: a scene is classified as a whole."""
        return 0

    def check_window(self, window: int | None, overlap: int | None) -> tuple[int, int]:
        """Scenes are not divided."""
        if window:
            raise ValueError('classification takes whole images: leave out the window')
        return 0, 0

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

    def save(self, result: ClassificationResult, folder: Path, name: str) -> list[Path]:
        """Write the picture ``name.jpg`` with the class above it."""
        picture = fit(
            enlarge(to_picture(result.image.preview(1024), self.bands), 256), 1024
        )
        text = '  '.join(f'{label} {score:.2f}' for label, score in result.best[:2])
        path = folder / f'{name}.jpg'
        write_image(path, titled(picture, text))
        return [path]

    def summary(self, result: ClassificationResult) -> list[Any]:
        """A row of ``predictions.csv``."""
        best = [x for name, score in result.best for x in (name, f'{score:.4f}')]
        return [result.image.path, *best]

    def save_summary(self, summaries: Sequence[list[Any]], folder: Path) -> None:
        """Write ``predictions.csv``: the five best classes of each image."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator='\n')
        count = max(len(row) // 2 for row in summaries)
        more = [
            f'{what}_{i}' for i in range(2, count + 1) for what in ('class', 'score')
        ]
        writer.writerows([['image', 'class', 'score', *more], *summaries])
        write_bytes(folder / 'predictions.csv', text.getvalue().encode())
