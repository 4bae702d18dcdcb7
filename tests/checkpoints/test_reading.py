# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import argparse
import os
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from safetensors.torch import save_file
from torch import nn

from cmid_mm.checkpoints import CheckpointError, read_checkpoint, write_checkpoint
from tests.hostile import Regression


@pytest.fixture(scope='module')
def run_checkpoint(tmp_path_factory) -> Path:
    """A checkpoint that an mmengine runner wrote, optimiser and logs included."""
    work_dir = tmp_path_factory.mktemp('run')
    Runner(
        Regression(),
        work_dir=str(work_dir),
        train_dataloader=dict(
            dataset=[torch.ones(3)] * 4,
            batch_size=2,
            sampler=dict(type='DefaultSampler', shuffle=False),
        ),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1)),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        param_scheduler=[
            dict(type='MultiStepLR', milestones=[1]),
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=2),
        ],
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
        log_level='ERROR',
    ).train()
    return work_dir / 'epoch_1.pth'


def test_reads_run_checkpoint(run_checkpoint):
    checkpoint = read_checkpoint(run_checkpoint)
    assert set(checkpoint) == {
        'meta', 'state_dict', 'message_hub', 'optimizer', 'param_schedulers'
    }  # fmt: skip
    losses = checkpoint['message_hub']['log_scalars']['train/loss']
    assert losses.data[0].shape == (2,)
    assert losses.mean() == pytest.approx(np.mean(losses.data[0]))
    assert checkpoint['meta']['iter'] == 2


@pytest.mark.parametrize('module', [b'numpy.core', b'numpy._core'])
def test_reads_arrays_of_both_numpy_versions(run_checkpoint, tmp_path, module):
    path = tmp_path / 'other_numpy.pth'
    with zipfile.ZipFile(run_checkpoint) as source, zipfile.ZipFile(path, 'w') as copy:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith('data.pkl'):
                content = content.replace(b'numpy._core.', b'numpy.core.')
                assert content.count(b'cnumpy.core.multiarray\n') == 2
                content = content.replace(b'numpy.core.', module + b'.')
            copy.writestr(name, content)
    log = read_checkpoint(path)['message_hub']['log_scalars']['train/loss']
    assert np.isfinite(log.data[0]).all()


def test_lookup_of_other_attributes_is_refused(tmp_path):
    class Lookup:
        def __reduce__(self):
            return getattr, (nn.Linear, 'forward')

    path = tmp_path / 'lookup.pth'
    torch.save(dict(state_dict=Lookup()), path)
    with pytest.raises(CheckpointError, match='must not run code'):
        read_checkpoint(path)


def test_code_is_refused_by_name_and_not_run(tmp_path):
    trace = tmp_path / 'trace'

    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(trace),)

    path = tmp_path / 'attack.pth'
    torch.save(dict(state_dict={}, extra=Attack()), path)
    with pytest.raises(CheckpointError, match=r'attack\.pth was refused.*mkdir'):
        read_checkpoint(path)
    assert not trace.exists()


@pytest.mark.parametrize('zipped', [True, False])
def test_foreign_object_is_refused_by_name(tmp_path, zipped):
    path = tmp_path / 'namespace.pth'
    checkpoint = dict(args=argparse.Namespace(lr=1.0), model={})
    torch.save(checkpoint, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r'argparse\.Namespace would .*--inspect'):
        read_checkpoint(path)


