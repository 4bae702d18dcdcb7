# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Reading and writing checkpoint files without running code from them."""

import contextlib
import json
import os
import pickle
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor

from ..files import whole_file


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, recognised, loaded or written.

    The message is one line that names the file, what was expected and what to do.
    """


class SkippedObject:
    """Stands where a checkpoint holds an object whose class was not looked up.

    Takes whatever the file gives to build the object and keeps none of it.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Ignore the arguments."""
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Ignore the attributes."""


def read_checkpoint(
    path: str | os.PathLike[str],
    map_location: Any = 'cpu',
    mmap: bool = False,
    skip_objects: bool = False,
) -> dict[str, Any]:
    """Read a checkpoint, never executing code from it.

    Files of ``torch.save`` are read with ``weights_only``, plus the few harmless
    types that the checkpoints of an mmengine run hold.

    Args:
        path (str | PathLike): A file written by ``torch.save``, or one whose name
            ends in ``.safetensors``.
        map_location: Where tensors go, as in ``torch.load``. Defaults to ``'cpu'``.
        mmap (bool): Read tensors from the file only when they are used. For callers
            that drop them before the file can change. Defaults to False.
        skip_objects (bool): Put a :class:`SkippedObject` where the file holds an
            object that only code from outside PyTorch could rebuild, such as the
            arguments of the program that wrote it. For callers that want weights and
            nothing else. Needs PyTorch 2.5. Defaults to False: refuse the file.

    Returns:
        dict[str, Any]: What was saved. A safetensors file gives ``state_dict`` and
        ``meta``.

    Raises:
        CheckpointError: If the file is missing, empty, truncated, no checkpoint, is
            or holds an object that only code from outside PyTorch could rebuild.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        kind = 'is a folder' if path.is_dir() else 'does not exist'
        raise CheckpointError(f'{path} {kind}; give the path of a checkpoint file')
    if path.stat().st_size == 0:
        raise CheckpointError(
            f'{path} is empty (0 bytes); download or copy it once more'
        )
    if path.suffix == '.safetensors':
        return _read_safetensors(path, map_location)

    with path.open('rb') as file:
        starts_as_zip = file.read(2) == b'PK'
    if starts_as_zip and not zipfile.is_zipfile(path):
        raise CheckpointError(
            f'{path} is truncated: the end of the archive is missing after '
            f'{path.stat().st_size} bytes; download or copy it once more'
        )
    checkpoint = _load(path, map_location, mmap and starts_as_zip, skip_objects)
    if isinstance(checkpoint, SkippedObject):
        raise _refusal(path, _full_name(type(checkpoint)))
    if not isinstance(checkpoint, Mapping):
        raise CheckpointError(
            f'{path} holds a {type(checkpoint).__name__}, expected a dict with a '
            'state dict'
        )
    return dict(checkpoint)


def write_checkpoint(
    checkpoint: Mapping[str, Any], path: str | os.PathLike[str]
) -> None:
    """Write a checkpoint so that the file is there whole or not at all.

    Args:
        checkpoint (Mapping): Written by ``torch.save``. If the name of ``path``
            ends in ``.safetensors``, its ``state_dict`` is written in that format,
            with the entries of ``meta`` as JSON strings.
        path (str | PathLike): The file; missing folders are made. A file that was
            there stays untouched until the new one is complete.

    Raises:
        CheckpointError: If the file cannot be written.
    """
    path = Path(path).expanduser()
    try:
        with whole_file(path, sync=True) as part:
            if path.suffix == '.safetensors':
                _save_safetensors(checkpoint, part)
            else:
                torch.save(checkpoint, part)
    except (OSError, RuntimeError) as error:
        reason = ' '.join(str(error).split())
        raise CheckpointError(f'cannot write {path}: {reason}') from error


def _read_safetensors(path: Path, map_location: Any) -> dict[str, Any]:
    import safetensors

    # torch.load takes functions and None as well.
    is_device = isinstance(map_location, (str, torch.device))
    device = map_location if is_device else 'cpu'
    try:
        with safetensors.safe_open(path, framework='pt') as file:
            state_dict = {
                name: file.get_tensor(name).to(device) for name in file.keys()
            }
            meta = dict(file.metadata() or {})
    except safetensors.SafetensorError as error:
        raise CheckpointError(
            f'{path} is truncated or no safetensors file ({error}); download or copy '
            'it once more'
        ) from error
    for name, value in meta.items():
        # Other programs write plain strings.
        with contextlib.suppress(json.JSONDecodeError):
            meta[name] = json.loads(value)
    return dict(meta=meta, state_dict=state_dict)


def _save_safetensors(checkpoint: Mapping[str, Any], path: Path) -> None:
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {
        # The format knows neither strides nor tensors that share memory.
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in checkpoint['state_dict'].items()
    }
    meta = checkpoint.get('meta', {}).items()
    save_file(tensors, path, {name: json.dumps(value) for name, value in meta})


def _load(path: Path, map_location: Any, mmap: bool, skip_objects: bool) -> Any:
    """``torch.load``, with a stand-in for one more class after each refusal."""
    stand_ins: dict[str, Any] = {}
    while True:
        try:
            with _harmless_globals(stand_ins.values()):
                return torch.load(
                    path, map_location=map_location, weights_only=True, mmap=mmap
                )
        # A file that torch.save did not write can raise nearly any exception.
        except Exception as error:
            stand_in = _next_stand_in(str(error), stand_ins) if skip_objects else None
            if stand_in is None:
                raise _explain(path, error) from error
            stand_ins[_full_name(stand_in)] = stand_in


_UNKNOWN = re.compile(r'Unsupported global: GLOBAL ([\w.]+) was not an allowed global')
_NO_CONTAINER = re.compile(
    r"Can only (?:(?P<dict>SETITEM)|append|extend).* got <class '(?P<name>\S+)'>"
)


def _next_stand_in(message: str, stand_ins: Mapping[str, Any]) -> Any:
    """What lets reading go beyond a refusal; None if nothing does."""
    if unknown := _UNKNOWN.search(message):
        stand_in = _stand_in(unknown[1])
        return None if _full_name(stand_in) in stand_ins else stand_in
    # A dict or list with a class of its own: its items go into a plain one.
    if (found := _NO_CONTAINER.search(message)) and found['name'] in stand_ins:
        container = dict if found['dict'] else list
        return _stand_in(found['name'], __new__=lambda cls, *args: container())
    return None


def _stand_in(full_name: str, **members: Any) -> Any:
    module, _, name = full_name.rpartition('.')
    return type(
        name, (SkippedObject,), dict(__module__=module or 'builtins', **members)
    )


def _full_name(cls: Any) -> str:
    return f'{cls.__module__}.{cls.__qualname__}'


# GLOBAL: to be looked up; function: to be called; class: to be filled
_REFUSED = r'(?:GLOBAL|unrecognized function|allowlisted via .* but got) (\S+)'


def _refusal(path: Path, wanted: str) -> CheckpointError:
    advice = ''
    if not hasattr(torch.serialization, 'safe_globals'):
        advice = 'the checkpoints of a run need PyTorch 2.5 or later to be read; else, '
    return CheckpointError(
        f'{path} was refused: to read it, {wanted} would have to be called, and a '
        f'checkpoint must not run code; {advice}if you trust its source, load it '
        'there with torch.load(..., weights_only=False) and save its state dict '
        'alone: torch.save(model.state_dict(), ...)'
    )


def _explain(path: Path, error: Exception) -> CheckpointError:
    # PyTorch wraps its unpickler's own message in advice that does not fit here.
    text = str(error).partition('WeightsUnpickler error:')[2] or str(error)
    if wanted := re.search(_REFUSED, text):
        return _refusal(path, wanted[1])
    with path.open('rb') as file:
        is_pickle = file.read(1) == b'\x80'
    if is_pickle and 'Unsupported operand' in text:  # a later pickle protocol
        return CheckpointError(
            f'{path} is a Python pickle that torch.save did not write; save a state '
            'dict with torch.save'
        )
    reason = ' '.join(f'{type(error).__name__}: {text}'.split())[:120]
    return CheckpointError(
        f'{path} is no checkpoint, or a damaged one ({reason}); expected a file of '
        'torch.save or *.safetensors'
    )


def _harmless_globals(
    stand_ins: Iterable[Any],
) -> contextlib.AbstractContextManager[Any]:
    """Allow what an mmengine run's checkpoint holds besides tensors, and stand-ins."""
    safe_globals = getattr(torch.serialization, 'safe_globals', None)
    if safe_globals is None:  # PyTorch < 2.5: state dicts only
        return contextlib.nullcontext()
    return safe_globals([*_run_checkpoint_types(), *stand_ins])


