# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""A checkpoint before a run is taken off its machine."""

from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

from annotated_types import Ge
from mmengine import dist
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from cmid_mm_cli.stopping import exit_status, stop_signals

from ...files import write_bytes
from ..layout import go_on
from ..peers import Peers
from ..resumable_train_loop import ResumableTrainLoop
from .verified_checkpoint_hook import VerifiedCheckpointHook

#: Processes look at each other every second, and may be busy for some.
Patience = Annotated[int, Ge(10), 'a whole number of seconds, at least 10']
#: In the message hub, and so in checkpoints: whether a validation was cut short.
_DUE = 'validation_due'


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Save and end when a signal asks for it.

    SIGTERM, SIGUSR1 and SIGINT (Ctrl-C) let the iteration under way end, or the
    optimiser step if it gathers several; at once if the run waits for data, and after
    a batch while it validates. Then a checkpoint is written and the process ends with
    status 75 (130 after Ctrl-C), without a traceback. A second Ctrl-C stops at once.

    A run resumed from that checkpoint goes on in the middle of the epoch: bit for bit
    with ``ResumableTrainLoop``, with the images that remain and in their order in
    mmengine's loops. A validation that was cut short is done again first.

    In a run of several processes a signal to one of them is enough, and one that dies
    ends the others: see :class:`cmid_mm.engine.peers.Peers`.

    Args:
        patience: Seconds without a sign of life after which a process counts as dead.
            Defaults to 60.
    """

    priority = 'LOWEST'  # after the checkpoints and all that changes the model

    def __init__(self, patience: Patience = 60) -> None:
        self.patience = patience
        self._peers: Peers | None = None

    def before_run(self, runner: Runner) -> None:
        """Take the signals."""
        if _trains(runner):
            stop_signals.install()
            stop_signals.when_idle = None

    def before_train(self, runner: Runner) -> None:
        """Go on in other processes; do a validation that was cut short."""
        if not isinstance(runner.train_loop, ResumableTrainLoop):
            go_on(runner)
        if dist.get_world_size() > 1:
            self._peers = Peers(self.patience)
        info = runner.message_hub.runtime_info
        if info.pop(_DUE, False) and runner.val_loop is not None:
            runner.val_loop.run()

    def before_train_epoch(self, runner: Runner) -> None:
        """Leave out what a resumed run has seen of this epoch."""
        loop: Any = runner.train_loop
        if isinstance(loop, EpochBasedTrainLoop):
            seen = runner.iter - runner.epoch * len(loop.dataloader)
            if seen > 0 and not isinstance(loop, ResumableTrainLoop):
                _leave_out(loop.dataloader, seen)
            self._wait(runner, runner.iter)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """From here on an iteration is under way."""
        stop_signals.when_idle = None

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        """Stop if a signal has come, or as soon as one comes while waiting for data."""
        done = runner.iter + 1
        if not _ends_a_part(runner, done):
            self._wait(runner, done)
        elif isinstance(runner.train_loop, ResumableTrainLoop):
            self._stop_if_asked(runner, done)  # resumed, it does the end of the epoch

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """Stop in a validation, which will be done again."""
        if _trains(runner):
            self._stop_if_asked(runner, runner.iter, validates=True)

    def after_train(self, runner: Runner) -> None:
        """Take leave of the other processes."""
        if self._peers:
            self._peers.close()

    def after_run(self, runner: Runner) -> None:
        """Leave the signals alone again."""
        stop_signals.restore()

    def _wait(self, runner: Runner, iteration: int) -> None:
        """From here on nothing is under way, until the next iteration begins."""
        # The loop's own count is behind until it has added this iteration.
        stop_signals.when_idle = partial(self._stop_unless_in_hook, runner, iteration)
        self._stop_if_asked(runner, iteration)

    def _stop_unless_in_hook(
        self, runner: Runner, iteration: int, frame: FrameType | None
    ) -> None:
        """Stop at a signal, unless it interrupts a hook, which may be half done."""
        while frame is not None:
            if frame.f_code is Runner.call_hook.__code__:
                return
            frame = frame.f_back
        self._stop_if_asked(runner, iteration)

    def _stop_if_asked(
        self, runner: Runner, iteration: int, validates: bool = False
    ) -> None:
        received = stop_signals.received
        if received is None or not _is_after_step(runner.optim_wrapper):
            return
        if dist.get_rank() != 0:
            return  # the first process holds all of the state, and ends the others
        stop_signals.when_idle = None
        if validates:
            runner.message_hub.update_info(_DUE, True)
        path = save_in_first(runner, iteration)
        runner.logger.warning(
            f'Stopped by {received.name} after {iteration} iterations, saved {path}; '
            'the same command with --resume goes on from there'
        )
        stop_signals.restore()
        if self._peers and not self._peers.tell_saved():
            raise SystemExit(1)  # another process has died: whoever looks shall know
        raise SystemExit(exit_status(received))


class _Rest:
    """What a sampler yields after the first so many, once; its length stays."""

    def __init__(self, sampler: Any, seen: int) -> None:
        self.sampler = sampler
        self.seen = seen

    def __iter__(self) -> Iterator[Any]:
        start, self.seen = self.seen, 0
        return islice(iter(self.sampler), start, None)

    def __len__(self) -> int:
        return len(self.sampler)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sampler, name)


def _leave_out(loader: DataLoader, batches: int) -> None:
    """Make the next epoch of a loader begin behind its first batches."""
    batch_sampler: Any = loader.batch_sampler
    batch_sampler.sampler = _Rest(
        batch_sampler.sampler, batches * batch_sampler.batch_size
    )


def save_in_first(runner: Runner, iteration: int) -> str:
    """Save as the run's own checkpoints are, which then count this one."""
    for hook in runner.hooks:
        if isinstance(hook, VerifiedCheckpointHook):
            return hook.save_in_first(runner, iteration)
    path = Path(runner.work_dir, f'iter_{iteration}.pth')
    runner.save_checkpoint(
        runner.work_dir,
        path.name,
        meta=dict(epoch=runner.epoch, iter=iteration),
        backend_args=dict(backend='atomic_local'),
    )
    write_bytes(Path(runner.work_dir, 'last_checkpoint'), str(path).encode())
    return str(path)


def _trains(runner: Runner) -> bool:
    """Whether a run is a training and no test: otherwise its loop is never built."""
    return isinstance(runner._train_loop, BaseLoop)


def _is_after_step(wrapper: Any) -> bool:
    """Whether no gradients of earlier iterations are gathered."""
    parts = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    return all(part.should_update() for part in parts if isinstance(part, OptimWrapper))


def _ends_a_part(runner: Runner, done: int) -> bool:
    """Whether an iteration is the last of an epoch, or before a validation."""
    loop: Any = runner.train_loop
    if isinstance(loop, EpochBasedTrainLoop):
        return done % len(loop.dataloader) == 0
    is_validated = runner.val_loop is not None and done % loop.val_interval == 0
    return done == runner.max_iters or is_validated
