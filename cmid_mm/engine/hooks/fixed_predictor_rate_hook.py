# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""SimSiam's constant learning rate of the predictor."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class FixedPredictorRateHook(Hook):
    """Keep parameters marked ``fix_lr`` at their first learning rate.

    SimSiam's predictor does not follow the decay (Chen and He 2021, section 4.1).
    Mark it with ``paramwise_cfg=dict(custom_keys=dict(predictor=dict(fix_lr=True)))``.
    The first rate is that of the optimiser, scaled to the batch by
    ``--auto-scale-lr``; mmpretrain's ``SimSiamHook`` has a rate of its own, which is
    not, and sets it once an epoch unless told otherwise.

    Raises:
        ValueError: If no parameter is marked.
    """

    def before_train(self, runner: Runner) -> None:
        """Refuse a run in which the hook does nothing."""
        if not any(group.get('fix_lr') for group in runner.optim_wrapper.param_groups):
            raise ValueError(
                'FixedPredictorRateHook: no parameter is marked; set optim_wrapper.'
                'paramwise_cfg=dict(custom_keys=dict(predictor=dict(fix_lr=True)))'
            )

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Undo what the scheduler did."""
        for group in runner.optim_wrapper.param_groups:
            if group.get('fix_lr'):
                group['lr'] = group['initial_lr']
