# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Whether weights fit completely; checkpoints of trained models, which have to."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from .containers import abbreviate, state_dict_of
from .reading import CheckpointError, read_checkpoint

#: Buffers that every module computes from its own settings.
_COMPUTED = re.compile(r'(.*\.)?(relative_position_index|attn_mask)$')
#: Old files lack the counter; only BatchNorm without a momentum uses it.
_COUNTER = re.compile(r'(.*\.)?num_batches_tracked$')


@dataclass(frozen=True)
class Differences:
    """In what a file's weights are not those of a module.

    Args:
        missing: Weights of the module that the file lacks.
        surplus: Weights of the file that the module lacks.
        reshaped: Weights that both have, in other shapes.
    """

    missing: list[str]
    surplus: list[str]
    reshaped: list[str]


def without_computed(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict without the buffers that a module computes from its settings."""
    return {name: value for name, value in state.items() if not _COMPUTED.match(name)}


def compare_weights(state: Mapping[str, Any], own: Mapping[str, Tensor]) -> Differences:
    """Compare what a file holds with the state dict of a module, name by name.

    Everything counts but the buffers that modules compute from their settings, and
    the counter of BatchNorm where one of the two lacks it.

    Args:
        state: The file's tensors, by the names that the module has.
        own: The module's.

    Returns:
        The differences.
    """
    state, own = without_computed(state), without_computed(own)
    return Differences(
        [name for name in own if name not in state and not _COUNTER.match(name)],
        [name for name in state if name not in own and not _COUNTER.match(name)],
        [
            name
            for name, value in state.items()
            if name in own and shape_of(value) != shape_of(own[name])
        ],
    )


def refuse_unusable(
    state: Mapping[str, Tensor],
    floating: Iterable[str],
    path: str | os.PathLike[str],
) -> None:
    """Refuse weights that no network can have computed with.

    Args:
        state: The file's weights.
        floating: Those of them that have to be floating-point numbers.
        path: The file, for the message.

    Raises:
        CheckpointError: If a number is NaN or infinite, or one of ``floating`` is of
            another type; names the weights.
    """
    floating = set(floating)
    problems = [
        f'{name} is {str(value.dtype).removeprefix("torch.")}, not floating point'
        for name, value in state.items()
        if name in floating and not value.is_floating_point()
    ]
    problems += [
        f'{name} has NaN or infinite numbers'
        for name, value in state.items()
        if value.is_floating_point() and not value.isfinite().all()
    ]
    if problems:
        raise CheckpointError(
            f'{path} has weights that cannot be used: {abbreviate(problems)}; take '
            'one of an earlier epoch, or from before it was quantised'
        )


def shape_of(value: Any) -> str:
    """The shape of a tensor as a message shows it, such as ``'64x3x7x7'``."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    return 'x'.join(map(str, value.shape)) or 'scalar'


def tell_differences(state: Mapping[str, Any], own: Mapping[str, Tensor]) -> list[str]:
    """What :func:`compare_weights` finds, in words; empty if all fits."""
    differences = compare_weights(state, own)
    shapes = [
        f'{name} {shape_of(state[name])} instead of {shape_of(own[name])}'
        for name in differences.reshaped
    ]
    return [
        f'{what}: {abbreviate(names)}'
        for what, names in (
            ('missing in the file', differences.missing),
            ('unknown to the model', differences.surplus),
            ('of another shape', shapes),
        )
        if names
    ]


def read_fitting_checkpoint(model: nn.Module, path: str | Path) -> dict[str, Any]:
    """Read a checkpoint and make sure that it is one of this model.

    Args:
        model (nn.Module): The model.
        path (str | Path): Checkpoint of a run.

    Returns:
        dict[str, Any]: The checkpoint, ``state_dict`` and ``meta`` among it. The
        state dict has just the model's names: what modules compute from their
        settings is the model's own.

    Raises:
        CheckpointError: If the file cannot be read, or a weight is missing, left
            over, or of another shape; names them.
    """
    checkpoint = read_checkpoint(path)
    state = state_dict_of(checkpoint, path)
    own = model.state_dict()
    problems = tell_differences(state, own)
    if problems:
        raise CheckpointError(
            f'{path} is no checkpoint of the model in this config. Weights '
            f'{"; ".join(problems)}. Give the config that the checkpoint was trained '
            f'with{_hint(state, own)}'
        )
    loaded = {
        name: value for name, value in without_computed(state).items() if name in own
    }
    return {**checkpoint, 'state_dict': {**own, **loaded}}


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
    model.load_state_dict(checkpoint['state_dict'])
    return dict(checkpoint.get('meta') or {})


def _hint(state: Mapping[str, Any], own: Mapping[str, Tensor]) -> str:
    is_pretraining, expects_one = (
        any(key.startswith('student.') for key in names) for names in (state, own)
    )
    if is_pretraining and expects_one:
        return (
            ': the one in its work folder, or this one with the --cfg-options of that '
            'run; tools/evaluate_features.py --backbone-only needs neither'
        )
    if is_pretraining:
        return (
            '; this one is of a pre-training: fine-tune it first with tools/train.py '
            '--backbone-checkpoint'
        )
    for prefix in ('backbone.', 'student.backbone.', ''):
        if all(prefix + name in own for name in state):
            return (
                '; this one holds a backbone alone: fine-tune it with tools/train.py '
                '--backbone-checkpoint, or evaluate its features with '
                'tools/evaluate_features.py --backbone-only'
            )
    return ''