def _run_checkpoint_types() -> Iterator[Any]:
    yield from (HistoryBuffer, np.ndarray, np.dtype)
    # Logged numbers and their histories
    numbers = ('float16', 'float32', 'float64', 'int32', 'int64', 'bool')
    yield from {type(np.dtype(number)) for number in numbers}
    yield _named(_statistic, 'builtins', 'getattr')
    array_type: Any = np.empty(0).__reduce__()[0]
    scalar_type: Any = np.float64(0).__reduce__()[0]
    # numpy 2 moved both; a file may come from either version.
    for module in ('numpy.core.multiarray', 'numpy._core.multiarray'):
        yield _named(array_type, module, '_reconstruct')
        yield _named(scalar_type, module, 'scalar')


def _statistic(owner: Any, name: str) -> Any:
    """The only attributes that a run's checkpoint looks up."""
    if owner is HistoryBuffer and name in ('min', 'max', 'current', 'mean'):
        return getattr(owner, name)
    raise pickle.UnpicklingError('Unsupported global: GLOBAL builtins.getattr')


def _named(function: Callable[..., Any], module: str, name: str) -> Callable[..., Any]:
    """A function that the unpickler finds under another global's name."""

    def stand_in(*args: Any) -> Any:
        return function(*args)

    # PyTorch has looked at one or the other, by version.
    stand_in.__module__, stand_in.__name__, stand_in.__qualname__ = module, name, name
    return stand_in
