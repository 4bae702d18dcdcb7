# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What becomes of a training when its data cannot be had any more."""

import traceback
from collections.abc import Callable, Iterable, Iterator
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

    That is what was done until then, as long as the error comes between two iterations,
    as those of deaths of workers do. Otherwise nothing is saved, and the last
    checkpoint is the one to resume.

    Args:
        runner: What trains inside.
    """

    def leave(waits: FrameType) -> None:
        _save(runner, _iterations_done(runner, traceback.walk_stack(waits)))

    try:
        with waiting_ends(leave) as tell_death:
            runner.register_hook(_WorkerDeaths(tell_death))
            yield
    except Exception as error:
        of_images = isinstance(error, TooManyUnreadableError | UnreadableImageError)
        if of_images or explain_worker_fault(error):
            frames = traceback.walk_tb(error.__traceback__)
            _save(runner, _iterations_done(runner, frames))
        raise


class _WorkerDeaths(Hook):
    """Tells of the death of a worker at the end of an iteration."""

    priority = 'LOWEST'  # after all that changes the model

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell

    def after_train_iter(self, *args: Any, **kwargs: Any) -> None:
        """Raise the error of one that has come meanwhile."""
        self._tell()


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
