# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Collecting tensors over the processes of a distributed run."""

import torch
import torch.distributed.nn
from mmengine import dist
from torch import Tensor


def mean_over_ranks(tensor: Tensor) -> Tensor:
    """Average a tensor over all processes; gradients flow through the average."""
    if dist.get_world_size() == 1:
        return tensor
    total = torch.distributed.nn.functional.all_reduce(tensor)
    return total / dist.get_world_size()


def gather_keys(keys: Tensor) -> Tensor:
    """Concatenate the keys of all processes, in the order of their ranks."""
    return torch.cat(dist.all_gather(keys.contiguous()))


def gather_with_gradient(tensor: Tensor) -> Tensor:
    """Concatenate tensors of all processes; gradients flow back to each."""
    if dist.get_world_size() == 1:
        return tensor
    return torch.cat(torch.distributed.nn.functional.all_gather(tensor.contiguous()))
