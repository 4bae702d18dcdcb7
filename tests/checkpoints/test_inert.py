# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import contextlib
import copyreg
import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mmpretrain.models import ResNet
from torch import nn

from cmid_mm.checkpoints import (
    CheckpointError,
    convert_checkpoint,
    inspect_checkpoint,
    load_backbone,
    read_checkpoint,
    reading,
)
from cmid_mm.checkpoints.inert import InertObject, ModuleWeights, read_inert
from cmid_mm.files import write_bytes

# Pickles that make a file where a real unpickler runs them. MARKER is its name; each
# leaves one object on the stack.


def text(value: str) -> bytes:
    return b'X' + struct.pack('<I', len(value)) + value.encode()


def short(value: str) -> bytes:
    return b'\x8c' + bytes([len(value)]) + value.encode()


MARKER = b'MARKER'
EXTENSION = 240
HOSTILE = {
    'REDUCE': b'cos\nmkdir\nMARKER\x85R',
    'REDUCE of code': b'cbuiltins\nexec\n' + text('import os; os.mkdir(M)') + b'}('
    b'X\x01\x00\x00\x00MMARKERu\x86R',
    'REDUCE by memo': b'cos\nmkdir\nq\x000h\x00MARKER\x85R',
    'REDUCE of what getattr gives': b'cbuiltins\ngetattr\ncbuiltins\n__import__\n'
    + text('os')
    + b'\x85R'
    + text('mkdir')
    + b'\x86RMARKER\x85R',
    'REDUCE of partial': b'cfunctools\npartial\ncos\nmkdir\n\x85RMARKER\x85R',
    'INST': b'(MARKERios\nmkdir\n',
    'OBJ': b'(cos\nmkdir\nMARKERo',
    'NEWOBJ': b'cbuiltins\nmap\ncos\nmkdir\nMARKER\x85\x86\x81q\x000cbuiltins\nlist\n'
    b'h\x00\x85R',
    'NEWOBJ_EX': b'cbuiltins\nmap\ncos\nmkdir\nMARKER\x85\x86}\x92q\x000'
    b'cbuiltins\nlist\nh\x00\x85R',
    'STACK_GLOBAL': short('os') + short('mkdir') + b'\x93MARKER\x85R',
    'EXT1': bytes([0x82, EXTENSION]) + b'MARKER\x85R',
    'BUILD': b'cfunctools\npartial\ncbuiltins\nprint\n\x85R(cos\nmkdir\nMARKER\x85}Ntb'
    b')R',
    'BUILD of __setstate__': b'ccodeop\nCompile\n)\x81}'
    + text('__setstate__')
    + b'cos\nmkdir\nsbMARKERb',
    'APPENDS': b'ccollections\ndeque\n)Rcos\nmkdir\nMARKER\x85Ra',
    'SETITEM': b'ccollections\nOrderedDict\n)Rcos\nmkdir\nMARKER\x85RNs',
}
PLAIN = b'\x80\x02}(' + text('state_dict') + b'}' + text('extra') + b'PAYLOADu.'


def zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr('archive/data.pkl', content)
        archive.writestr('archive/byteorder', 'little')
        archive.writestr('archive/data/0', np.arange(4, dtype='f4').tobytes())
    return file.getvalue()


def legacy(content: bytes) -> bytes:
    head = [0x1950A86A20F9469CFC6C, 1001, dict(little_endian=True)]
    parts = [pickle.dumps(part, protocol=2) for part in head]
    return b''.join([*parts, content, pickle.dumps([], protocol=2)])


@pytest.fixture
def marker(tmp_path) -> Path:
    return tmp_path / 'marker'


@pytest.fixture
def extension():
    copyreg.add_extension('posix', 'mkdir', EXTENSION)
    yield
    copyreg.clear_extension_cache()
    copyreg.remove_extension('posix', 'mkdir', EXTENSION)


@pytest.mark.parametrize('form', [zipped, legacy])
@pytest.mark.parametrize('payload', HOSTILE)
def test_nothing_in_a_file_is_called(tmp_path, marker, extension, payload, form):
    content = PLAIN.replace(b'PAYLOAD', HOSTILE[payload])
    content = content.replace(MARKER, text(str(marker)))
    pickle.loads(content)
    assert marker.is_dir()  # hostile indeed
    marker.rmdir()  # and the function with an extension code is known from now on

    path = tmp_path / 'a.pth'
    write_bytes(path, form(content))
    assert_no_effect(path, marker)


