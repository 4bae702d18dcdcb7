# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Reading files of ``torch.save`` as data alone, whole pickled modules among them.

A pickle is a program: it looks up classes and functions by name, calls them and fills
what they return. Here every name leads to a class of our own that keeps what it is
given (:class:`InertObject`), and every storage to a note of where it is
(:class:`_Storage`); no other object can be called or filled, so whatever the program
does, it only arranges notes. Once it has ended, the notes that describe tensors and
plain containers become these, and those that describe modules their state dicts. The
rest stays inert.
"""

import io
import pickle
import pickletools
import struct
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor


class InertObject:
    """Stands where a file holds an object, and keeps what it was built from.

    The file's classes and functions are subclasses of it, what these would have
    returned are instances.

    Attributes:
        full_name: Module and name of the class or function.
        args: What it was called with.
        kwargs: The same by keyword.
        state: What ``__setstate__`` was given.
        items: What was set by key.
        elements: What was appended or added.
    """

    full_name = ''
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    state: Any
    items: dict[Any, Any]
    elements: list[Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Keep the arguments."""
        self = super().__new__(cls)
        self.args, self.kwargs, self.state = args, kwargs, None
        self.items, self.elements = {}, []
        return self

    def __setstate__(self, state: Any) -> None:
        """Keep the attributes."""
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """Keep an item of a dict with a class of its own."""
        self.items[key] = value

    def append(self, element: Any) -> None:
        """Keep an element of a list or set with a class of its own."""
        self.elements.append(element)

    add = append


class ModuleWeights(dict[str, Tensor]):
    """The state dict of a module that was saved whole.

    Args:
        module: Name of its class.
    """

    def __init__(self, module: str) -> None:
        super().__init__()
        self.module = module


@dataclass(frozen=True)
class InertContent:
    """What a file holds.

    Args:
        content: Tensors and plain containers; modules as :class:`ModuleWeights`,
            other objects as :class:`InertObject`.
        left: How often each class or function was left inert, by its full name.
    """

    content: Any
    left: Mapping[str, int]


def read_inert(
    path: Path, map_location: str | torch.device = 'cpu', mmap: bool = False
) -> InertContent:
    """Read a file of ``torch.save`` without looking up any name in it.

    Args:
        path: The file, a zip archive or of the format before PyTorch 1.6.
        map_location: Where tensors go. Defaults to the CPU.
        mmap: Read tensors from the file only when they are used. Defaults to False.

    Raises:
        Exception: Nearly any, if the file is damaged or of another kind.
    """
    with path.open('rb') as file:
        starts_as_zip = file.read(2) == b'PK'
        file.seek(0)
        content, places = (_read_archive if starts_as_zip else _read_legacy)(file)
    settling = _Settling(_Storages(path, places, map_location, mmap).load)
    return InertContent(settling.settle(content), settling.left)


@dataclass(frozen=True)
class _Storage:
    """A note of a storage, as the file describes it."""

    description: Any


