# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Runs of several processes, of which one dies or is told to stop."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from cmid_mm.checkpoints import read_checkpoint
from cmid_mm.engine import launch
from tests.end_to_end.pretraining import toy_run, write_images
from tests.end_to_end.test_resume import assert_same
from tests.faults.rows import fault
from tests.faults.runs import Processes

PART = 'Several processes'
ROOT = Path(__file__).parents[2]
SCHEDULE = [
    dict(
        type='LinearLR',
        start_factor=1.0,
        end_factor=0.1,
        end=1,
        convert_to_iter_based=True,
    )
]


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return str(write_images(tmp_path_factory.mktemp('images'), count=12))


@pytest.fixture(scope='module')
def whole(images, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('whole')
    assert Processes(work_dir, images, 2).statuses() == [0, 0]
    return work_dir / 'epoch_3.pth'


@pytest.mark.parametrize('told', [[0], [1], [0, 1]])
@fault(
    PART,
    'SIGTERM to one of two processes, or to both',
    'all of it saved within an iteration, statuses 75 and 0; resumed, the run ends '
    'bit for bit as if it had not been stopped',
)
def test_a_signal_to_one_process_stops_all(told, images, whole, tmp_path):
    run = Processes(tmp_path, images, 2, dict(seconds=0.5))
    run.wait_for_iteration(4)
    run.send(signal.SIGTERM, *told)
    assert run.statuses() == [75, 0], run.outputs()
    assert 'Traceback' not in run.outputs()
    assert len(list(tmp_path.glob('iter_*.pth'))) == 1
    assert Processes(tmp_path, images, 2).statuses() == [0, 0]
    assert_same(tmp_path / 'epoch_3.pth', whole)


@pytest.mark.parametrize('dying', [0, 1])
@fault(
    PART,
    'SIGKILL to one of two processes',
    'the other ends within a minute with status 1 and the name of the first',
)
def test_a_killed_process_ends_the_other(dying, images, tmp_path):
    run = Processes(tmp_path, images, 2, dict(seconds=0.5))
    run.wait_for_iteration(2)
    run.send(signal.SIGKILL, dying)
    statuses = run.statuses(60)
    assert statuses[dying] == -signal.SIGKILL and statuses[1 - dying] == 1
    assert f'error: process {dying}' in run.output(1 - dying)


@fault(
    PART,
    'out of memory or another error in one of two processes',
    'the other ends within a minute with status 1 and the name of the first',
)
def test_an_error_in_one_process_ends_the_other(images, tmp_path):
    run = Processes(tmp_path, images, 2, dict(raises_in=(1, 3)))
    run.wait_for_iteration(2)
    assert run.statuses(60) == [1, 1]
    assert 'MemoryError' in run.output(1)
    assert 'error: process 1' in run.output(0)


@fault(
    PART,
    'one of two processes hangs while it leaves the others, after the training',
    'it says where it hangs and ends within a minute with status 1; all is saved',
)
def test_a_process_that_cannot_leave_is_ended(images, tmp_path, monkeypatch):
    leave = torch.distributed.destroy_process_group

    def hang() -> None:
        if os.environ['RANK'] == '1':
            time.sleep(600)
        leave()

    monkeypatch.setattr(torch.distributed, 'destroy_process_group', hang)
    monkeypatch.setattr(launch, '_LEAVE_SECONDS', 15)
    run = Processes(tmp_path, images, 2)
    assert run.statuses() == [0, 1]
    assert '_leave_process_group' in run.output(1)
    assert read_checkpoint(tmp_path / 'epoch_3.pth')['meta']['epoch'] == 3


# An epoch of 24 images, with 2 of each process in an iteration at first. Then steps
# keep their images, by fewer in each process or by gathering; only 2 to 3 cannot.
@pytest.mark.parametrize(
    ('before', 'after', 'per_iteration'),
    [(1, 2, 2), (2, 1, 2), (2, 3, 6), (3, 2, 6), (3, 1, 2)],
)
@fault(
    PART,
    'resumed in another number of processes, in the middle of an epoch (1, 2, 3)',
    'the images that remain are seen once each; schedules end where they would',
)
def test_another_number_of_processes_shares_the_rest(
    before, after, per_iteration, tmp_path
):
    images = str(write_images(tmp_path / 'images', count=24))
    options = {'train_cfg.max_epochs': 1, 'param_scheduler': SCHEDULE}
    run = Processes(tmp_path, images, before, dict(seconds=0.5), **options)
    run.wait_for_iteration(1)
    run.send(signal.SIGTERM, 0)
    assert run.statuses()[0] == 75, run.outputs()
    (file,) = tmp_path.glob('iter_*.pth')
    done = int(file.stem[5:])
    seen = [name for rank in range(before) for name in run.images(range(done), rank)]
    assert len(seen) == done * before * 2
    run = Processes(tmp_path, images, after, **options)
    assert run.statuses() == [0] * after, run.outputs()
    end = read_checkpoint(tmp_path / 'epoch_1.pth')
    total = end['meta']['iter']
    first = total - (24 - len(seen)) // per_iteration
    assert total == 24 // per_iteration
    for rank in range(after):
        seen += run.images(range(first, total), rank)
    assert len(seen) == len(set(seen)) and 24 - len(seen) < per_iteration
    # A straight line from 1e-3 to a tenth of it, over the iterations of the run.
    assert end['optimizer']['param_groups'][0]['lr'] == pytest.approx(1e-4)


@fault(
    PART,
    'SIGTERM to tools/dist_train.sh',
    'both processes save and end, the script with status 75',
)
def test_the_script_hands_signals_and_status_on(images, tmp_path):
    cfg = toy_run(images, tmp_path / 'work', **{'train_cfg.max_epochs': 1000})
    cfg.custom_imports = dict(imports=['cmid_mm'])
    cfg.log_level = 'INFO'
    cfg.dump(tmp_path / 'toy.py')
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])
    python = {'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1', 'PORT': port}
    output = tmp_path / 'output.txt'
    with output.open('w') as file:
        script = subprocess.Popen(
            [ROOT / 'tools/dist_train.sh', tmp_path / 'toy.py', '2'],
            env={**os.environ, **python, 'PYTHONPATH': str(ROOT)},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    end = time.monotonic() + 300
    while 'loss' not in output.read_text():
        assert script.poll() is None and time.monotonic() < end, output.read_text()
        time.sleep(0.5)
    script.send_signal(signal.SIGTERM)
    assert script.wait(300) == 75, output.read_text()
    assert 'Traceback' not in output.read_text()
    assert (tmp_path / 'work/last_checkpoint').is_file()
