# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""A training loop whose every iteration can be repeated exactly."""

from typing import Any

import torch
from mmengine import dist
from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop
from numpy.random import SeedSequence

from .data_check import check_batches
from .layout import Layout, accumulative_counts, replay_schedules


@LOOPS.register_module()
class ResumableTrainLoop(EpochBasedTrainLoop):
    """Epoch-based training that resumes bit-identically from any iteration.

    All randomness of an iteration is a function of the run's seed and of the
    iteration: the order of images and their augmentation through
    :class:`ResumableSampler`, the network's own (drop path) through the seed set
    before each iteration. A checkpoint made within an epoch resumes behind the
    batches that the epoch has already seen, without loading them again. With another
    number of processes or batch size, the images of the epoch that remain are shared
    anew, and schedules go on at the same part of the run.

    Args:
        dataloader (dict): With ``sampler=dict(type='ResumableSampler')`` and
            ``drop_last=True``.

    Raises:
        ValueError: If there are fewer images than one batch of all processes.
    """

    _epoch: int
    _iter: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        check_batches(self)
        self._check_checkpoints()

    def run(self) -> torch.nn.Module:
        """Train, from the beginning or from the resumed iteration."""
        length = len(self.dataloader)
        before = self._saved_layout()
        if before and before.per_iteration != self._layout(0).per_iteration:
            self._go_on_from(before)
        # At the end of an epoch, a checkpoint by iterations leaves what follows the
        # last of them still to be done.
        if not 0 <= self._iter - self._epoch * length <= length:
            self.runner.logger.warning(
                f'The checkpoint finished {self._epoch} epochs in {self._iter} '
                f'iterations, but an epoch has {length} iterations now (other '
                'images, batch size or number of processes): training goes on '
                f'at the start of epoch {self._epoch + 1}.'
            )
            self._iter = self._epoch * length
        return super().run()

    def run_epoch(self) -> None:
        """Run an epoch, or what is left of it."""
        start = self._iter - self._epoch * len(self.dataloader)
        before = self._saved_layout()
        seen = before.seen_at(self._epoch, self._iter) if before else None
        if seen is None:
            seen = start * self._layout(0).per_iteration
        self._layout(seen).save(self.runner)
        self.runner.call_hook('before_train_epoch')
        sampler = self.dataloader.sampler
        # Resuming may have replaced the seed of the run. All processes share the order
        # of images, and with randomness.diff_rank_seed their own seeds differ.
        seed = [self.runner.seed]
        dist.broadcast_object_list(seed)
        (sampler.seed,) = seed
        sampler.set_epoch(self._epoch, seen)
        self.runner.model.train()
        for idx, data_batch in enumerate(self.dataloader, start):
            self.run_iter(idx, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def run_iter(self, idx: int, data_batch: dict) -> None:
        """Run one iteration with its own seed."""
        entropy = (self.runner.seed, dist.get_rank(), self._iter)
        torch.manual_seed(int(SeedSequence(entropy).generate_state(1)[0]))
        super().run_iter(idx, data_batch)

    def _layout(self, seen: int) -> Layout:
        """How images are dealt out from here on, of which so many have been seen."""
        return Layout(
            images=len(self.dataloader.dataset),
            processes=dist.get_world_size(),
            batch_size=self.dataloader.batch_size,
            accumulative=accumulative_counts(self.runner.cfg),
            epoch=self._epoch,
            iteration=self._iter,
            seen=seen,
        )

    def _saved_layout(self) -> Layout | None:
        """The layout of a resumed run, unless it had other images."""
        layout = Layout.saved_in(self.runner.message_hub.runtime_info)
        return layout if layout and layout.images == self._layout(0).images else None

    def _go_on_from(self, before: Layout) -> None:
        """Count in the iterations of another number of processes or batch size.

        An epoch ends where it would: what is left of its images is shared anew.
        """
        seen = before.seen_at(self._epoch, self._iter) or 0
        now = self._layout(seen)
        rest = (now.images - seen) // now.processes // now.batch_size
        iteration = (self._epoch + 1) * len(self.dataloader) - rest
        self.runner.logger.warning(
            f'Iterations have {now.per_iteration} images in {now.processes} '
            f'process(es), before they had {before.per_iteration} in '
            f'{before.processes}: iteration {self._iter} is {iteration} of '
            f'{self.max_iters} now; {now.images - seen} images of epoch '
            f'{self._epoch + 1} remain'
        )
        self._iter = iteration
        self._layout(seen).save(self.runner)
        scaled = (self.runner.auto_scale_lr or {}).get('enable', False)
        replay_schedules(
            self.runner, iteration, now.per_step / before.per_step if scaled else 1
        )
        self.runner.optim_wrapper.initialize_count_status(
            self.runner.model, iteration, self.max_iters
        )

    def _check_checkpoints(self) -> None:
        loader = self.dataloader
        accumulative = accumulative_counts(self.runner.cfg)
        hooks = self.runner.cfg.get('default_hooks') or {}
        checkpoint = hooks.get('checkpoint') or {}
        by_epoch = checkpoint.get('by_epoch', True)
        every = checkpoint.get('interval', -1) * (len(loader) if by_epoch else 1)
        if every > 0 and every % accumulative:
            self.runner.logger.warning(
                f'Checkpoints every {every} iterations fall between optimiser steps, '
                f'which gather the gradients of {accumulative} iterations: a resumed '
                'run loses the gradients gathered since the last step.'
            )
