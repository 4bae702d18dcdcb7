# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Optimiser pieces of the pre-training recipe."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import (
    OPTIM_WRAPPER_CONSTRUCTORS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
)
from mmpretrain.engine.optimizers.adan_t import Adan
from mmpretrain.utils import get_ori_model
from torch import Tensor, nn


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Mixed precision in bfloat16, on any device.

    Unlike mmengine's ``AmpOptimWrapper`` it also runs on a CPU, where processors
    with bfloat16 instructions train about twice as fast by it. The range of
    bfloat16 is that of float32, so the loss needs no scaling. Others compute with it
    too, slowly.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass of ``model`` in bfloat16 where that is safe."""
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, torch.bfloat16):
            yield


@OPTIMIZERS.register_module()
class BlockwiseAdan(Adan):
    """mmpretrain's Adan, with a CPU step that stays in the processor's cache.

    The same update, arguments and state as :class:`Adan`. On the CPU the parent's
    step streams every intermediate result of 100 M parameters through memory;
    this one works through blocks of parameters with all their states. On other
    devices, and with ``max_grad_norm``, the parent's step runs.
    """

    #: Elements of a block: its eight working arrays stay in a server's cache.
    block_size = 2**19

    # mmengine's constructor passes the parameters by the name of the first argument.
    def __init__(self, params: Any, *args: Any, **kwargs: Any) -> None:
        # The parent's multi-tensor step forgets the update when no_prox is on.
        if kwargs.get('no_prox'):
            kwargs['foreach'] = False
        super().__init__(params, *args, **kwargs)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update all parameters that have a gradient.

        Args:
            closure (callable, optional): Re-evaluates the loss. Defaults to None.

        Returns:
            Any: What ``closure`` returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        parameters = [p for group in self.param_groups for p in group['params']]
        on_cpu = all(p.device.type == 'cpu' for p in parameters)
        if not on_cpu or self.defaults['max_grad_norm'] > 0:
            super().step()
            return loss
        scratch = torch.empty(2, self.block_size)
        for group in self.param_groups:
            group['step'] = group.get('step', 0) + 1
            for parameter in group['params']:
                if parameter.grad is not None:
                    self._step_parameter(parameter, group, scratch)
        return loss

    def _step_parameter(self, parameter: Tensor, group: dict, scratch: Tensor) -> None:
        state, grad = self.state[parameter], parameter.grad
        assert grad is not None
        if not state:
            for name in ('exp_avg', 'exp_avg_sq', 'exp_avg_diff'):
                state[name] = torch.zeros_like(parameter)
        if 'pre_grad' not in state or group['step'] == 1:
            state['pre_grad'] = grad.clone()
        tensors = [parameter, grad] + [
            state[name]
            for name in ('exp_avg', 'exp_avg_sq', 'exp_avg_diff', 'pre_grad')
        ]
        steps = list(zip(*flat_blocks(tensors, self.block_size), strict=True))
        largest = steps[0][0].numel()
        if largest > scratch.shape[1] or parameter.dtype != scratch.dtype:
            scratch = parameter.new_empty(2, largest)
        for blocks in steps:
            self._step_block(blocks, group, scratch[:, : blocks[0].numel()])

    @staticmethod
    def _step_block(blocks: tuple[Tensor, ...], group: dict, scratch: Tensor) -> None:
        parameter, grad, exp_avg, exp_avg_sq, exp_avg_diff, pre_grad = blocks
        beta1, beta2, beta3 = group['betas']
        step, lr = group['step'], group['lr']
        first, second = scratch.view(2, *parameter.shape)

        difference = torch.sub(grad, pre_grad, out=first)
        pre_grad.copy_(grad)
        exp_avg.lerp_(grad, 1 - beta1)
        exp_avg_diff.lerp_(difference, 1 - beta2)
        nesterov = torch.add(grad, difference, alpha=beta2, out=second)
        exp_avg_sq.mul_(beta3).addcmul_(nesterov, nesterov, value=1 - beta3)

        # The bias corrections of n and m are moved out of the elementwise work:
        # (m / c1 + b2 v / c2) / (sqrt(n) / c3 + eps)
        #   = (c3 / c1) (m + b2 (c1 / c2) v) / (sqrt(n) + c3 eps)
        correction1, correction2 = 1 - beta1**step, 1 - beta2**step
        correction3 = math.sqrt(1 - beta3**step)
        denominator = torch.sqrt(exp_avg_sq, out=first).add_(correction3 * group['eps'])
        alpha = beta2 * correction1 / correction2
        update = torch.add(exp_avg, exp_avg_diff, alpha=alpha, out=second)
        rate = lr * correction3 / correction1

        decay = lr * group['weight_decay']
        if group['no_prox']:
            parameter.mul_(1 - decay).addcdiv_(update, denominator, value=-rate)
        else:
            parameter.addcdiv_(update, denominator, value=-rate)
            if decay:
                parameter.div_(1 + decay)


def flat_blocks(tensors: list[Tensor], size: int) -> list[tuple[Tensor, ...]]:
    """Views of tensors of one shape as blocks of at most ``size`` elements.

    Tensors that are dense in the same memory order are flattened without a copy;
    otherwise each is its own single block.
    """
    strides = tensors[0].stride()
    dense = tensors[0].numel() == 1 + sum(
        (length - 1) * stride
        for length, stride in zip(tensors[0].shape, strides, strict=True)
    )
    if not dense or any(tensor.stride() != strides for tensor in tensors):
        return [(tensor,) for tensor in tensors]
    return [
        tensor.as_strided((tensor.numel(),), (1,)).split(size) for tensor in tensors
    ]


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MatrixDecayConstructor(DefaultOptimWrapperConstructor):
    """Weight decay for matrices and kernels, none for vectors.

    Biases, norm weights, layer scales and mask tokens (parameters of at most one
    dimension) are not decayed. Two parameter groups, so that optimisers update
    many tensors at once; the default constructor makes one group a parameter.
    """

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimiser of a model's trainable parameters."""
        if self.paramwise_cfg:
            raise ValueError(
                'MatrixDecayConstructor takes no paramwise_cfg; remove it, or remove '
                "optim_wrapper.constructor to use mmengine's"
            )
        model = get_ori_model(model)
        trainable = [p for p in model.parameters() if p.requires_grad]
        groups = [
            dict(params=[p for p in trainable if p.ndim > 1]),
            dict(params=[p for p in trainable if p.ndim <= 1], weight_decay=0.0),
        ]
        optimizer = OPTIMIZERS.build({**self.optimizer_cfg, 'params': groups})
        wrapper = {'type': 'OptimWrapper', **self.optim_wrapper_cfg}
        return OPTIM_WRAPPERS.build({**wrapper, 'optimizer': optimizer})
