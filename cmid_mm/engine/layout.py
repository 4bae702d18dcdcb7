# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""How a batch is spread over processes, and going on when that has changed."""

import math
import os
import warnings
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch.distributed
from mmengine import dist
from mmengine.config import Config
from mmengine.hooks import IterTimerHook
from mmengine.runner import EpochBasedTrainLoop, Runner

from ..checkpoints.reading import read_content

_KEY = 'layout'  # in the message hub, and so in checkpoints
#: Where launchers say how many processes there are.
_SIZES = dict(
    pytorch='WORLD_SIZE', slurm='SLURM_NTASKS', mpi='OMPI_COMM_WORLD_SIZE', none=''
)


@dataclass(frozen=True)
class Layout:
    """How the images of an epoch are dealt out, from one of its iterations on.

    Args:
        images: Images of the epoch.
        processes: Processes that share them.
        batch_size: Images of an iteration in each.
        accumulative: Iterations of an optimiser step.
        epoch: The epoch, counted from 0.
        iteration: Iterations of the run before.
        seen: Images of the epoch that they have seen.
    """

    images: int
    processes: int
    batch_size: int
    accumulative: int
    epoch: int
    iteration: int
    seen: int

    @classmethod
    def saved_in(cls, info: dict[str, Any]) -> 'Layout | None':
        """The layout that the information of a message hub tells."""
        return cls(**info[_KEY]) if _KEY in info else None

    def save(self, runner: Runner) -> None:
        """Put it into the message hub of a run."""
        runner.message_hub.update_info(_KEY, asdict(self))

    @property
    def per_iteration(self) -> int:
        """Images of an iteration in all processes."""
        return self.processes * self.batch_size

    @property
    def per_step(self) -> int:
        """Images of an optimiser step."""
        return self.per_iteration * self.accumulative

    def seen_at(self, epoch: int, iteration: int) -> int | None:
        """Images of an epoch that have been seen; None if it is about another one."""
        if epoch != self.epoch:
            return None
        return self.seen + (iteration - self.iteration) * self.per_iteration


def accumulative_counts(cfg: Config) -> int:
    """Iterations of an optimiser step.

    Args:
        cfg: Of a run; that of a runner which was built without one is empty.
    """
    return (cfg.get('optim_wrapper') or {}).get('accumulative_counts', 1)


def keep_step_size(cfg: Config) -> None:
    """Let a run go on in other processes with as many images of a step as before.

    With fewer processes, gradients of several iterations are gathered; with more, each
    takes fewer images. In a run that counts iterations these have to stay what they
    are: there the batch of each process alone is changed. If nothing comes out even,
    that is said with the learning rate that belongs to the new number.

    Args:
        cfg: The config of a run, changed in place. One that is not resumed, or from a
            checkpoint that does not tell of processes, stays as it is.
    """
    path = cfg.get('load_from')
    if not cfg.get('resume') or not path or '://' in path:
        return
    hub = read_content(path, mmap=True, verify=False).content.get('message_hub') or {}
    before = Layout.saved_in(hub.get('runtime_info') or {})
    processes = _processes(cfg.get('launcher', 'none'))
    if before is None or before.processes == processes:
        return
    loader, wrapper = cfg.train_dataloader, cfg.optim_wrapper
    text = f'--resume: {before.processes} processes before, {processes} now: '
    by_epoch = not cfg.get('train_cfg', {}).get('max_iters')
    if by_epoch and before.per_step % (processes * loader.batch_size) == 0:
        counts = before.per_step // (processes * loader.batch_size)
        wrapper.accumulative_counts = counts
        text += f'optim_wrapper.accumulative_counts={counts}'
    elif (
        not by_epoch or before.accumulative == 1
    ) and before.per_iteration % processes == 0:
        loader.batch_size = before.per_iteration // processes
        text += f'train_dataloader.batch_size={loader.batch_size}'
    else:
        counts = accumulative_counts(cfg)
        step = processes * loader.batch_size * counts
        scaled = (cfg.get('auto_scale_lr') or {}).get('enable', False)
        ratio = step / before.per_step
        print(
            f'{text}a step has {step} images, it had {before.per_step}. The learning '
            + (
                f'rate is scaled by {ratio:.4g}'
                if scaled
                else f'rate stays; --auto-scale-lr would scale it by {ratio:.4g}'
            )
        )
        return
    print(f'{text} keeps {before.per_step} images of a step')


