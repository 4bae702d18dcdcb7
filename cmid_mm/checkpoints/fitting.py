# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Checkpoints of trained models, which fit completely or are refused."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from .finding import abbreviate, state_dict_of
from .reading import CheckpointError, read_checkpoint

#: Old files lack the counter; only BatchNorm without a momentum uses it.
_OPTIONAL = re.compile(r'(.*\.)?num_batches_tracked$')


def read_fitting_checkpoint(model: nn.Module, path: str | Path) -> dict[str, Any]:
    """Read a checkpoint and make sure that it is one of this model.

    Args:
        model (nn.Module): The model.
        path (str | Path): Checkpoint of a run.

    Returns:
        dict[str, Any]: The checkpoint, ``state_dict`` and ``meta`` among it.

    Raises:
        CheckpointError: If the file cannot be read, or a weight is missing, left
            over, or of another shape; names them.
    """
    checkpoint = read_checkpoint(path)
    state = state_dict_of(checkpoint, path)
    own = model.state_dict()
    missing = [key for key in own if key not in state and not _OPTIONAL.match(key)]
    surplus = [key for key in state if key not in own]
    shapes = [
        f'{key} {_shape(state[key])} instead of {tuple(own[key].shape)}'
        for key in own
        if key in state and _shape(state[key]) != tuple(own[key].shape)
    ]
    problems = [
        f'{what}: {abbreviate(names)}'
        for what, names in (
            ('missing in the file', missing),
            ('unknown to the model', surplus),
            ('of another shape', shapes),
        )
        if names
    ]
    if problems:
        raise CheckpointError(
            f'{path} is no checkpoint of the model in this config. Weights '
            f'{"; ".join(problems)}. Give the config that the checkpoint was trained '
            f'with{_hint(state, own)}'
        )
    return {**checkpoint, 'state_dict': state}


def load_weights(model: nn.Module, path: str | Path) -> dict[str, Any]:
    """Load a checkpoint into a model, completely or not at all.

    Args:
        model (nn.Module): The model, changed in place.
        path (str | Path): Checkpoint of a run.

    Returns:
        dict[str, Any]: The checkpoint's ``meta``.

    Raises:
        CheckpointError: As :func:`read_fitting_checkpoint` does.
    """
    checkpoint = read_fitting_checkpoint(model, path)
    model.load_state_dict(checkpoint['state_dict'], strict=False)
    return dict(checkpoint.get('meta') or {})


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def _hint(state: Mapping[str, Any], own: Mapping[str, Tensor]) -> str:
    if any(key.startswith('student.') for key in state):
        return (
            '; this one is of a pre-training: fine-tune it first with tools/train.py '
            '--backbone-checkpoint'
        )
    if state and all(f'backbone.{key}' in own or key in own for key in state):
        return '; this one holds a backbone alone'
    return ''
