# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""How well changes are found."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from numpy.typing import NDArray

from ...labels.masks import IGNORED
from ...ranges import Count


@METRICS.register_module()
class ChangeDetectionMetric(BaseMetric):
    """Scores of the change class, in percent.

    ``F1``, ``IoU``, ``precision``, ``recall`` and ``OA`` (pixels classified rightly)
    come from the confusion matrix of all pixels of the data set.

    ``mF1_batch8`` is the figure of the published tables (its README in configs): the F1
    of each batch of 8 samples, averaged over the batches. Here a batch is 8
    consecutive samples of the data set, whatever the batch size and the number of
    processes of the test; the last one may be smaller. A batch without a changed
    pixel, neither in the labels nor in the prediction, has no F1 (0/0) and is left
    out of the mean, as it would otherwise count as perfect or as failed.

    A score that is 0/0 over the whole data set (the precision where no pixel is
    predicted as changed) is NaN.

    Args:
        group (int): Samples of a batch of the published figure, whose name follows
            it. Defaults to 8.
        collect_device (str): ``'cpu'`` or ``'gpu'``, how processes exchange results.
            Defaults to ``'cpu'``.
        prefix (str, optional): Put before the names of the scores. Defaults to None.
    """

    def __init__(
        self,
        group: Count = 8,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.group = group

    @staticmethod
    def score_names(group: Count = 8, **options: Any) -> tuple[str, ...]:
        """Names of the scores, by the arguments of the metric."""
        return ('F1', 'IoU', 'precision', 'recall', 'OA', f'mF1_batch{group}')

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count the pixels of a batch.

        Args:
            data_batch (Any): Not used.
            data_samples (Sequence[dict]): Samples with ``pred_sem_seg`` and
                ``gt_sem_seg``, whose ``data`` are indexes, (1, H, W); 1 is change.
        """
        for sample in data_samples:
            predicted = sample['pred_sem_seg']['data'].squeeze().cpu().numpy()
            label = sample['gt_sem_seg']['data'].squeeze().cpu().numpy()
            self.results.append(confusion(predicted, label))

    def compute_metrics(self, results: list[NDArray[np.int64]]) -> dict[str, float]:
        """Scores from the counts of all samples, in the order of the data set."""
        counts = np.stack(results)  # (samples, 4)
        starts = range(0, len(counts), self.group)
        batches = [_f1(*counts[i : i + self.group].sum(0)[:3]) for i in starts]
        defined = [f1 for f1 in batches if not np.isnan(f1)]
        hits, false_alarms, misses, rest = counts.sum(0)
        scores = {
            'F1': _f1(hits, false_alarms, misses),
            'IoU': _ratio(hits, hits + false_alarms + misses),
            'precision': _ratio(hits, hits + false_alarms),
            'recall': _ratio(hits, hits + misses),
            'OA': _ratio(hits + rest, counts.sum()),
            f'mF1_batch{self.group}': _ratio(sum(defined), len(defined)),
        }
        return {name: 100 * float(score) for name, score in scores.items()}


def confusion(predicted: NDArray[Any], label: NDArray[Any]) -> NDArray[np.int64]:
    """Count the pixels of one image.

    Args:
        predicted (np.ndarray): Predicted indexes, (H, W); 1 is change.
        label (np.ndarray): True indexes, (H, W); pixels of
            :data:`~cmid_mm.labels.masks.IGNORED` do not count.

    Returns:
        np.ndarray: Changed pixels that were found, unchanged ones taken for changed,
        changed ones missed, unchanged ones found.
    """
    scored = label != IGNORED
    guess, truth = predicted[scored] == 1, label[scored] == 1
    hits, guesses, truths = (guess & truth).sum(), guess.sum(), truth.sum()
    missed, false_alarms = truths - hits, guesses - hits
    rest = scored.sum() - hits - missed - false_alarms
    return np.array([hits, false_alarms, missed, rest], dtype=np.int64)


def _f1(hits: float, false_alarms: float, misses: float) -> float:
    return _ratio(2 * hits, 2 * hits + false_alarms + misses)


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else float('nan')
