# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Networks of a pre-training, compiled."""

from collections.abc import Iterator
from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmpretrain.utils import get_ori_model
from torch import nn


@HOOKS.register_module()
class CompileHook(Hook):
    """Compiles the networks of :class:`CMID` when training begins.

    Backbones of student and teacher and the networks of the heads become a graph each,
    without breaks; what lies between them (losses, queue, schedules) stays as it is.
    Names in checkpoints do not change. The first iterations take minutes.

    Args:
        backend: Of ``torch.compile``.
        mode: Likewise, such as ``'max-autotune'``.
        dynamic: Whether one graph serves images of all sizes. By default each size,
            those of evaluations too, gets its own, up to PyTorch's limit; further ones
            are computed as without this hook.
    """

    def __init__(
        self,
        backend: str = 'inductor',
        mode: str | None = None,
        dynamic: bool | None = False,
    ) -> None:
        self.options = dict(backend=backend, mode=mode, dynamic=dynamic)

    def before_train(self, runner: Runner) -> None:
        """Compile; the graphs are made when they are first needed."""
        compile_networks(get_ori_model(runner.model), **self.options)


def compile_networks(model: Any, **options: Any) -> None:
    """Compile the networks of a :class:`CMID` in place.

    Args:
        model: The model.
        **options: Of ``torch.compile``.
    """
    for network in networks_of(model):
        network.compile(**options)


def networks_of(model: Any) -> Iterator[nn.Module]:
    """Backbones and what heads compute by weights."""
    yield model.student.backbone
    if model.teacher is not None:
        yield model.teacher
    for head in model.heads.values():
        for part in head.children():
            if any(True for _ in part.parameters()):
                yield part