def truncated() -> bytes:
    class Buffer(list):
        def write(self, data):
            self.append(bytes(data))
            return len(data)

        def flush(self):
            pass

    buffer = Buffer()
    torch.save(dict(weight=torch.zeros(1000)), buffer)
    return b''.join(buffer)[:2000]


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('empty.pth', b'', r'empty \(0 bytes\)'),
        ('truncated.pth', truncated(), 'truncated: .* after 2000 bytes'),
        ('text.pth', b'404 not found', r'no checkpoint, .*\(.*[^l]\); expected'),
        ('page.pth', b'\n<html>404 not found</html>', r'a web page \(HTML\)'),
        (
            'a.safetensors',
            b'version https://git-lfs.github.com/spec/v1\noid sha256:a\nsize 9\n',
            'Git LFS pointer',
        ),
        ('pickle.pth', pickle.dumps([1, 2]), 'pickle that torch.save did not write'),
        ('cut.safetensors', b'\x50\0\0\0\0\0\0\0{"a":', 'truncated or no safetensors'),
    ],
)
def test_unreadable_files(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as error:
        read_checkpoint(path)
    assert name in str(error.value)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('end', ['pth', 'safetensors'])
@pytest.mark.parametrize('zipped', [True, False, None])
def test_content_decides_and_not_the_name(tmp_path, end, zipped):
    path, state = tmp_path / f'a.{end}', nn.Linear(2, 1).state_dict()
    if zipped is None:
        save_file(state, path)
    else:
        torch.save(dict(state_dict=state), path, _use_new_zipfile_serialization=zipped)
    torch.testing.assert_close(read_checkpoint(path)['state_dict'], dict(state))


@pytest.mark.parametrize('skip_objects', [False, True])
def test_advice_fits_a_file_of_one_object(tmp_path, skip_objects):
    torch.save(argparse.Namespace(lr=1.0), tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match=r'argparse\.Namespace would') as error:
        read_checkpoint(tmp_path / 'a.pth', skip_objects=skip_objects)
    assert 'inspect' not in str(error.value)
    assert '--backbone-checkpoint' not in str(error.value)


@pytest.mark.filterwarnings('error')
def test_torchscript_is_refused_by_name(tmp_path):
    path = tmp_path / 'a.pt'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('a/data.pkl', pickle.dumps({}))
        archive.writestr('a/constants.pkl', b'')
    with pytest.raises(CheckpointError, match=r'a\.pt holds a TorchScript program'):
        read_checkpoint(path)


@pytest.mark.parametrize('is_also_zip', [False, True])
def test_tar_archives_are_refused_before_pytorch_sees_them(
    tmp_path, monkeypatch, is_also_zip
):
    path = tmp_path / 'a.pth'
    with tarfile.open(path, 'w') as archive:
        archive.addfile(tarfile.TarInfo('PKnothing' if is_also_zip else 'pickle'))
    if is_also_zip:
        with zipfile.ZipFile(path, 'a') as archive:
            archive.writestr('a/data.pkl', pickle.dumps({}))
    monkeypatch.setattr(torch, 'load', None)
    with pytest.raises(CheckpointError, match=r'a\.pth is a tar archive'):
        read_checkpoint(path)


def test_archives_that_unpack_to_much_more_are_refused(tmp_path):
    path = tmp_path / 'a.pth'
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('a/data.pkl', bytes(10**6))
    with pytest.raises(CheckpointError, match=rf'{path} .* unpack to 1000000'):
        read_checkpoint(path)


@pytest.mark.filterwarnings('error')
def test_pickles_are_refused_without_a_warning(tmp_path):
    (tmp_path / 'a.pkl').write_bytes(pickle.dumps(dict(a=torch.ones(2))))
    with pytest.raises(CheckpointError, match='torch.save did not write'):
        read_checkpoint(tmp_path / 'a.pkl')


def test_missing_file_folder_and_list(tmp_path):
    with pytest.raises(CheckpointError, match='absent.pth does not exist'):
        read_checkpoint(tmp_path / 'absent.pth')
    with pytest.raises(CheckpointError, match='^http://a/b.pth is an address'):
        read_checkpoint('http://a/b.pth')
    with pytest.raises(CheckpointError, match='is a folder'):
        read_checkpoint(tmp_path)
    for name in ('fsdp/__0_0.distcp', 'zero/step9/mp_rank_00_model_states.pt'):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
        folder = tmp_path / Path(name).parts[0]
        with pytest.raises(CheckpointError, match=rf'{folder} is .*sharded weights'):
            read_checkpoint(folder)
    torch.save([torch.ones(1)], tmp_path / 'list.pth')
    with pytest.raises(CheckpointError, match='holds a list'):
        read_checkpoint(tmp_path / 'list.pth')


@pytest.mark.parametrize('name', ['file.pth', 'file.safetensors'])
def test_round_trip(tmp_path, name):
    weight = torch.arange(6.0).reshape(2, 3).t()  # neither contiguous ...
    state = dict(weight=weight, tied=weight)  # ... nor alone in its memory
    meta = dict(bands=3, mean=[1.5, 2.0], source='a.pth')
    path = tmp_path / 'new' / name
    write_checkpoint(dict(meta=meta, state_dict=state), path)
    checkpoint = read_checkpoint(path)
    assert checkpoint['meta'] == meta
    torch.testing.assert_close(checkpoint['state_dict'], state, rtol=0, atol=0)


@pytest.mark.parametrize('name', ['file.pth', 'file.safetensors'])
def test_map_location(tmp_path, name):
    write_checkpoint(dict(state_dict=dict(weight=torch.ones(3))), tmp_path / name)
    checkpoint = read_checkpoint(tmp_path / name, map_location='meta')
    assert checkpoint['state_dict']['weight'].is_meta


@pytest.mark.parametrize('zipped', [True, False])
def test_mapped_into_memory(tmp_path, zipped):
    path = tmp_path / 'file.pth'
    torch.save(dict(weight=torch.ones(3)), path, _use_new_zipfile_serialization=zipped)
    assert read_checkpoint(path, mmap=True)['weight'].tolist() == [1, 1, 1]


def test_reads_safetensors_of_others(tmp_path):
    from safetensors.torch import save_file

    save_file({'w': torch.ones(2)}, tmp_path / 'a.safetensors', {'format': 'pt'})
    checkpoint = read_checkpoint(tmp_path / 'a.safetensors')
    assert checkpoint['meta'] == {'format': 'pt'}
    assert checkpoint['state_dict']['w'].tolist() == [1, 1]


def test_failed_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / 'file.pth'
    write_checkpoint(dict(state_dict=dict(weight=torch.ones(3))), path)
    unpicklable = dict(state_dict=dict(weight=torch.ones(10_000)), extra=lambda: None)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        write_checkpoint(unpicklable, path)
    assert os.listdir(tmp_path) == ['file.pth']
    assert read_checkpoint(path)['state_dict']['weight'].tolist() == [1, 1, 1]


def test_unwritable_target(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(CheckpointError, match='cannot write'):
        write_checkpoint({}, tmp_path / 'file' / 'below.pth')
