# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""A training loop whose every iteration can be repeated exactly."""

from typing import Any

import torch
from mmengine import dist
from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop
from numpy.random import SeedSequence

from .data_check import check_batches


@LOOPS.register_module()
class ResumableTrainLoop(EpochBasedTrainLoop):
    """Epoch-based training that resumes bit-identically from any iteration.

    All randomness of an iteration is a function of the run's seed and of the
    iteration: the order of images and their augmentation through
    :class:`ResumableSampler`, the network's own (drop path) through the seed set
    before each iteration. A checkpoint made within an epoch resumes behind the
    batches that the epoch has already seen, without loading them again.

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
        self.runner.call_hook('before_train_epoch')
        sampler = self.dataloader.sampler
        # Resuming may have replaced the seed of the run. All processes share the order
        # of images, and with randomness.diff_rank_seed their own seeds differ.
        seed = [self.runner.seed]
        dist.broadcast_object_list(seed)
        (sampler.seed,) = seed
        sampler.set_epoch(self._epoch, start * self.dataloader.batch_size)
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

    def _check_checkpoints(self) -> None:
        loader = self.dataloader
        # A runner that was built without a config has an empty one.
        wrapper = self.runner.cfg.get('optim_wrapper') or {}
        accumulative = wrapper.get('accumulative_counts', 1)
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
