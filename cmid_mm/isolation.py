# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Looking at a model in the middle of its training without changing it.

A run that is evaluated on the way has to end with the same weights, bit for bit,
as one that is not. These context managers put back what an evaluation touches:
the random number generators, the training modes of the modules, the buffers.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class RandomState:
    """States of the random number generators of Python, NumPy and torch.

    Of the GPUs only the current one is covered: a training process owns one, and
    asking for the others would open them. OpenCV's generator cannot be read; every
    sample of the data pipeline seeds it anew.
    """

    python: tuple[Any, ...]
    numpy: Any
    torch: Tensor
    cuda: Tensor | None

    @classmethod
    def now(cls) -> 'RandomState':
        """The states at this moment."""
        return cls(
            random.getstate(),
            np.random.get_state(),
            torch.get_rng_state(),
            torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
        )

    def restore(self) -> None:
        """Make these the states of the generators again."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.torch)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda)


@contextmanager
def rng_unchanged() -> Iterator[None]:
    """Restore the random states of Python, NumPy and torch on leaving."""
    state = RandomState.now()
    try:
        yield
    finally:
        state.restore()


@contextmanager
def modes_unchanged(model: nn.Module) -> Iterator[None]:
    """Restore the training mode of every module of ``model`` on leaving.

    Each module has its own: a teacher or a frozen stage may differ from the rest,
    so ``model.train()`` would not do.

    Args:
        model (nn.Module): The model whose modes may be changed inside.
    """
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            # Not `train()`, which sets the children too and may be overridden.
            module.training = training


@contextmanager
def buffers_unchanged(model: nn.Module) -> Iterator[None]:
    """Restore every buffer of ``model`` on leaving, BatchNorm statistics above all.

    Args:
        model (nn.Module): The model whose buffers may be changed inside.
    """
    saved = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in saved:
                buffer.copy_(value)
