# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The commands as a user gives them, in this process."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from cmid_mm.checkpoints import read_checkpoint
from tests.end_to_end.pretraining import toy_run, write_images

TOOLS = Path(__file__).parents[2] / 'tools'


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp('tools') / 'images'
    for label in ('field', 'town'):
        write_images(folder / label, count=5)
    return folder


@pytest.fixture
def config(images, tmp_path):
    """A config file of the toy run, without its work folder."""
    cfg = toy_run('somewhere', tmp_path / 'unused')
    cfg.pop('work_dir')
    cfg.custom_imports = dict(imports=['cmid_mm'])
    cfg.custom_hooks.append(dict(type='ReconstructionHook', interval=3, num_images=2))
    file = tmp_path / 'toy.py'
    cfg.dump(file)
    return file


def test_from_images_to_a_backbone_file(run, config, images, tmp_path, capsys):
    work_dir = tmp_path / 'work'
    args = ('train.py', config, '--data-root', images, '--work-dir', work_dir)
    options = ('--cfg-options', 'log_level=INFO')
    assert run(*args, '--amp', *options, 'train_cfg.max_epochs=2') is None
    shown = capsys.readouterr().out
    assert torch.cuda.is_available() or 'training in float32' in shown
    # The start is quiet; the log file has everything.
    lines = shown.splitlines()
    assert next(i for i, line in enumerate(lines) if 'Epoch(train)' in line) < 20
    assert 'optim_wrapper = dict(' not in shown
    (log,) = work_dir.glob('*/*.log')
    assert str(log) in shown and 'optim_wrapper = dict(' in log.read_text()
    first = (work_dir / 'last_checkpoint').read_text()
    assert first.endswith('iter_10.pth')

    assert (
        run(*args, '--resume', '--verbose', *options) is None
    )  # the config's three epochs
    assert 'optim_wrapper = dict(' in capsys.readouterr().out
    checkpoint = work_dir / 'iter_14.pth'
    picture = cv2.imread(str(work_dir / 'vis_data/reconstruction/epoch_3.png'))
    assert picture.std() > 10

    scalars = {}
    for file in work_dir.glob('*/vis_data/scalars.json'):
        for line in file.read_text().splitlines():
            scalars.update(json.loads(line))
    logged = {
        'loss_spatial',
        'loss_frequency',
        'loss_contrastive',
        'loss_assignment',
        'teacher_momentum',
        'teacher_temperature',
        'matched_within_half_stride',
        'prototype_entropy',
        'feature_std',
        'images_per_s',
        'peak_memory_mb',
    }
    assert logged <= set(scalars)

    result = tmp_path / 'features.json'
    evaluate = ('evaluate_features.py', config)
    lists = []
    for option, numbers in {'--train-list': '012', '--test-list': '34'}.items():
        lists += [option, tmp_path / f'{option}.txt']
        names = [f'{label}/00{n}.png' for label in ('field', 'town') for n in numbers]
        lists[-1].write_text('\n'.join(names))
    data = ('--train', images, *lists, '--size', 64, '--json', result)
    assert run(*evaluate, checkpoint, *data) is None
    assert json.loads(result.read_text())

    backbone = tmp_path / 'backbone.pth'
    assert run('export_backbone.py', checkpoint, backbone) is None
    student = read_checkpoint(checkpoint)['state_dict']
    exported = read_checkpoint(backbone)['state_dict']
    assert torch.equal(
        exported['backbone.conv1.weight'], student['student.backbone.conv1.weight']
    )

    # Another run starts from the exported backbone, all of it.
    again = (*args[:-1], tmp_path / 'again', '--backbone-checkpoint', backbone)
    frozen = [
        'optim_wrapper.optimizer.lr=0',
        'optim_wrapper.optimizer.weight_decay=0',
        'train_cfg.max_epochs=1',
    ]
    assert run(*again, '--cfg-options', *frozen) is None
    state = read_checkpoint(tmp_path / 'again' / 'iter_4.pth')['state_dict']
    for name, value in exported.items():
        if name.endswith('weight'):
            assert torch.equal(state[f'student.{name}'], value), name