class _Unpickler(pickle.Unpickler):
    """Runs a pickle on notes."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding='utf-8')
        self.file = file
        self.classes: dict[str, type[InertObject]] = {}
        self.storages: list[_Storage] = []

    def load(self) -> Any:
        """Run the pickle, if it looks up names only where ours are found."""
        start = self.file.tell()
        for operation, _, _ in pickletools.genops(self.file):
            # Codes that the program has registered for classes, and found before
            if operation.name.startswith('EXT'):
                raise pickle.UnpicklingError('it has extension codes')
        self.file.seek(start)
        return super().load()

    def find_class(self, module: str, name: str) -> Any:
        """Take any name for that of an inert class."""
        full_name = f'{module}.{name}'
        if full_name not in self.classes:
            self.classes[full_name] = type(
                name, (InertObject,), dict(full_name=full_name)
            )
        return self.classes[full_name]

    def persistent_load(self, pid: Any) -> Any:
        """Note a storage."""
        # The old format tells the source of a module's class beside the class.
        if type(pid) is tuple and len(pid) > 1 and pid[0] == 'module':
            return pid[1]
        self.storages.append(_Storage(pid))
        return self.storages[-1]


#: First byte and number of bytes of each storage, by key.
_Places = dict[str, tuple[int, int]]


def _read_archive(file: BinaryIO) -> tuple[Any, _Places]:
    places = {}
    with zipfile.ZipFile(file) as archive:
        pickles = [n for n in archive.namelist() if n.split('/')[1:] == ['data.pkl']]
        if len(pickles) != 1:
            raise ValueError('the archive has no data.pkl')
        root = pickles[0].removesuffix('data.pkl')
        if f'{root}byteorder' in archive.namelist():
            _check_byte_order(archive.read(f'{root}byteorder').decode())
        content = _Unpickler(io.BytesIO(archive.read(pickles[0]))).load()
        for info in archive.infolist():
            key = info.filename.removeprefix(f'{root}data/')
            if key != info.filename and info.compress_type == zipfile.ZIP_STORED:
                file.seek(info.header_offset + 26)
                lengths = struct.unpack('<HH', file.read(4))  # of name and extra field
                places[key] = info.header_offset + 30 + sum(lengths), info.file_size
    return content, places


_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


def _read_legacy(file: BinaryIO) -> tuple[Any, _Places]:
    if _Unpickler(file).load() != _LEGACY_MAGIC:
        raise ValueError('torch.save did not write it')
    _Unpickler(file).load()  # version of the format
    system = _Unpickler(file).load()
    _check_byte_order('little' if system['little_endian'] else 'big')
    unpickler = _Unpickler(file)
    content = unpickler.load()
    sizes = {}
    for storage in unpickler.storages:
        dtype, key = _dtype_and_key(storage)
        sizes[key] = dtype.itemsize
    places = {}
    for key in _Unpickler(file).load():
        (length,) = struct.unpack('<q', file.read(8))
        places[key] = file.tell(), length * sizes[key]
        file.seek(length * sizes[key], io.SEEK_CUR)
    return content, places


def _check_byte_order(order: str) -> None:
    if order != sys.byteorder:
        raise ValueError(f'its numbers are {order}-endian')


_DTYPES = {
    'Double': torch.float64,
    'Float': torch.float32,
    'Half': torch.float16,
    'BFloat16': torch.bfloat16,
    'Long': torch.int64,
    'Int': torch.int32,
    'Short': torch.int16,
    'Char': torch.int8,
    'Byte': torch.uint8,
    'Bool': torch.bool,
    'ComplexFloat': torch.complex64,
    'ComplexDouble': torch.complex128,
    'Untyped': torch.uint8,
}


def _dtype_and_key(storage: _Storage) -> tuple[torch.dtype, str]:
    kind, cls, key, *_ = storage.description
    module, _, name = cls.full_name.rpartition('.')
    if kind != 'storage' or not module.startswith('torch'):
        raise ValueError(f'{kind} {cls.full_name} is no storage')
    return _DTYPES[name.removesuffix('Storage')], key


class _Storages:
    """The storages of a file, each loaded once."""

    def __init__(
        self,
        path: Path,
        places: _Places,
        map_location: str | torch.device,
        mmap: bool,
    ) -> None:
        size = path.stat().st_size
        self.file = torch.UntypedStorage.from_file(str(path), False, size)
        self.places = places
        self.map_location = map_location
        self.mmap = mmap
        self.loaded: dict[tuple[torch.dtype, str], Tensor] = {}

    def load(self, storage: _Storage) -> Tensor:
        """All numbers of a storage in a row."""
        dtype, key = _dtype_and_key(storage)
        if (dtype, key) not in self.loaded:
            start, length = self.places[key]
            if start + length > len(self.file):
                raise ValueError(f'storage {key} ends behind the file')
            part = self.file[start : start + length]
            if not self.mmap or start % dtype.itemsize:
                part = part.clone()
            numbers = torch.empty(0, dtype=dtype).set_(part)
            self.loaded[dtype, key] = numbers.to(self.map_location)
        return self.loaded[dtype, key]


class _Settling:
    """Turns the notes of a file into what they describe."""

    def __init__(self, load: Callable[[_Storage], Tensor]) -> None:
        self.load = load
        self.left: Counter[str] = Counter()
        # With the value itself, so that its id stays its own.
        self.done: dict[int, tuple[Any, Any]] = {}

    def settle(self, value: Any) -> Any:
        """What a value of the file stands for. Keys and members of sets stay."""
        if id(value) in self.done:
            return self.done[id(value)][1]
        if isinstance(value, InertObject):
            return self._settle_object(value)
        if isinstance(value, list):
            return self._fill(value, [], value)
        if isinstance(value, dict):
            return self._fill(value, {}, value)
        if isinstance(value, type) and issubclass(value, InertObject):
            self.left[value.full_name] += 1
        settled = value
        if isinstance(value, tuple):
            settled = tuple(map(self.settle, value))
        self.done[id(value)] = value, settled
        return settled

    def _fill(self, value: Any, container: Any, content: Any) -> Any:
        self.done[id(value)] = value, container  # before it can meet itself
        if isinstance(container, list):
            container.extend(map(self.settle, content))
            return container
        for key, item in content.items():
            if isinstance(key, type):
                self.settle(key)  # to be counted
            container[key] = self.settle(item)
        return container

    def _settle_object(self, value: InertObject) -> Any:
        if settle := _MEANINGS.get(value.full_name):
            settled = settle(self, value)
            self.done[id(value)] = value, settled
            return settled
        self.left[value.full_name] += 1
        # States of classes with slots are pairs.
        state = value.state[0] if isinstance(value.state, tuple) else value.state
        if isinstance(state, dict) and _PARTS.issubset(state):
            return self._collect(value, state)
        if value.items:
            return self._fill(value, {}, value.items)
        if value.elements:
            return self._fill(value, [], value.elements)
        self.done[id(value)] = value, value
        for name in ('args', 'kwargs', 'state'):
            setattr(value, name, self.settle(getattr(value, name)))
        return value

    def _collect(self, module: InertObject, state: dict[str, Any]) -> ModuleWeights:
        """The state dict of a module, as :meth:`torch.nn.Module.state_dict` gives."""
        weights = ModuleWeights(module.full_name)
        self.done[id(module)] = module, weights
        state = {name: self.settle(part) for name, part in state.items()}
        transient = state.get('_non_persistent_buffers_set') or ()
        own = {
            **state['_parameters'],
            **{k: v for k, v in state['_buffers'].items() if k not in transient},
        }
        weights.update((k, v) for k, v in own.items() if isinstance(v, Tensor))
        for name, part in state['_modules'].items():
            if isinstance(part, ModuleWeights):
                weights.update((f'{name}.{k}', v) for k, v in [*part.items()])
        return weights

    def tensor(self, value: InertObject) -> Tensor:
        """A tensor from storage, offset, size and stride."""
        storage, offset, size, stride, *_ = value.args
        # Refuses what reaches beyond the storage.
        return self.load(storage).as_strided(
            self.settle(size), self.settle(stride), offset
        )

    def first(self, value: InertObject) -> Any:
        """The tensor in a parameter, the module that was compiled."""
        return self.settle(value.args[0])

    def subclass(self, value: InertObject) -> Any:
        """A tensor that had attributes or a class of its own: function, class, args."""
        function, _, args, *_ = value.args
        return self.settle(function(*args))

    def ordered_dict(self, value: InertObject) -> dict[Any, Any]:
        """A dict, given as pairs, as a dict or item by item."""
        return self._fill(value, {}, {**dict(*value.args), **value.items})

    def sequence(self, value: InertObject) -> tuple[Any, ...]:
        """A size."""
        return tuple(*value.args)

    def set_of(self, value: InertObject) -> set[Any]:
        """A set."""
        return set(*value.args)


#: The contents of a module that its state dict is made of.
_PARTS = frozenset(('_parameters', '_buffers', '_modules'))
#: What is more than a note, by full name.
_MEANINGS: dict[str, Callable[[_Settling, InertObject], Any]] = {
    'torch._utils._rebuild_tensor_v2': _Settling.tensor,
    'torch._utils._rebuild_tensor': _Settling.tensor,
    'torch._utils._rebuild_parameter': _Settling.first,
    'torch._utils._rebuild_parameter_with_state': _Settling.first,
    'torch._tensor._rebuild_from_type_v2': _Settling.subclass,
    'collections.OrderedDict': _Settling.ordered_dict,
    'mmengine.config.config.ConfigDict': _Settling.ordered_dict,
    'torch.Size': _Settling.sequence,
    'torch._dynamo.eval_frame.OptimizedModule': _Settling.first,
    'builtins.set': _Settling.set_of,
    '__builtin__.set': _Settling.set_of,
}
