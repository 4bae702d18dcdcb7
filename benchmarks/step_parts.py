# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Where the time of a training step goes, part by part, beside the bare passes."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch


class Parts:
    """Seconds that calls of named parts take in all.

    On a GPU each call is waited for, so that the whole takes longer than usual.

    Args:
        device: Where the parts run.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, whose calls count as a part."""

        def call(*args: Any, **kwargs: Any) -> Any:
            start = self._now()
            try:
                return function(*args, **kwargs)
            finally:
                spent = self._now() - start
                self.seconds[name] = self.seconds.get(name, 0.0) + spent

        return call

    @contextmanager
    def watching(self, calls: dict[str, tuple[Any, str]]) -> Iterator[None]:
        """Count calls of methods, ``(object, name)``, by the names of their parts."""
        with ExitStack() as stack:
            for part, (owner, method) in calls.items():
                function = self.timed(part, getattr(owner, method))
                stack.enter_context(mock.patch.object(owner, method, function))
            yield

    def _now(self) -> float:
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def step_calls(model: Any, optimizer: Any) -> dict[str, tuple[Any, str]]:
    """The calls that a training step of CMID consists of, by the names of its parts."""
    calls = {
        'preprocessing': (model.data_preprocessor, 'forward'),
        'student forward': (model.student, 'stages'),
        'backward': (optimizer, 'backward'),
        'optimizer': (optimizer, 'step'),
        'teacher update': (model, 'update_teacher'),
    }
    if model.teacher is not None:
        calls['teacher forward'] = model.teacher, 'forward'
    for name, head in model.heads.items():
        calls[f'{name} head, forward'] = head, 'weighted_loss'
    return calls


def seconds_by_part(
    device: torch.device,
    step: Callable[[], None],
    calls: dict[str, tuple[Any, str]],
    limit: Callable[[Parts], None],
    repeats: int,
) -> dict[str, dict[str, float]]:
    """Seconds that the parts of a step and of the bare passes take.

    Args:
        device: Where they run.
        step: Takes a step.
        calls: What of it is a part, see :func:`step_calls`.
        limit: Runs the bare passes, each timed by the parts that it is given.
        repeats: How often both run, alternating; the result is their mean.

    Returns:
        By part, ``step_s`` and, where the bare passes have the part, ``limit_s``. What
        is left of the step is ``other``.
    """
    stepped, bare = Parts(device), Parts(device)
    whole = stepped.timed('whole', step)
    for _ in range(repeats):
        with stepped.watching(calls):
            whole()
        limit(bare)
    total = stepped.seconds.pop('whole')
    stepped.seconds['other'] = total - sum(stepped.seconds.values())
    return {
        name: {'step_s': round(seconds / repeats, 4)}
        | (
            {'limit_s': round(bare.seconds[name] / repeats, 4)}
            if name in bare.seconds
            else {}
        )
        for name, seconds in stepped.seconds.items()
    }
