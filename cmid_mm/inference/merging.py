# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What several models, or several views, say together of the same samples."""

from collections.abc import Iterable
from typing import Any

import torch
from mmengine.structures import PixelData
from torch import Tensor

from .views import View

#: Of each model and view the predictions of all samples.
Opinions = Iterable[tuple[View, list[Any]]]


def probabilities(prediction: Any) -> Tensor:
    """Those of each class that a segmentor predicts, (C, H, W)."""
    logits: Tensor = prediction.seg_logits.data.float()
    # Of one class, mmseg gives the probability itself.
    return logits if len(logits) == 1 else logits.softmax(0)


def mean_of_pixels(opinions: Opinions, threshold: float | None) -> list[Any]:
    """Predictions of a segmentor that give the mean of the probabilities.

    Args:
        opinions: All predictions, used one after the other.
        threshold: Probability above which a pixel is of the only class.
    """
    means: list[Tensor] = []
    for count, (view, predictions) in enumerate(opinions, 1):
        found = [view.undo(probabilities(each)) for each in predictions]
        means = [
            probability if count == 1 else mean + (probability - mean) / count
            for mean, probability in zip(means or found, found, strict=True)
        ]
    for prediction, mean in zip(predictions, means, strict=True):
        if len(mean) == 1 and threshold is not None:
            best, logits = mean > threshold, mean
        else:
            best, logits = mean.argmax(0, True), mean.log()
        prediction.pred_sem_seg = PixelData(data=best)
        prediction.seg_logits = PixelData(data=logits)
    return predictions


def mean_of_scores(opinions: Opinions) -> list[Any]:
    """Predictions of a classifier with the mean of the scores."""
    found = [predictions for _, predictions in opinions]
    for prediction, *others in zip(*found, strict=True):
        scores = [each.pred_score for each in (prediction, *others)]
        prediction.pred_score = torch.stack(scores).mean(0)
        del prediction.pred_label  # it may be another
    return found[0]