def assert_no_effect(path: Path, marker: Path) -> None:
    with contextlib.suppress(Exception):
        read_inert(path)
    assert not marker.exists()
    for read in (
        read_checkpoint,
        lambda path: read_checkpoint(path, skip_objects=True),
        lambda path: load_backbone(ResNet(18), path),
        lambda path: convert_checkpoint(path, path.with_name('converted.pth')),
        inspect_checkpoint,
    ):
        with contextlib.suppress(CheckpointError):
            read(path)
        assert not marker.exists()
    # The classes of PyTorch that a reader could have changed are as they were.
    assert torch._utils._rebuild_tensor_v2.__defaults__ == (None,)


@pytest.mark.parametrize(
    'payload',
    [
        # Ids of storages: what a call returns, a function as the class, a class to call
        b'cos\nmkdir\nMARKER\x85RQ',
        b'(' + text('storage') + b'cos\nmkdir\nMARKER' + text('cpu') + b'K\x01tQ',
        b'(' + text('module') + b'cos\nmkdir\nNNtQMARKER\x85R',
        # Arguments of what rebuilds tensors and containers
        b'ctorch._tensor\n_rebuild_from_type_v2\n(cos\nmkdir\nNMARKER\x85NtR',
        b'ctorch._utils\n_rebuild_parameter\n(cos\nmkdir\nMARKER\x85R\x88NtR',
        b'ctorch._utils\n_rebuild_tensor_v2\n((' + text('storage')
        + b'cos\nmkdir\nMARKER' + text('cpu') + b'K\x01tQK\x00)MARKER\x88NtR',
        b'ccollections\nOrderedDict\ncos\nmkdir\nMARKER\x85R\x85R',
        b'ctorch\nSize\ncos\nmkdir\nMARKER\x85R\x85R',
        # Attributes of a function
        b'ctorch._utils\n_rebuild_tensor_v2\n(N}' + text('__defaults__')
        + b'MARKER\x85stb',
    ],
)  # fmt: skip
@pytest.mark.parametrize('form', [zipped, legacy])
def test_nothing_that_rebuilds_tensors_calls(tmp_path, marker, payload, form):
    content = PLAIN.replace(b'PAYLOAD', payload).replace(MARKER, text(str(marker)))
    write_bytes(tmp_path / 'a.pth', form(content))
    assert_no_effect(tmp_path / 'a.pth', marker)


class Attack:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


