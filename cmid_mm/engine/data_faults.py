# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What becomes of a training when its data cannot be had any more."""

import signal
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from mmengine import dist
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..checkpoints import CheckpointError
from ..datasets.imagery import TooManyUnreadableError
from ..images import UnreadableImageError
from ..waiting import waiting_ends
from ..worker_faults import TIMEOUT, explain_worker_fault
from .hooks.preemption_hook import save_in_first


def set_timeouts(cfg: Config) -> None:
    """Let data loaders with workers give up waiting, unless the config says how long.

    Args:
        cfg: The config, changed in place.
    """
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader: Any = cfg.get(name)
        if loader and loader.get('num_workers', 0) > 0:
            loader.setdefault('timeout', TIMEOUT)


@contextmanager
def saved_on_data_fault(runner: Runner) -> Iterator[None]:
    """Save a checkpoint before an error of the data ends a training.

    That is what was done until then, as long as the error comes between two iterations:
    deaths of workers, of which a signal tells at any moment, wait for the end of the
    iteration. Otherwise nothing is saved, and the last checkpoint is the one to resume.

    Args:
        runner: What trains inside.
    """
    runner.register_hook(_WorkerDeaths())

    def leave(waits: FrameType) -> None:
        _save(runner, _iterations_done(runner, traceback.walk_stack(waits)))

    try:
        with waiting_ends(leave):
            yield
    except (RuntimeError, TooManyUnreadableError, UnreadableImageError) as error:
        if not isinstance(error, RuntimeError) or explain_worker_fault(error):
            frames = traceback.walk_tb(error.__traceback__)
            _save(runner, _iterations_done(runner, frames))
        raise


class _WorkerDeaths(Hook):
    """Defers the signal of the death of a worker to the end of the iteration."""

    priority = 'LOWEST'  # after all that changes the model

    def __init__(self) -> None:
        self._handler: Any = None
        self._signal: tuple[Any, ...] | None = None

    def before_train_iter(self, *args: Any, **kwargs: Any) -> None:
        """Keep signals from here on."""
        if threading.current_thread() is threading.main_thread():
            self._handler = signal.signal(signal.SIGCHLD, self._keep)

    def after_train_iter(self, *args: Any, **kwargs: Any) -> None:
        """Hand on a signal that has come."""
        kept, self._signal = self._signal, None
        if self._handler is not None:
            handler, self._handler = self._handler, None
            signal.signal(signal.SIGCHLD, handler)
            if kept and callable(handler):
                handler(*kept)

    def _keep(self, *received: Any) -> None:
        self._signal = received


def _save(runner: Runner, done: int) -> None:
    if not done or not dist.is_main_process():
        return
    try:
        path = save_in_first(runner, done)
    except (OSError, CheckpointError) as failure:
        runner.logger.warning(
            f'The data failed, and no checkpoint was saved: {failure}'
        )
        return
    runner.logger.warning(
        f'The data failed after {done} iterations; saved {path}. The same command with '
        '--resume goes on from there'
    )


def _iterations_done(runner: Runner, frames: Iterable[tuple[FrameType, int]]) -> int:
    """Iterations after which the model is as a checkpoint has it; 0 within one."""
    code = {frame.f_code for frame, _ in frames}
    if _WorkerDeaths.after_train_iter.__code__ in code:
        return runner.iter + 1  # which the loop has not counted yet
    within = {'run_iter', 'call_hook'} & {each.co_name for each in code}
    return 0 if within else runner.iter
