# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The confusion matrix of a test, as files."""

from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ...evaluation.metrics.scene_metric import SceneClassificationMetric
from ...files import whole_file, write_bytes
from ...visualization.confusion import confusion_csv, confusion_figure


@HOOKS.register_module()
class ConfusionMatrixHook(Hook):
    """Write which classes a test confused.

    After a test with ``SceneClassificationMetric``, ``work_dir/vis_data`` has
    ``confusion_matrix.png`` (percent of each true class) and
    ``confusion_matrix.csv`` (counts).
    """

    def after_test_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Write both files."""
        if not is_main_process():
            return
        for metric in runner.test_evaluator.metrics:
            if not isinstance(metric, SceneClassificationMetric):
                continue
            assert metric.matrix is not None
            folder = Path(runner.work_dir, 'vis_data')
            table = confusion_csv(metric.matrix, metric.class_names)
            write_bytes(folder / 'confusion_matrix.csv', table.encode())
            figure = confusion_figure(metric.matrix, metric.class_names)
            with whole_file(folder / 'confusion_matrix.png') as part:
                figure.savefig(part, format='png', dpi=120)
            runner.logger.info(f'confusion matrix: {folder}/confusion_matrix.png, .csv')
