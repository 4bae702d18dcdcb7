# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Reading and writing checkpoint files without running code from them."""

import contextlib
import json
import logging
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, print_log
from torch import Tensor

from ..files import whole_file
from .damage import damaged_entry, other_digest
from .foreign_files import foreign_kind, what_is_there
from .inert import InertContent, InertObject, ModuleWeights, read_inert


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, recognised, loaded or written.

    The message is one line that names the file, what was expected and what to do.
    """


def read_checkpoint(
    path: str | os.PathLike[str],
    map_location: Any = 'cpu',
    mmap: bool = False,
    skip_objects: bool = False,
) -> dict[str, Any]:
    """Read a checkpoint, never executing code from it.

    Files of ``torch.save`` are read with ``weights_only``, plus the few harmless
    types that the checkpoints of an mmengine run hold; with ``skip_objects`` those
    that hold other objects as data alone, see :mod:`cmid_mm.checkpoints.inert`.

    Args:
        path (str | PathLike): A file of ``torch.save`` or safetensors, whatever its
            name.
        map_location: Where tensors go, as in ``torch.load``. Defaults to ``'cpu'``.
        mmap (bool): Read tensors from the file only when they are used. For callers
            that drop them before the file can change. Defaults to False.
        skip_objects (bool): Put an :class:`InertObject` where the file holds an
            object that only code from outside PyTorch could rebuild, such as the
            arguments of the program that wrote it, and the state dict of a module
            where it holds a whole one; log their classes. For callers that want
            weights and nothing else. Defaults to False: refuse the file.

    Returns:
        dict[str, Any]: What was saved. A safetensors file gives ``state_dict`` and
        ``meta``, a module that was saved whole ``state_dict``.

    Raises:
        CheckpointError: If the file is missing, empty, truncated, changed since it
            was written, no checkpoint, is or holds an object that only code from
            outside PyTorch could rebuild.
    """
    inert = read_content(path, map_location, mmap, skip_objects)
    if inert.left:
        print_log(
            f'{path}: left inert, none of it was run: {_few(list(inert.left))}',
            logger='current',
            level=logging.INFO,
        )
    return inert.content


def read_content(
    path: str | os.PathLike[str],
    map_location: Any = 'cpu',
    mmap: bool = False,
    skip_objects: bool = True,
    verify: bool = True,
) -> InertContent:
    """Read a checkpoint and tell what was left inert.

    Args:
        path: See :func:`read_checkpoint`, as the others.
        map_location: Where tensors go.
        mmap: Whether to read tensors from the file only when they are used.
        skip_objects: Whether to read objects as data.
        verify: Whether to look at the checksums, for which the whole file is read.

    Returns:
        A dict as the content, and what it has that was left inert.

    Raises:
        CheckpointError: As :func:`read_checkpoint`.
    """
    if '://' in os.fspath(path):
        raise CheckpointError(
            f'{path} is an address, expected a file; download it and give its path'
        )
    path = Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError(
            f'{path} {what_is_there(path)}; give the path of a checkpoint file'
        )
    if path.stat().st_size == 0:
        raise CheckpointError(
            f'{path} is empty (0 bytes); download or copy it once more'
        )
    with path.open('rb') as file:
        start = file.read(64)
    starts_as_zip = start.startswith(b'PK')
    if foreign := foreign_kind(path, start):
        raise CheckpointError(f'{path} {foreign}')
    if verify and (digest := other_digest(path)):
        raise CheckpointError(
            f'{path} is damaged or another file: its SHA-256 begins with '
            f'{digest[:8]}, expected that in its name; download or copy it once more'
        )
    # What stands in a file decides, else its name.
    is_torch = starts_as_zip or start.startswith(_PICKLE)
    if _is_safetensors(start) or (path.suffix == '.safetensors' and not is_torch):
        return InertContent(_read_safetensors(path, map_location), {})
    if starts_as_zip and not zipfile.is_zipfile(path):
        raise CheckpointError(
            f'{path} is truncated: the end of the archive is missing after '
            f'{path.stat().st_size} bytes; download or copy it once more'
        )
    if starts_as_zip and (entry := damaged_entry(path, contents=verify)):
        raise CheckpointError(
            f'{path} is damaged: the bytes of {entry} are not those that were written '
            '(their checksum differs); download or copy it once more, or take another'
        )
    inert = _load(path, map_location, mmap and starts_as_zip, skip_objects)
    content = inert.content
    if isinstance(content, InertObject):
        raise CheckpointError(
            f'{path} was refused: all that it holds is an object, and to read it, '
            f'{content.full_name} would have to be called; a checkpoint must not run '
            f'code; {_SAVE_STATE}'
        )
    if isinstance(content, ModuleWeights):
        content = dict(state_dict=content)
    if not isinstance(content, dict):
        raise CheckpointError(
            f'{path} holds a {type(content).__name__}, expected a dict with a state '
            'dict'
        )
    return InertContent(content, inert.left)


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


def refuse_same_file(
    source: str | os.PathLike[str], target: str | os.PathLike[str]
) -> None:
    """Keep a part of a checkpoint from being written over the checkpoint.

    Args:
        source: The checkpoint.
        target: The file to be.

    Raises:
        CheckpointError: If both are one file, by whatever names.
    """
    old, new = Path(source).expanduser(), Path(target).expanduser()
    if old.exists() and new.exists() and old.samefile(new):
        raise CheckpointError(
            f'{target} is the file to read, {source}, which would be lost; give '
            'another name for what is written'
        )


#: First byte of a pickle, whose protocol follows.
_PICKLE = b'\x80'


def _is_safetensors(start: bytes) -> bool:
    """Whether a file begins with the length of a JSON header and the header."""
    return start[5:9] == b'\0\0\0{'


def _read_safetensors(path: Path, map_location: Any) -> dict[str, Any]:
    import safetensors

    device = _device(map_location)
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
    _sort_metadata(path)


def _sort_metadata(path: Path) -> None:
    """Make files of the same content the same: safetensors shuffles its metadata."""
    with path.open('r+b') as file:
        size = int.from_bytes(file.read(8), 'little')
        header = json.loads(file.read(size))
        header['__metadata__'] = dict(sorted(header.get('__metadata__', {}).items()))
        text = json.dumps(header, separators=(',', ':'), ensure_ascii=False).encode()
        if len(text) <= size:
            file.seek(8)
            file.write(text.ljust(size))


def _device(map_location: Any) -> str | torch.device:
    """Where tensors go; torch.load takes functions and None as well."""
    return map_location if isinstance(map_location, (str, torch.device)) else 'cpu'


def _load(
    path: Path, map_location: Any, mmap: bool, skip_objects: bool
) -> InertContent:
    try:
        with _harmless_globals(), warnings.catch_warnings():
            # That a file is no archive, or a strange pickle; refusals say it better.
            warnings.simplefilter('ignore', UserWarning)
            content = torch.load(
                path, map_location=map_location, weights_only=True, mmap=mmap
            )
        return InertContent(content, {})
    # A file that torch.save did not write can raise nearly any exception.
    except Exception as error:
        try:
            inert = read_inert(path, _device(map_location), mmap)
        except Exception:
            raise _damaged(path, error) from error
        is_whole = isinstance(inert.content, InertObject)  # no part to be read
        if inert.left and not skip_objects and not is_whole:
            raise _refusal(path, _unsafe_globals(path) or list(inert.left)) from error
        return inert


def _unsafe_globals(path: Path) -> list[str]:
    """Classes and functions that a file needs beside those that are allowed."""
    try:
        with _harmless_globals():
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    # PyTorch before 2.6 lists none, later ones not those of older files and of later
    # pickle protocols.
    except Exception:
        return []


def _few(names: Sequence[str]) -> str:
    more = f' and {len(names) - 5} more' if len(names) > 5 else ''
    return ', '.join(names[:5]) + more


_SAVE_STATE = (
    'save its state dict where it was made: torch.save(model.state_dict(), ...)'
)


def _refusal(path: Path, wanted: Sequence[str]) -> CheckpointError:
    return CheckpointError(
        f'{path} was refused: to read it, {_few(wanted)} would have to be called, and '
        f'a checkpoint must not run code; look into it with '
        'tools/convert_checkpoint.py --inspect; its backbone alone can be loaded, by '
        f'--backbone-checkpoint; else {_SAVE_STATE}'
    )


def _damaged(path: Path, error: Exception) -> CheckpointError:
    with path.open('rb') as file:
        is_pickle = file.read(1) == _PICKLE
    if is_pickle and not zipfile.is_zipfile(path):
        return CheckpointError(
            f'{path} is a Python pickle that torch.save did not write, or a damaged '
            'one; save a state dict with torch.save'
        )
    # PyTorch wraps its unpickler's own message in advice that does not fit here.
    text = str(error).partition('WeightsUnpickler error:')[2] or str(error)
    text = text.partition('Check the documentation of torch.load')[0]
    reason = ' '.join(f'{type(error).__name__}: {text}'.split())[:120]
    return CheckpointError(
        f'{path} is no checkpoint, or a damaged one ({reason}); expected a file of '
        'torch.save or *.safetensors'
    )


def _harmless_globals() -> contextlib.AbstractContextManager[Any]:
    """Allow what an mmengine run's checkpoint holds besides tensors."""
    return torch.serialization.safe_globals(list(_run_checkpoint_types()))


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
