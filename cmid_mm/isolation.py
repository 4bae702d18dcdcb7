# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Looking at a model in the middle of its training without changing it.

A run that is evaluated on the way has to end with the same weights, bit for bit,
as one that is not. These context managers put back what an evaluation touches:
the random number generators, the training modes of the modules, the buffers.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn


@contextmanager
def rng_unchanged() -> Iterator[None]:
    """Restore the random states of Python, NumPy and torch on leaving.

    Of the GPUs only the current one is covered: a training process owns one, and
    asking for the others would open them. OpenCV's generator cannot be read; every
    sample of the data pipeline seeds it anew.
    """
    python_state = random.getstate()
    numpy_state = np.random.get_state()
    torch_state = torch.get_rng_state()
    cuda_state = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        torch.set_rng_state(torch_state)
        if cuda_state is not None:
            torch.cuda.set_rng_state(cuda_state)


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
