# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The state dicts in a checkpoint, whatever trainers keep them under."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from .inert import InertObject
from .reading import CheckpointError

#: Where trainers keep the network, most common first.
_USUAL = ('state_dict', 'model', 'model_state_dict', 'net', 'model_state')
#: Parts of names that PyTorch's wrappers add: torch.compile, FSDP and activation
#: checkpoints.
_WRAPPERS = {'_orig_mod', '_fsdp_wrapped_module', '_checkpoint_wrapped_module'}
#: What rebuilds an array of NumPy, in its two versions.
_ARRAYS = {f'numpy.{core}.multiarray._reconstruct' for core in ('core', '_core')}
#: What averaged models count beside the network: PyTorch's, mmengine's.
_COUNTERS = {'n_averaged', 'steps'}


def state_dicts(
    checkpoint: Mapping[str, Any], path: str | os.PathLike[str]
) -> dict[str, dict[str, Any]]:
    """All state dicts in a checkpoint, by the keys that lead there, joined by dots.

    The usual places come first, then those with more tensors; ``''`` is the checkpoint
    itself. Names are without what wrappers of a whole network put before them.

    Args:
        checkpoint: What the file held.
        path: The file, for the message.

    Returns:
        Tensors, and what else stands among them, by name.

    Raises:
        CheckpointError: If there are no tensors.
    """
    try:
        found = dict(_walk(checkpoint, ''))
    except RecursionError as error:
        raise CheckpointError(
            f'{path} is no checkpoint: it holds a dict that holds itself'
        ) from error
    if not found and (arrays := _count_arrays(checkpoint)):
        raise CheckpointError(
            f'{path} holds {arrays} arrays of NumPy, expected tensors; save them as '
            'tensors: torch.save({name: torch.from_numpy(array) for ...}, ...)'
        )
    if not found:
        keys = abbreviate([str(key) for key in checkpoint]) if checkpoint else 'nothing'
        raise CheckpointError(
            f'{path} holds no weights; expected tensors by name, alone or under a key '
            f'such as {", ".join(map(repr, _USUAL))}, found {keys}'
        )
    by_size = sorted(found, key=lambda place: -len(found[place]))
    usual = [place for place in _USUAL if place in found]
    return {place: _unwrap(found[place]) for place in dict.fromkeys(usual + by_size)}


def state_dict_of(
    checkpoint: Mapping[str, Any], path: str | os.PathLike[str]
) -> dict[str, Any]:
    """The first of a checkpoint's :func:`state_dicts`."""
    return next(iter(state_dicts(checkpoint, path).values()))


def _count_arrays(value: Any) -> int:
    if isinstance(value, Mapping):
        return sum(map(_count_arrays, value.values()))
    return isinstance(value, np.ndarray) or (
        isinstance(value, InertObject) and value.full_name in _ARRAYS
    )


def _walk(value: Mapping[Any, Any], place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if any(isinstance(entry, Tensor) for entry in value.values()):
        yield place, {str(name): entry for name, entry in value.items()}
    for key, entry in value.items():
        # Optimizers have tensors by name too, in the thousands.
        if isinstance(entry, Mapping) and not str(key).startswith('optim'):
            yield from _walk(entry, f'{place}.{key}' if place else str(key))


def _unwrap(state: dict[str, Any]) -> dict[str, Any]:
    """A state dict without the parts of names that wrappers add."""
    state = {
        '.'.join(part for part in name.split('.') if part not in _WRAPPERS): value
        for name, value in state.items()
    }
    prefix = 'module.'
    while wrapped := [name for name in state if name.startswith(prefix)]:
        if not _COUNTERS.issuperset(set(state).difference(wrapped)):
            break
        state = {name[len(prefix) :]: state[name] for name in wrapped}
    return state


def abbreviate(names: Sequence[str], limit: int = 5) -> str:
    """Count names and list the first ones."""
    more = f' and {len(names) - limit} more' if len(names) > limit else ''
    return f'{len(names)} ({", ".join(names[:limit])}{more})'