class Network(nn.Module):
    """A module with all that a module can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.arange(3.0))
        self.token.note = 'a parameter with an attribute'
        self.layers = nn.Sequential(nn.Linear(2, 3), nn.GELU(), nn.BatchNorm1d(3))
        self.tied = self.layers[0]
        self.halves = nn.Parameter(torch.rand(4, 2).half().t(), requires_grad=False)
        self.register_buffer('index', torch.arange(4).view(2, 2))
        self.register_buffer('mask', torch.ones(2), persistent=False)
        self.register_parameter('absent', None)
        self.activation = nn.functional.relu
        self.settings = dict(depth=1)


@pytest.mark.parametrize('mmap', [True, False])
@pytest.mark.parametrize('zip_format', [True, False])
def test_whole_modules_give_their_state_dict(tmp_path, zip_format, mmap):
    module, path = Network(), tmp_path / 'a.pth'
    torch.save(module, path, _use_new_zipfile_serialization=zip_format)
    inert = read_inert(path, mmap=mmap)
    assert inert.content.module == f'{__name__}.Network'
    expected = module.state_dict()
    assert list(inert.content) == list(expected)
    torch.testing.assert_close(dict(inert.content), dict(expected), rtol=0, atol=0)
    # Tied weights stay tied.
    tied = inert.content['tied.weight'], inert.content['layers.0.weight']
    assert tied[0].data_ptr() == tied[1].data_ptr()
    assert inert.left['torch.nn.modules.linear.Linear'] == 1
    assert inert.left['torch.nn.functional.relu'] == 1


def test_modules_inside_containers(tmp_path):
    path, module = tmp_path / 'a.pth', Network()
    torch.save(dict(model=nn.DataParallel(module), epoch=3), path)
    content = read_checkpoint(path, skip_objects=True)
    assert isinstance(content['model'], ModuleWeights)
    assert content['epoch'] == 3
    assert set(content['model']) == {f'module.{name}' for name in module.state_dict()}


def test_what_is_left_inert_is_said(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(reading, 'print_log', lambda text, **_: said.append(text))
    path = tmp_path / 'a.pth'
    torch.save(nn.Linear(2, 1), path)
    content = read_checkpoint(path, skip_objects=True)
    assert set(content['state_dict']) == {'weight', 'bias'}
    assert said == [
        f'{path}: left inert, none of it was run: torch.nn.modules.linear.Linear'
    ]


def test_hostile_parts_of_a_module_are_no_weights(tmp_path, marker):
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    module[0]._parameters['weight'] = Attack(marker)
    module[1]._modules['attack'] = Attack(marker)
    module._buffers['attack'] = Attack(marker)
    torch.save(module, tmp_path / 'a.pth')
    content = read_checkpoint(tmp_path / 'a.pth', skip_objects=True)
    assert set(content['state_dict']) == {'0.bias', '1.weight', '1.bias'}
    assert_no_effect(tmp_path / 'a.pth', marker)


def test_objects_keep_what_they_were_built_from(tmp_path, marker):
    content = {'attack': Attack(marker), 'of': Attack, Path: 1}
    torch.save(content, tmp_path / 'a.pth')
    inert = read_inert(tmp_path / 'a.pth')
    assert inert.content['attack'].full_name.endswith('.mkdir')
    assert inert.content['attack'].args == (str(marker),)
    assert issubclass(inert.content['of'], InertObject)
    assert inert.left == {
        inert.content['attack'].full_name: 1,
        f'{__name__}.Attack': 1,
        'pathlib.Path': 1,
    }


def test_a_module_that_holds_itself(tmp_path):
    module = nn.Linear(2, 1)
    module._modules['self'] = module
    torch.save(module, tmp_path / 'a.pth')
    names = set(read_inert(tmp_path / 'a.pth').content)
    assert {'weight', 'bias'} <= names


def test_repeated_tuples_are_settled_once(tmp_path):
    value: tuple = (1,)
    for _ in range(200):
        value = (value, value)  # 2 ** 200 leaves
    torch.save(dict(value=value, attack=nn.Linear(1, 1)), tmp_path / 'a.pth')
    assert len(read_inert(tmp_path / 'a.pth').content['value']) == 2


def test_tensors_beyond_their_storage_are_refused(tmp_path):
    tensor = (
        b'ctorch._utils\n_rebuild_tensor_v2\n((' + text('storage')
        + b'ctorch\nFloatStorage\n' + text('0') + text('cpu')
        + b'K\x04tQK\x00K\x05\x85K\x01\x85\x89NtR'
    )  # fmt: skip
    for size, fits in ((5, False), (4, True)):
        content = PLAIN.replace(b'PAYLOAD', tensor.replace(b'K\x05', bytes([75, size])))
        write_bytes(tmp_path / 'a.pth', zipped(content))
        if fits:
            extra = read_inert(tmp_path / 'a.pth').content['extra']
            assert extra.tolist() == [0, 1, 2, 3]
        else:
            with pytest.raises(RuntimeError, match='out of bounds'):
                read_inert(tmp_path / 'a.pth')


@pytest.mark.parametrize('protocol', [2, 4])
def test_plain_content_of_any_protocol_needs_no_leave(tmp_path, protocol):
    content = dict(state_dict=nn.Linear(2, 1).state_dict(), epoch=3)
    torch.save(content, tmp_path / 'a.pth', pickle_protocol=protocol)
    read = read_checkpoint(tmp_path / 'a.pth')
    assert read['epoch'] == 3
    assert torch.equal(read['state_dict']['weight'], content['state_dict']['weight'])


@pytest.mark.skipif(
    not hasattr(torch.serialization, 'get_unsafe_globals_in_checkpoint'),
    reason='PyTorch before 2.6 lists none',
)
def test_a_refusal_names_what_pytorch_lists(tmp_path):
    content = dict(module=nn.Linear(2, 1), activation=nn.functional.relu)
    torch.save(content, tmp_path / 'a.pth')
    wanted = (
        r'to read it, torch\.nn\.functional\.relu, torch\.nn\.modules\.linear\.Linear '
        r'would have to be called.*--inspect'
    )
    with pytest.raises(CheckpointError, match=wanted):
        read_checkpoint(tmp_path / 'a.pth')


def test_a_dict_that_holds_itself(tmp_path):
    content: dict = dict(weight=torch.ones(1))
    content['again'] = content
    torch.save(content, tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='holds a dict that holds itself'):
        load_backbone(ResNet(18), tmp_path / 'a.pth')
    assert inspect_checkpoint(tmp_path / 'a.pth')[-1].startswith('backbone: none (')
