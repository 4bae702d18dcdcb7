# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Nothing that trains sees a batch whose numbers are not finite."""

import copy

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch import nn

from cmid_mm.engine.step_guard import TOLERATED_OVERFLOWS, StepGuard, guard
from tests.toy import toy_batch, toy_model


def guarded(model: nn.Module, kind: type = OptimWrapper, **options) -> OptimWrapper:
    trained = [p for p in model.parameters() if p.requires_grad]
    wrapper = kind(optimizer=torch.optim.SGD(trained, 1e-3, momentum=0.9), **options)
    guard(wrapper, model)
    return wrapper


def everything(model: nn.Module, wrapper: OptimWrapper) -> dict:
    """Copies of weights, buffers and the optimiser's state."""
    return copy.deepcopy([model.state_dict(), wrapper.state_dict()])


def assert_same(first, second) -> None:
    torch.testing.assert_close(first, second, rtol=0, atol=0)


class Line(BaseModel):
    """``weight * inputs``, with a counter of what it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.register_buffer('seen', torch.zeros(1))

    def forward(self, inputs, mode='loss'):
        self.seen += inputs.nan_to_num().sum()
        return {'loss': (self.weight * inputs).sum()}


GOOD, BAD = (dict(inputs=torch.tensor([value])) for value in (2.0, torch.nan))


def test_sick_batch_leaves_no_trace_and_the_next_one_trains():
    model = toy_model()
    wrapper = guarded(model)
    model.train_step(toy_batch(), wrapper)
    before = everything(model, wrapper)
    sick = toy_batch()
    sick['inputs'] = sick['inputs'].float()
    sick['inputs'][1, 0, 2, 5, 5] = torch.inf
    model.train_step(sick, wrapper)
    assert 'loss' in wrapper.sick and wrapper.is_own
    assert not wrapper.should_update()  # what the teacher asks
    assert_same(everything(model, wrapper), before)
    assert all(p.grad is None for p in model.parameters())

    model.train_step(toy_batch(), wrapper)
    assert wrapper.sick == () and wrapper.should_update()
    after = model.state_dict()
    pointer = 'heads.contrastive.queue_ptr'
    assert not torch.equal(after[pointer], before[0][pointer])
    assert all(value.isfinite().all() for value in after.values())


def test_guard_changes_no_value():
    states = []
    for is_guarded in (False, True):
        model = toy_model()
        wrapper = guarded(model)
        if not is_guarded:
            wrapper.__class__ = OptimWrapper
        for _ in range(2):
            torch.manual_seed(5)
            model.train_step(toy_batch(), wrapper)
        states.append(everything(model, wrapper))
    assert_same(*states)
    assert isinstance(wrapper, OptimWrapper) and type(wrapper).__name__ == (
        'OptimWrapper'
    )


def test_gradients_alone_may_be_sick():
    model = Line()
    wrapper = guarded(model)
    hook = model.weight.register_hook(lambda grad: grad * torch.inf)
    model.train_step(GOOD, wrapper)
    assert wrapper.sick == ('gradients',) and not wrapper.is_own
    assert float(model.weight) == 1 and float(model.seen) == 0
    hook.remove()
    model.train_step(GOOD, wrapper)
    assert wrapper.sick == () and float(model.weight) < 1 and float(model.seen) == 2


def test_state_alone_may_be_sick():
    model = Line()
    wrapper = guarded(model)
    forward = model.forward

    def overflow(inputs, mode):
        losses = forward(inputs, mode)
        model.seen *= torch.inf
        return losses

    model.forward = overflow
    model.train_step(GOOD, wrapper)
    assert wrapper.sick == ('state',) and float(model.seen) == 0


def test_large_numbers_are_no_fault():
    """The sum of their squares is infinite, they are not."""
    model = Line()
    wrapper = guarded(model)
    model.train_step(dict(inputs=torch.tensor([1e30])), wrapper)
    assert wrapper.sick == () and float(model.weight) < 1


def test_masks_of_infinite_numbers_are_no_state():
    model = Line()
    model.register_buffer('mask', torch.tensor([0, -torch.inf]))
    wrapper = guarded(model)
    model.train_step(GOOD, wrapper)
    assert wrapper.sick == ()


@pytest.mark.parametrize('sick_one', [0, 1, 2])
def test_step_of_gathered_gradients_is_lost_as_a_whole(sick_one):
    model = Line()
    wrapper = guarded(model, accumulative_counts=3)
    for index in range(3):
        model.train_step(BAD if index == sick_one else GOOD, wrapper)
        assert bool(wrapper.sick) == (index == sick_one)
    assert not wrapper.should_update()
    assert float(model.weight) == 1 and float(model.seen) == 4
    for _ in range(3):
        model.train_step(GOOD, wrapper)
    assert wrapper.should_update() and float(model.weight) < 1


def test_clipping_sees_no_infinite_norm():
    model = Line()
    wrapper = guarded(model, clip_grad=dict(max_norm=1.0))
    model.train_step(BAD, wrapper)
    assert float(model.weight) == 1
    model.train_step(GOOD, wrapper)
    assert 0.9 < float(model.weight) < 1


class ScaledOptimWrapper(OptimWrapper):
    """mmengine's wrapper of mixed precision, with a scaler that needs no GPU."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.loss_scaler = torch.amp.GradScaler('cpu', init_scale=2.0**100)

    def backward(self, loss, **kwargs):
        self.loss_scaler.scale(loss).backward(**kwargs)
        self._inner_count += 1

    def step(self, **kwargs):
        self.loss_scaler.step(self.optimizer, **kwargs)
        self.loss_scaler.update()


def test_overflow_of_the_scaler_is_its_own_business():
    model = Line()
    wrapper = guarded(model, ScaledOptimWrapper)
    large = dict(inputs=torch.tensor([2.0**30]))  # 2 ** 130 is infinite in float32
    scales = []
    for _ in range(5):
        model.train_step(large, wrapper)
        assert wrapper.sick == ()
        scales.append(wrapper.loss_scaler.get_scale())
    assert scales == [2.0**99, 2.0**98, 2.0**97, 2.0**97, 2.0**97]
    assert float(model.weight) < 1


def test_scaler_that_skips_for_ever_is_a_fault():
    model = Line()
    wrapper = guarded(model, ScaledOptimWrapper)
    model.weight.register_hook(lambda grad: grad * torch.nan)
    found = []
    for _ in range(TOLERATED_OVERFLOWS + 2):
        model.train_step(GOOD, wrapper)
        found.append(wrapper.sick)
    assert found == [()] * TOLERATED_OVERFLOWS + [('gradients',)] * 2
    assert float(model.weight) == 1


def test_scaler_does_not_excuse_a_sick_loss():
    model = Line()
    wrapper = guarded(model, ScaledOptimWrapper)
    model.train_step(BAD, wrapper)
    assert 'loss' in wrapper.sick


def test_random_state_is_that_of_the_forward_pass():
    model = Line()
    wrapper = guarded(model)
    assert isinstance(wrapper, StepGuard)
    torch.manual_seed(11)
    model.train_step(GOOD, wrapper)
    torch.rand(3)
    wrapper.random_state.restore()
    drawn = torch.rand(3)
    torch.manual_seed(11)
    assert torch.equal(drawn, torch.rand(3))
