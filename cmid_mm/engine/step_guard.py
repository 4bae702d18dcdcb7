# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Optimiser steps that numbers which are not finite cannot reach."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine import dist
from mmengine.model import BaseAveragedModel
from mmengine.optim import OptimWrapper
from mmpretrain.utils import get_ori_model
from torch import Tensor, nn

from ..isolation import RandomState

#: Overflows of the scaler of mixed precision in a row that are no fault: halved this
#: often, the scale that PyTorch begins with is below 0.01, and what overflows still
#: would without it.
TOLERATED_OVERFLOWS = 24


class StepGuard(OptimWrapper):
    """Part of an optimiser wrapper that skips iterations that are sick.

    One is sick if in any process the loss, a gradient or a state of the model that the
    forward pass changes (statistics of BatchNorm, queue, centre, moving averages of
    mmengine) is not finite after the backward pass. All processes then put these states
    back to what they were before the forward pass and drop the gradients, and
    :meth:`should_update` says no until the next step begins: neither the optimiser nor
    a teacher that asks it sees anything of the batch. Under gradient accumulation,
    what was gathered for the step is lost with it.

    In mixed precision the scaler skips steps whose gradients overflow and lowers its
    scale, which is no fault unless it goes on.

    Attributes:
        sick: What was not finite in this iteration, any of ``'loss'``,
            ``'state'`` and ``'gradients'``; empty if it was sound.
        is_own: Whether the loss or the state of this process was among it.
        random_state: Random state before the forward pass.
        numbers: What :func:`numbers_of` the model was at first.
    """

    sick: tuple[str, ...] = ()
    is_own = False
    random_state: RandomState
    numbers: dict[str, float]
    _step_is_lost = False
    _overflows = 0
    _places: list[tuple[Mapping[str, Any], str]]
    _kept: list[Tensor]

    def watch(self, model: nn.Module) -> None:
        """Say whose states have to be kept."""
        self.numbers = numbers_of(get_ori_model(model))
        # By where they are: what a model puts in their place is its state, too.
        self._places = [
            (tensors, name)
            for module in get_ori_model(model).modules()
            for tensors in (module._buffers, averages_of(module))
            for name, tensor in tensors.items()
            # Masks of attention may hold infinite numbers.
            if tensor is not None and bool(tensor.isfinite().all())
        ]
        self._kept = [tensor.detach().clone() for tensor in self._state()]

    def _state(self) -> list[Tensor]:
        return [tensors[name] for tensors, name in self._places]

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """The parent's context of the forward pass; keeps what it will change."""
        if super().should_update():
            self._step_is_lost = False  # a new step begins
        self.sick, self.is_own = (), False
        self.random_state = RandomState.now()
        copy_all(self._state(), self._kept)
        with super().optim_context(model):
            yield

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """The parent's backward pass, and whether all is finite after it."""
        super().backward(loss, **kwargs)
        self._judge(loss)
        if self.sick:
            self._step_is_lost = True
            copy_all(self._kept, self._state())
        if self._step_is_lost:
            self.zero_grad()

    def should_update(self) -> bool:
        """Whether the parent would step, and nothing in the step was sick."""
        return super().should_update() and not self._step_is_lost

    def _judge(self, loss: Tensor) -> None:
        grads = [
            parameter.grad
            for group in self.optimizer.param_groups
            for parameter in group['params']
            if parameter.grad is not None
        ]
        parts = [loss.detach()], self._state(), grads
        in_loss, in_state, in_grads = self._found(parts, is_suspicious)
        if in_loss or in_state or in_grads:  # or merely large
            in_loss, in_state, in_grads = self._found(parts, is_infinite)
        overflows = in_grads and not (in_loss or in_state)
        self._overflows = self._overflows + 1 if overflows else 0
        scaler = getattr(self, 'loss_scaler', None)
        scales = scaler is not None and scaler.is_enabled()
        if scales and 0 < self._overflows <= TOLERATED_OVERFLOWS:
            return  # the scaler skips the step
        found = {'loss': in_loss, 'state': in_state, 'gradients': in_grads}
        self.sick = tuple(name for name, is_sick in found.items() if is_sick)

    def _found(
        self,
        parts: tuple[list[Tensor], ...],
        test: Callable[[list[Tensor], torch.device], Tensor],
    ) -> list[bool]:
        """What a test says of each part in any process."""
        device = parts[0][0].device
        own = torch.stack([test(tensors, device) for tensors in parts]).float()
        found = own.clone()
        if dist.get_world_size() > 1:
            dist.all_reduce(found, op='max')
        # The one point where the processor waits for the device.
        own, found = torch.stack((own, found)).bool().tolist()
        self.is_own = any(own[:2])
        return found


def guard(wrapper: OptimWrapper, model: nn.Module) -> None:
    """Add a :class:`StepGuard` to an optimiser wrapper of any kind, as it stands.

    Args:
        wrapper: Changed in place; remains of its class.
        model: What it trains.
    """
    if not isinstance(wrapper, StepGuard):
        kind: Any = type(wrapper)
        wrapper.__class__ = type(kind.__name__, (StepGuard, kind), {})
    assert isinstance(wrapper, StepGuard)
    wrapper.watch(model)


def averages_of(module: nn.Module) -> Mapping[str, Any]:
    """Parameters of a module that its forward pass moves, if it is an average."""
    if not isinstance(module, BaseAveragedModel):
        return {}
    return dict(module.named_parameters())


def numbers_of(model: nn.Module) -> dict[str, float]:
    """Numbers and switches that modules hold beside their weights and buffers.

    Hooks change some as training goes on, such as the share of a loss.

    Args:
        model: The model.

    Returns:
        Numbers by module and name.
    """
    return {
        f'{place}.{name}': value
        for place, module in model.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, int | float) and name[0] != '_' and name != 'training'
    }


@torch.no_grad()
def is_suspicious(tensors: list[Tensor], device: torch.device) -> Tensor:
    """Whether the sum of squares of any tensor is not finite, as a tensor.

    Several times quicker than :func:`is_infinite`, and never False where that is True.
    """
    floating = [tensor for tensor in tensors if is_of_real_numbers(tensor)]
    if not floating:
        return torch.zeros((), dtype=torch.bool, device=device)
    norms = torch._foreach_norm(floating, dtype=torch.float32)
    return ~torch.stack([norm.to(device) for norm in norms]).isfinite().all()


@torch.no_grad()
def is_infinite(tensors: list[Tensor], device: torch.device) -> Tensor:
    """Whether any number of any tensor is not finite, as a tensor on a device."""
    sound = [tensor.isfinite().all().to(device) for tensor in tensors]
    return ~torch.stack([torch.ones((), dtype=torch.bool, device=device), *sound]).all()


def is_of_real_numbers(tensor: Tensor) -> bool:
    """Whether a tensor has numbers that may be infinite, at least one."""
    return tensor.is_floating_point() and tensor.numel() > 0


@torch.no_grad()
def copy_all(sources: list[Tensor], targets: list[Tensor]) -> None:
    """Copy tensors over others of their shapes."""
    if sources:
        torch._foreach_copy_(targets, sources)