def go_on(runner: Runner) -> None:
    """Let a run of mmengine's loops go on with another number of processes or batch.

    With the loop by epochs, the epoch goes on behind the images that it has seen, and
    schedules at the same part of the run. That by iterations just counts on, so that
    what changes is said.

    Args:
        runner: A run that is about to train. What it has now is noted in it, and so in
            its checkpoints. Those with batches of changing size are left alone.
    """
    loop: Any = runner.train_loop
    loader = loop.dataloader
    sampler = loader.batch_sampler
    batch_size = getattr(sampler, 'batch_size', None)
    if not batch_size:
        return
    before = Layout.saved_in(runner.message_hub.runtime_info)
    now = Layout(
        images=len(loader.dataset),
        processes=dist.get_world_size(),
        batch_size=batch_size,
        accumulative=(runner.cfg.get('optim_wrapper') or {}).get(
            'accumulative_counts', 1
        ),
        epoch=runner.epoch,
        iteration=runner.iter,
        seen=0,
    )
    now.save(runner)
    if before is None or before.per_iteration == now.per_iteration:
        return
    text = (
        f'Iterations have {now.per_iteration} images in {now.processes} process(es), '
        f'before they had {before.per_iteration} in {before.processes}: '
    )
    if not isinstance(loop, EpochBasedTrainLoop) or now.images != before.images:
        runner.logger.warning(
            f'{text}the run counts on from iteration {runner.iter} and sees '
            f'{now.per_iteration / before.per_iteration:.4g} times the images in those '
            'that remain, in another order, with the learning rate as it was. To keep '
            'them, give train_dataloader.batch_size so that all processes together '
            f'have {before.per_iteration}'
        )
        return
    each = math.ceil(before.images / before.processes) / before.batch_size
    length = (
        math.floor(each) if getattr(sampler, 'drop_last', False) else math.ceil(each)
    )
    seen = (runner.iter - runner.epoch * length) * before.per_iteration
    seen = min(max(seen, 0), now.images)
    iteration = runner.epoch * len(loader) + seen // now.per_iteration
    runner.logger.warning(
        f'{text}iteration {runner.iter} is {iteration} of {runner.max_iters} now; '
        f'{now.images - seen} images of epoch {runner.epoch + 1} remain'
    )
    loop._iter = iteration
    for hook in runner.hooks:
        if isinstance(hook, IterTimerHook):
            hook.before_train(runner)  # it counts from here
    replace(now, iteration=iteration).save(runner)
    replay_schedules(runner, iteration, 1)
    runner.optim_wrapper.initialize_count_status(
        runner.model, iteration, runner.max_iters
    )


def replay_schedules(runner: Runner, iterations: int, lr_ratio: float) -> None:
    """Bring learning rates and the like to where they are after some iterations.

    Schedules count iterations, of which an epoch has another number than it had when
    they were saved.

    Args:
        runner: A resumed run; one that was built without a config keeps its schedules.
        iterations: Iterations, as they are counted now.
        lr_ratio: By what the learning rates of the checkpoint are scaled.
    """
    schedulers: Any = runner.param_schedulers
    if not schedulers or 'param_scheduler' not in runner.cfg:
        return
    old = [s for part in _parts(schedulers) for s in part]
    for name in {scheduler.param_name for scheduler in old}:
        for group in old[0].optimizer.param_groups:
            group[f'initial_{name}'] *= lr_ratio if name == 'lr' else 1
            group[name] = group[f'initial_{name}']
    runner.param_schedulers = runner.build_param_scheduler(runner.cfg.param_scheduler)
    new = [s for part in _parts(runner.param_schedulers) for s in part]
    length = len(runner.train_dataloader)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # that there were no steps of the optimizer
        for done in range(1, iterations + 1):
            for scheduler in new:
                if not scheduler.by_epoch or done % length == 0:
                    scheduler.step()


def _parts(schedulers: Any) -> list[Any]:
    return list(schedulers.values()) if isinstance(schedulers, dict) else [schedulers]


def _processes(launcher: str) -> int:
    if torch.distributed.is_initialized():
        return torch.distributed.get_world_size()
    return int(os.environ.get(_SIZES[launcher], 1))
