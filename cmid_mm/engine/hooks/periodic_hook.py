# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What hooks share that look at a model now and then."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...ranges import Count


class PeriodicHook(Hook):
    """Calls :meth:`look` every so many epochs or iterations of training.

    Args:
        interval: Epochs (iterations) between two calls.
        by_epoch: Whether ``interval`` counts epochs.
        at_end: Whether to call it at the end of training in any case. Defaults to
            True.
    """

    def __init__(self, interval: Count, by_epoch: bool, at_end: bool = True) -> None:
        self.interval = interval
        self.by_epoch = by_epoch
        self.at_end = at_end

    def look(self, runner: Runner, step: int, count: int) -> None:
        """Look at the model.

        Args:
            runner: The runner.
            step: Finished iterations, the abscissa of curves.
            count: Finished epochs or iterations, by ``by_epoch``.
        """
        raise NotImplementedError(f'{type(self).__name__} must define look()')

    def after_train_epoch(self, runner: Runner) -> None:
        """Look every ``interval`` epochs and after the last one."""
        if not self.by_epoch:
            return
        is_last = self.at_end and self.is_last_train_epoch(runner)
        if is_last or self.every_n_epochs(runner, self.interval):
            self.look(runner, runner.iter, runner.epoch + 1)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        """Look every ``interval`` iterations and after the last one."""
        if self.by_epoch:
            return
        is_last = self.at_end and self.is_last_train_iter(runner)
        if is_last or self.every_n_train_iters(runner, self.interval):
            self.look(runner, runner.iter + 1, runner.iter + 1)
