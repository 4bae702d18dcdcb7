# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Speed and memory of training."""

import resource
import sys
import time
from collections import deque
from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from ...ranges import Count


@HOOKS.register_module()
class ThroughputHook(Hook):
    """Log images per second and peak memory with the losses.

    ``images_per_s`` is the number of images of all processes by the time from the
    end of one iteration to the end of the next, loading included, averaged over
    the last ``window`` iterations. Evaluations and checkpoints between epochs do not
    count.
    ``peak_memory_mb`` is the most memory (MiB) this process held since it started:
    that of tensors on the GPU, or, without one, resident memory. The ``memory`` of
    OpenMMLab's log is GPU-only and starts anew at each line.

    Args:
        window (int): Number of iterations averaged. Defaults to 10.
    """

    # Like the timer's: before the logger, which prints what is there.
    priority = 'NORMAL'

    def __init__(self, window: Count = 10) -> None:
        # Images and seconds of each of the last iterations
        self._iterations: deque[tuple[int, float]] = deque(maxlen=window)
        self._iteration_end = 0.0
        self._peak_mb = 0.0

    def before_train_epoch(self, runner: Runner) -> None:
        """Start the clock after whatever happened between epochs."""
        self._iteration_end = time.perf_counter()

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        """Update both scalars, before the logger prints them."""
        now = time.perf_counter()
        self._iterations.append((_num_images(data_batch), now - self._iteration_end))
        self._iteration_end = now
        images, seconds = map(sum, zip(*self._iterations, strict=True))
        # At each iteration, since the logger resets the GPU's counter.
        self._peak_mb = max(self._peak_mb, _memory_mb())
        update_scalar = runner.message_hub.update_scalar
        update_scalar('train/images_per_s', images * get_world_size() / seconds)
        update_scalar('train/peak_memory_mb', self._peak_mb)


def _num_images(data_batch: Any) -> int:
    """Images in a collated batch; the views of an image count once."""
    inputs = data_batch['inputs']
    if isinstance(inputs, Tensor):
        return len(inputs)
    # A list holds either batches, one a view (mmpretrain), or single images.
    return len(inputs[0]) if inputs[0].ndim == 4 else len(inputs)


def _memory_mb() -> float:
    """Peak memory in MiB: of GPU tensors, or resident memory without a GPU."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts bytes, Linux KiB.
    return peak / (2**20 if sys.platform == 'darwin' else 2**10)
