# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""A runner that does not lose work to what happens around it."""

import logging
import os
import sys
from pathlib import Path
from typing import Any

from mmengine import dist
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import MMLogger
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmengine.visualization import Visualizer
from torch import nn

from ..configs import is_type, resolve_type
from ..files import hold_folder
from .hooks import LogHistoryHook, VerifiedCheckpointHook


class FaultTolerantRunner(Runner):
    """mmengine's runner with checkpoints that are not lost, whatever the config is.

    In place of ``CheckpointHook`` it takes :class:`VerifiedCheckpointHook`, and adds a
    :class:`LogHistoryHook` where there is none. The config stays as it is. Log files
    that cannot be written do not end the training; that is said and counted. A work
    folder in which another run writes is refused before anything of it is changed.
    """

    _held: int | None = None

    def dump_config(self) -> None:
        """Write the config into the work folder, which is from now on that of this run.

        Raises:
            BlockingIOError: If another run is writing there; its config stays.
        """
        # One without a file is of a test or a notebook, and gets a name of its own.
        if self.cfg.filename is not None and dist.is_main_process():
            self._held = hold_folder(Path(self.work_dir))
        super().dump_config()

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build the logger of the run."""
        self._lost = LostLines()
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if isinstance(handler, logging.FileHandler):
                handler.handleError = self._lost.add_current  # type: ignore
        return logger

    def build_visualizer(self, *args: Any, **kwargs: Any) -> Visualizer:
        """Build what writes numbers and pictures."""
        visualizer = super().build_visualizer(*args, **kwargs)
        backends = visualizer._vis_backends
        for name, backend in backends.items():
            backends[name] = _Guarded(backend, self._lost)
        return visualizer

    def register_hook(
        self, hook: Hook | dict[str, Any], priority: Any | None = None
    ) -> None:
        """Register a hook, or the one that stands in for it."""
        if (
            isinstance(hook, dict)
            and resolve_type(HOOKS, hook.get('type')) is CheckpointHook
        ):
            hook = {**hook, 'type': VerifiedCheckpointHook}
        super().register_hook(hook, priority)

    def register_default_hooks(self, hooks: dict[str, Any] | None = None) -> None:
        """Register the config's default hooks and those that every run needs."""
        hooks = dict(hooks or {})
        if not any(
            is_type(HOOKS, hook.get('type'), LogHistoryHook)
            for hook in hooks.values()
            if isinstance(hook, dict)
        ):
            hooks['log_history'] = dict(type=LogHistoryHook)
        super().register_default_hooks(hooks)

    def resume(self, *args: Any, **kwargs: Any) -> None:
        """Resume from a checkpoint; say if nothing is left to be done."""
        super().resume(*args, **kwargs)
        if isinstance(self.train_loop, EpochBasedTrainLoop):
            done, length, name = self.epoch, self.max_epochs, 'max_epochs'
        else:
            done, length, name = self.iter, self.max_iters, 'max_iters'
        if done >= length:
            self.logger.warning(
                f'The run has ended before: its checkpoint has all of {name}={length}. '
                f'Nothing is trained; to train further set train_cfg.{name} higher '
                'and lengthen the schedules.'
            )

    def train(self) -> nn.Module:
        """Train; say at the end how much of the log was lost, however it ended."""
        try:
            return super().train()
        finally:
            for hook in self.hooks:
                if isinstance(hook, VerifiedCheckpointHook):
                    hook.finish_writing()
            self._lost.say_at_end()
            if self._held is not None:
                os.close(self._held)
                self._held = None


class LostLines:
    """Counts what could not be written to log files, and says so.

    On standard error: what is logged goes to these files.
    """

    def __init__(self) -> None:
        self.count = 0

    def add(self, error: OSError) -> None:
        """Count one; say it the first time and every thousandth."""
        self.count += 1
        if self.count % 1000 == 1:
            print(
                f'A line or picture of the log could NOT be written: {error}. Training '
                f'goes on; make room, or make the folder writable. Lost: {self.count}.',
                file=sys.stderr,
            )

    def add_current(self, record: logging.LogRecord) -> None:
        """Count a record that a handler is failing to write."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            raise
        self.add(error)

    def say_at_end(self) -> None:
        """Say how many there were, if any."""
        if self.count:
            print(
                f'{self.count} lines and pictures of the log could NOT be written; the '
                'reason of the first stands above.',
                file=sys.stderr,
            )


class _Guarded:
    """A visualizer's backend whose errors of the disk are counted and passed over."""

    def __init__(self, backend: Any, lost: LostLines) -> None:
        self._backend = backend
        self._lost = lost

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._backend, name)
        if not name.startswith('add_') and name != 'close':
            return found

        def guarded(*args: Any, **kwargs: Any) -> None:
            # That of mmengine's LocalVisBackend, which appends lines to it.
            numbers = Path(getattr(self._backend, '_scalar_save_file', ''))
            size = numbers.stat().st_size if numbers.is_file() else 0
            try:
                found(*args, **kwargs)
            except OSError as error:
                self._lost.add(error)
                if numbers.is_file():
                    os.truncate(numbers, size)  # no half line

        return guarded
