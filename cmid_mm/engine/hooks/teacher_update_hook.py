# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Moves the teacher after each optimiser step."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmpretrain.utils import get_ori_model

from ..layout import accumulative_counts


@HOOKS.register_module()
class TeacherUpdateHook(Hook):
    """Runs what :class:`CMID` does by the clock of the run.

    After each optimiser step (once per step under gradient accumulation) the
    teacher moves, with the momentum of that iteration: a function of the
    iteration alone, so a resumed run continues it. Logs ``teacher_momentum`` and
    ``teacher_temperature``. Does nothing if no head needs a teacher.
    """

    def before_train(self, runner: Runner) -> None:
        """Tell the model that its teacher will move."""
        model: Any = get_ori_model(runner.model)
        model.teacher_is_updated = True

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        """Move the teacher if this iteration ended with an optimiser step."""
        model: Any = get_ori_model(runner.model)
        if not any(True for _ in model.teacher_pairs()):
            return
        if runner.optim_wrapper.should_update():
            every = accumulative_counts(runner.cfg)
            momentum = model.momentum_at(runner.iter, runner.max_iters, every)
            model.update_teacher(momentum)
            runner.message_hub.update_scalar('train/teacher_momentum', momentum)
        for head in model.heads.values():
            if hasattr(head, 'temperature_at'):
                runner.message_hub.update_scalar(
                    'train/teacher_temperature', head.temperature_at(runner.epoch)
                )
