# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Accuracy of scene classification, overall and of each class."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmengine.registry import METRICS
from torch import Tensor


def confusion_matrix(labels: Tensor, predicted: Tensor, num_classes: int) -> Tensor:
    """Count how often each class is predicted for each true class.

    Args:
        labels (Tensor): True labels, int64, (N,).
        predicted (Tensor): Predicted labels, int64, (N,).
        num_classes (int): Number of classes K.

    Returns:
        Tensor: int64 (K, K); rows are true classes, columns predictions.
    """
    cells = labels * num_classes + predicted
    return cells.bincount(minlength=num_classes**2).view(num_classes, num_classes)


@METRICS.register_module()
class SceneClassificationMetric(BaseMetric):
    """Overall accuracy and accuracy of each class, in percent.

    ``accuracy/OA`` is the share of all images that are right,
    ``accuracy/mean_class`` the mean over the classes. Those of the classes go to the
    log as a table. The confusion matrix stays in ``matrix``, from which
    ``ConfusionMatrixHook`` makes a picture and a table.

    Args:
        collect_device (str): ``'cpu'`` or ``'gpu'``, where the results of several
            processes are collected. Defaults to ``'cpu'``.
        prefix (str, optional): Prefix of the names. Defaults to None,
            ``'accuracy'``.

    Attributes:
        matrix (Tensor | None): Of the last evaluation, as
            :func:`confusion_matrix` gives it; None in all processes but the first.
        class_names (list[str]): Names of its rows and columns.
    """

    default_prefix = 'accuracy'

    def __init__(self, collect_device: str = 'cpu', prefix: str | None = None) -> None:
        super().__init__(collect_device, prefix)
        self.matrix: Tensor | None = None
        self.class_names: list[str] = []

    @staticmethod
    def score_names(**options: Any) -> tuple[str, ...]:
        """Names of the scores, by the arguments of the metric."""
        return ('OA', 'mean_class')

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep true and predicted labels of a batch.

        Args:
            data_batch (Any): Not used.
            data_samples (Sequence[dict]): With ``gt_label`` and ``pred_label``, one
                label each.
        """
        for sample in data_samples:
            label, predicted = int(sample['gt_label']), int(sample['pred_label'])
            self.results.append((label, predicted))

    def compute_metrics(self, results: list[tuple[int, int]]) -> dict[str, float]:
        """Compute the accuracies from the labels of all images.

        Args:
            results (list[tuple[int, int]]): True and predicted label of each image.

        Returns:
            dict[str, float]: ``OA`` and ``mean_class``, in percent. Classes without an
            image do not count in the mean.
        """
        assert self.dataset_meta is not None
        self.class_names = list(self.dataset_meta['classes'])
        labels, predicted = torch.tensor(results).T
        self.matrix = confusion_matrix(labels, predicted, len(self.class_names))
        images = self.matrix.sum(1)
        per_class = 100 * self.matrix.diag().double() / images
        width = max(map(len, self.class_names))
        rows = zip(self.class_names, per_class.tolist(), images.tolist(), strict=True)
        table = '\n'.join(
            f'{name:<{width}} {accuracy:7.2f} {count:6d}'
            for name, accuracy, count in rows
        )
        header = f'{"class":<{width}} {"%":>7} {"images":>6}'
        print_log(f'accuracy of each class\n{header}\n{table}', 'current')
        return {
            'OA': 100 * self.matrix.trace().item() / len(results),
            'mean_class': per_class.nanmean().item(),
        }
