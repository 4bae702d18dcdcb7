# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""How much of the log a run remembers."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ...ranges import Count


@HOOKS.register_module()
class LogHistoryHook(Hook):
    """Forget logged values that no smoothing looks back at.

    mmengine keeps every value since the first iteration, in memory and in each
    checkpoint: 16 bytes an iteration for each name, 16 of which CMID logs. They are
    copied whenever one is added. Of what is logged nothing changes, nor in the log
    files.

    Args:
        keep: Values of each name that are kept; those of an epoch, or of the longest
            smoothing window, if that is more. A log processor that averages over the
            whole run (``window_size='global'``) keeps all. Defaults to 1000.
    """

    def __init__(self, keep: Count = 1000) -> None:
        self.keep = keep

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        """Forget, every ``keep`` iterations."""
        if not self.every_n_train_iters(runner, self.keep):
            return
        processor = runner.log_processor
        windows = [
            0 if entry.get('window_size') == 'epoch' else entry.get('window_size')
            for entry in processor.custom_cfg
        ]
        if not all(isinstance(window, int) for window in windows):
            return
        lengths = (self.keep, len(runner.train_dataloader), processor.window_size)
        keep = max(*lengths, *windows)
        history = runner.message_hub.log_scalars
        for name, buffer in history.items():
            values, counts = buffer.data
            history[name] = HistoryBuffer(
                values[-keep:], counts[-keep:], buffer.max_length
            )
