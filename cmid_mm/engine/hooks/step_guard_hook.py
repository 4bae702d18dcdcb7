# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What a run does about iterations whose numbers are not finite."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine import dist
from mmengine.hooks import CheckpointHook, EarlyStoppingHook, Hook
from mmengine.logging import HistoryBuffer
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmpretrain.utils import get_ori_model
from torch import Tensor

from ...checkpoints import CheckpointError
from ...ranges import Count, Index
from ..batch_files import file_names, save_batch
from ..step_guard import StepGuard, guard
from .verified_checkpoint_hook import save_now


class SickTrainingError(ValueError):
    """Numbers are not finite, and will not be in iterations to come."""


@HOOKS.register_module()
class StepGuardHook(Hook):
    """Skip iterations with numbers that are not finite, and stop if they go on.

    Such an iteration leaves no trace in the model, see
    :class:`~cmid_mm.engine.step_guard.StepGuard`. It is counted
    (``train/skipped_steps``), and its batch is saved in ``work_dir/sick_batches`` for
    ``tools/replay_batch.py``. A run that had no others stops at its end, before it is
    saved as if it were trained. Weights that are not finite, as after a step of a far
    too high learning rate, are not saved, and stop the run. A validation whose
    monitored metric is not finite counts as the worst, never as the best.

    Args:
        max_in_a_row: Sick iterations in a row at which the run stops, with a checkpoint
            of the state before them.
        keep: Batches that each process saves in a run, each with the weights.

    Raises:
        SickTrainingError: When the run stops.
    """

    # After the losses are logged, before all that acts upon them.
    priority = 'VERY_HIGH'

    def __init__(self, max_in_a_row: Count = 10, keep: Index = 3) -> None:
        self.max_in_a_row = max_in_a_row
        self.keep = keep
        self._saved = 0

    def before_train(self, runner: Runner) -> None:
        """Put the guard into the optimiser wrapper."""
        if isinstance(runner.optim_wrapper, OptimWrapper):
            guard(runner.optim_wrapper, runner.model)
        else:
            runner.logger.warning(
                'StepGuardHook guards one optimiser, and this run has several: '
                'numbers that are not finite will not be noticed'
            )

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Count and save a sick batch."""
        wrapper = runner.optim_wrapper
        if not isinstance(wrapper, StepGuard):
            return
        hub = runner.message_hub
        # In the message hub they are saved and resumed with the checkpoints.
        in_a_row = hub.runtime_info.get('skipped_in_a_row', 0)
        skipped = hub.runtime_info.get('skipped_steps', 0)
        if wrapper.sick:
            in_a_row, skipped = in_a_row + 1, skipped + 1
            hub.update_info('skipped_steps', skipped)
            hub.update_info('skipped_in_a_row', in_a_row)
            self._report(runner, wrapper, data_batch, outputs or {})
            self._forget(runner, outputs or {})
        elif in_a_row:
            hub.update_info('skipped_in_a_row', 0)
        if skipped:
            hub.update_scalar('train/skipped_steps', skipped)
        if wrapper.sick:
            _check_weights(runner)
            done = runner.iter + 1
            if skipped == done == runner.max_iters:
                _stop(runner, f'All {done} iterations', 'nothing was trained', '')
            if in_a_row >= self.max_in_a_row:
                limit = (
                    ', and --resume. StepGuardHook.max_in_a_row='
                    f'{self.max_in_a_row} sets the limit'
                )
                _stop(runner, f'{in_a_row} iterations in a row', _saved(runner), limit)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse to save what cannot be gone on with."""
        _check_weights(runner)

    def after_train(self, runner: Runner) -> None:
        """Sum up."""
        info = runner.message_hub.runtime_info
        skipped, at_the_end = (
            info.get(name, 0) for name in ('skipped_steps', 'skipped_in_a_row')
        )
        if skipped:
            text = (
                f'{skipped} of {runner.iter} iterations were skipped, because numbers '
                'were not finite'
            )
            if at_the_end:
                text += (
                    f', the last {at_the_end} among them: the model is that of '
                    f'iteration {runner.iter - at_the_end}'
                )
            runner.logger.warning(text)

    def after_val_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Make a monitored metric that is not finite the worst there is."""
        for key, rule in _monitored(runner):
            value = (metrics or {}).get(key)
            if metrics is None or value is None or math.isfinite(value):
                continue
            runner.logger.warning(f'{key} is {value}: it counts as the worst')
            metrics[key] = math.inf if rule == 'less' else -math.inf

    def _report(
        self,
        runner: Runner,
        wrapper: StepGuard,
        data_batch: Any,
        outputs: dict[str, Any],
    ) -> None:
        losses = {
            name: float(value.detach() if isinstance(value, Tensor) else value)
            for name, value in outputs.items()
            if isinstance(value, int | float | Tensor)
        }
        names = file_names(data_batch, runner.train_dataloader.dataset)
        values = ', '.join(
            f'{name} {value:g}'
            for name, value in losses.items()
            if not math.isfinite(value)
        )
        text = (
            f'Iteration {runner.iter + 1} was skipped: not finite were '
            f'{", ".join(wrapper.sick)}{f" ({values})" if values else ""}; '
        )
        # Gradients are shared by all processes, so that none is known to be the cause.
        is_suspect = wrapper.is_own or not {'loss', 'state'} & set(wrapper.sick)
        if is_suspect and self._saved < self.keep:
            self._saved += 1
            file = Path(
                runner.work_dir,
                'sick_batches',
                f'iter_{runner.iter + 1}_rank_{dist.get_rank()}.pth',
            )
            try:
                save_batch(file, runner, wrapper, data_batch, losses, names)
                text += f'python tools/replay_batch.py {file} repeats it; '
            except OSError as error:
                text += f'its batch could not be saved: {error}; '
        runner.logger.warning(text + f'images: {_few(names)}')

    def _forget(self, runner: Runner, outputs: dict[str, Any]) -> None:
        """Take what was logged of the iteration out of what is averaged."""
        history = runner.message_hub.log_scalars
        for name in (f'train/{key}' for key in outputs):
            if name in history:
                values, counts = history[name].data
                if len(values) == 1:
                    del history[name]
                else:
                    history[name] = HistoryBuffer(
                        values[:-1], counts[:-1], history[name].max_length
                    )


def _stop(runner: Runner, which: str, outcome: str, goes_on: str) -> None:
    raise SickTrainingError(
        f'{which} had numbers that are not finite. None of them changed the model: '
        f'{outcome}. Their batches are in {runner.work_dir}/sick_batches, '
        'tools/replay_batch.py says what became infinite first; repair the images or '
        f'labels that it names, or lower the learning rate{goes_on}'
    )


def _saved(runner: Runner) -> str:
    """Save the model, and say where."""
    try:
        return f'{save_now(runner)} holds it as it was before them'
    except CheckpointError as error:
        return f'it could not be saved, earlier checkpoints are sound ({error})'


def _check_weights(runner: Runner) -> None:
    """Stop a run whose weights are lost."""
    faults = [
        name
        for name, weight in get_ori_model(runner.model).named_parameters()
        if not weight.isfinite().all()
    ]
    if faults:
        raise SickTrainingError(
            f'{len(faults)} weights are not finite, the first {faults[0]}, although '
            'loss and gradients were: the learning rate (now '
            f'{max(runner.optim_wrapper.get_lr()["lr"]):g}) is far too high. Lower it '
            f'and --resume from the last checkpoint in {runner.work_dir}, which is '
            'sound: these weights were not saved'
        )


def _monitored(runner: Runner) -> Iterator[tuple[str, str | None]]:
    """Metrics that decide on anything, with the rule by which they are compared."""
    for hook in runner.hooks:
        if isinstance(hook, EarlyStoppingHook):
            yield hook.monitor, hook.rule
        elif isinstance(hook, CheckpointHook) and hook.save_best:
            yield from zip(hook.key_indicators, hook.rules, strict=True)


def _few(names: list[str], shown: int = 8) -> str:
    more = f' and {len(names) - shown} more' if len(names) > shown else ''
    return (', '.join(names[:shown]) or 'unknown') + more