def bad_images(images, tmp_path, **files):
    for name, content in files.items():
        path = tmp_path / 'bad' / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return tmp_path / 'bad'


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--data-root', 'no_such_folder'], 'no_such_folder'),
        (['--data-root', 'EMPTY'], 'EMPTY'),
        (['--cfg-options', 'modle.momentum=0.9'], 'did you mean'),
        (['--cfg-options', 'model.momentums=0.9'], 'momentums'),
        (['--cfg-options', 'train_dataloader.batch_size=64'], 'do not fill one batch'),
        (['--cfg-options', 'data_preprocessor.mean=[1,2]'], 'std'),
        (['--cfg-options', 'train_dataloader.batch_sise=2'], 'train_dataloader: unk'),
        (['--cfg-options', 'optim_wrapper.optimizer.lr=fast'], 'optim_wrapper.optim'),
        (['--cfg-options', 'default_hooks.logger=5'], 'got 5'),
        (['--cfg-options', 'custom_hooks.0.x=5'], 'custom_hooks.0 (TeacherUpdateHook'),
        (['--resume', 'missing.pth'], 'missing.pth does not exist'),
        (['--backbone-checkpoint', 'missing.pth'], 'missing.pth does not exist'),
    ],
)
def test_bad_input_is_one_line(options, message, run, config, images, tmp_path):
    (tmp_path / 'EMPTY').mkdir()
    options = [str(tmp_path / o) if o == 'EMPTY' else o for o in options]
    work_dir = ['--work-dir', tmp_path / 'work']
    error = run('train.py', config, '--data-root', images, *work_dir, *options)
    assert isinstance(error, str) and error.startswith('error: ')
    assert message in error and '\n' not in error
    assert not list((tmp_path / 'work').glob('*.pth'))


def test_wrong_band_count_stops_the_run(run, config, images, tmp_path):
    bands = {
        'data_preprocessor.mean': '[1,2,3,4]',
        'data_preprocessor.std': '[1,2,3,4]',
    }
    options = [f'{key}={value}' for key, value in bands.items()]
    error = run(
        'train.py',
        config,
        *('--data-root', images, '--work-dir', tmp_path / 'work'),
        *('--cfg-options', *options),
    )
    assert error.startswith('error: data_preprocessor.mean has 4 values, but train_')
    assert 'loads 3 bands' in error


def test_truncated_images_stop_the_run_with_a_list(run, config, images, tmp_path):
    folder = tmp_path / 'mixed'
    write_images(folder, count=6)
    rng = np.random.default_rng(0)
    for name in ('a', 'b'):
        noise = rng.integers(0, 256, (80, 80, 3), dtype=np.uint8)
        data = cv2.imencode('.jpg', noise)[1].tobytes()
        (folder / f'{name}.jpg').write_bytes(data[: len(data) // 2])
    args = ('--data-root', folder, '--work-dir', tmp_path / 'work')
    error = run('train.py', config, *args)
    assert 'a.jpg' in error and 'b.jpg' in error
    # A larger tolerance trains on, with a list of what was left out.
    args = (*args, '--cfg-options', 'train_dataloader.dataset.max_unreadable=0.5')
    assert run('train.py', config, *args) is None
    listed = (tmp_path / 'work' / 'unreadable.txt').read_text()
    assert 'a.jpg' in listed and 'b.jpg' in listed


def test_two_processes_by_the_script(config, images, tmp_path):
    work_dir = tmp_path / 'work'
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])
    python = {'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1', 'PORT': port}
    done = subprocess.run(
        [
            *(TOOLS / 'dist_train.sh', config, '2'),
            *('--data-root', images, '--work-dir', work_dir),
            *('--cfg-options', 'train_cfg.max_epochs=2', 'log_level=INFO'),
        ],
        env={**os.environ, **python, 'PYTHONPATH': str(TOOLS.parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    state = read_checkpoint(work_dir / 'iter_4.pth')
    # 10 images, 2 processes, 2 images each: two iterations an epoch, of which each
    # puts the keys of 8 views into the queue.
    assert state['meta']['iter'] == 4
    assert state['state_dict']['heads.contrastive.queue_ptr'].item() == 4 * 8 % 24


REPORT_THREADS = """
import atexit, os, runpy, sys
def report(when):
    tasks = os.listdir('/proc/self/task')
    names = [open(f'/proc/self/task/{task}/comm').read() for task in tasks]
    print(when, sum('gloo' in name for name in names))
atexit.register(report, 'at the end:')
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name='__main__')
report('after the training:')
"""


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='reads /proc')
def test_no_thread_of_gloo_outlives_a_run(config, images, tmp_path):
    alone = {'RANK': '0', 'WORLD_SIZE': '1', 'LOCAL_RANK': '0'}
    address = {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': '0'}
    done = subprocess.run(
        [
            *(sys.executable, '-c', REPORT_THREADS, TOOLS / 'train.py', config),
            *('--data-root', images, '--work-dir', tmp_path, '--launcher', 'pytorch'),
            *('--cfg-options', 'train_cfg.max_epochs=1'),
        ],
        env={**os.environ, **alone, **address, 'PYTHONPATH': str(TOOLS.parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    if 'after the training: 0' in done.stdout:
        pytest.skip('this PyTorch does not name the threads of gloo')
    assert 'at the end: 0' in done.stdout


def test_testing_a_pretraining_config_points_to_the_right_tool(run, config):
    error = run('test.py', config, 'x.pth')
    assert 'no test_dataloader' in error and 'evaluate_features.py' in error


@pytest.mark.parametrize('tool', sorted(path.name for path in TOOLS.glob('*.py')))
def test_every_tool_explains_itself(tool, run, capsys):
    assert run(tool, '-h') == 0
    text = capsys.readouterr().out
    assert 'usage:' in text and len(text.splitlines()) > 8
