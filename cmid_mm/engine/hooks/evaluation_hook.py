# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What hooks share that measure features during pre-training."""

import time

from mmengine.dist import broadcast_object_list
from mmengine.runner import Runner
from mmpretrain.utils import get_ori_model
from torch import nn

from ...ranges import Count
from .periodic_hook import PeriodicHook

INITIAL_KEY = 'feature_evaluation_initial'


class EvaluationHook(PeriodicHook):
    """Logs what :meth:`evaluate` finds, with the values from before training.

    Args:
        interval: Epochs (iterations) between evaluations.
        by_epoch: Whether ``interval`` counts epochs.
        evaluate_before_training: Whether to evaluate the initial weights, the
            reference of all later values.
        at_end: Whether to evaluate at the end of training in any case.
    """

    def __init__(
        self,
        interval: Count,
        by_epoch: bool,
        evaluate_before_training: bool,
        at_end: bool,
    ) -> None:
        super().__init__(interval, by_epoch, at_end)
        self.evaluate_before_training = evaluate_before_training

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Measure a model as it stands, which must not be changed.

        Called in every process.

        Returns:
            Values by name; those of the first process count.
        """
        raise NotImplementedError(f'{type(self).__name__} must define evaluate()')

    def before_train(self, runner: Runner) -> None:
        """Evaluate the initial weights, unless the run is a resumed one."""
        if self.evaluate_before_training and runner.iter == 0:
            initial = self._evaluate(runner, step=0, when='before training')
            known = runner.message_hub.runtime_info.get(INITIAL_KEY, {})
            # In the message hub it is saved and resumed with the checkpoints.
            runner.message_hub.update_info(INITIAL_KEY, {**known, **initial})

    def look(self, runner: Runner, step: int, count: int) -> None:
        """Evaluate the features."""
        unit = 'epoch' if self.by_epoch else 'iteration'
        self._evaluate(runner, step, f'{unit} {count}')

    def _evaluate(self, runner: Runner, step: int, when: str) -> dict[str, float]:
        start = time.perf_counter()
        results = [self.evaluate(get_ori_model(runner.model))]
        broadcast_object_list(results)
        metrics = results[0]
        for name, value in metrics.items():
            runner.message_hub.update_scalar(f'features/{name}', value)
        runner.visualizer.add_scalars(
            dict(metrics), step=step, file_path=f'{runner.timestamp}.json'
        )
        initial = runner.message_hub.runtime_info.get(INITIAL_KEY, {})
        values = '  '.join(
            f'{name}: {value:.2f}'
            + (f' (initial {initial[name]:.2f})' if name in initial else '')
            for name, value in metrics.items()
        )
        seconds = time.perf_counter() - start
        runner.logger.info(f'Frozen features, {when}:  {values}  [{seconds:.0f} s]')
        return metrics
