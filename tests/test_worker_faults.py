# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import multiprocessing
import os
import signal
import threading
import time
from contextlib import nullcontext

import pytest
from torch.utils.data import DataLoader, Dataset

from cmid_mm import worker_faults
from cmid_mm.being_read import being_read, last_read
from cmid_mm.explaining import explain
from cmid_mm.worker_faults import (
    explain_worker_fault,
    leave_if_hanging,
)
from cmid_mm_cli import user_errors


class Faulty(Dataset):
    """Something happens to the worker that is at the third of its files."""

    def __init__(self, number, reads=True):
        self.number, self.reads = number, reads

    def __len__(self):
        return 6

    def __getitem__(self, index):
        if not self.reads:
            self.fail()
        with being_read(f'/data/{index}.tif'):
            if index == 2:
                self.fail()
        return index

    def fail(self):
        os.kill(os.getpid(), self.number)


def fault_of(number, reads=True, **options):
    loader = DataLoader(Faulty(number, reads), num_workers=2, **options)
    # An error of the connection is what torch raises if it comes to read before the
    # death of the worker is told to it.
    with pytest.raises((RuntimeError, EOFError, ConnectionResetError)) as caught:
        list(loader)
    text = explain(caught.value)
    assert text == explain_worker_fault(caught.value)
    leave_if_hanging('', 1)
    assert not multiprocessing.active_children()
    return text


@pytest.mark.parametrize(
    'number, advice',
    [
        (signal.SIGKILL, 'out of memory'),
        (signal.SIGSEGV, 'damaged file'),
        (signal.SIGBUS, 'shm'),
        (signal.SIGTERM, 'scheduler'),
    ],
)
def test_death_is_told_with_its_signal_and_file(number, advice):
    text = fault_of(number)
    assert f'killed by {number.name} while it read /data/2.tif; ' in text
    assert 'process ' in text and advice in text


def test_death_outside_of_a_file_is_told_without():
    text = fault_of(signal.SIGKILL, reads=False)
    assert 'killed by SIGKILL, of which no file is known' in text


def test_stopped_worker_is_told_with_its_file_and_ended():
    text = fault_of(signal.SIGSTOP, timeout=1)
    assert 'for 1 seconds: worker 0 of a data loader' in text
    assert 'is stopped while it read /data/2.tif. ' in text
    assert 'worker 1' not in text and 'train_dataloader.timeout' in text


class Dying:
    """As the iterator of a loader whose worker's connection ends before it does."""

    def __init__(self, worker):
        self._workers = [worker]

    def fetch(self, error):
        raise error


@pytest.mark.parametrize('kind', [EOFError, ConnectionResetError])
@pytest.mark.parametrize('dies', [True, False])
def test_a_connection_that_ends_is_told_as_the_death_behind_it(kind, dies, monkeypatch):
    monkeypatch.setattr(worker_faults, '_KNOWN_SECONDS', 5.0 if dies else 0.05)
    worker = multiprocessing.get_context('fork').Process(
        target=time.sleep, args=(60,), daemon=True
    )
    worker.start()
    if dies:
        threading.Timer(0.1, worker.kill).start()
    with pytest.raises(kind) as caught:
        Dying(worker).fetch(kind('by peer'))
    text = explain_worker_fault(caught.value)
    worker.kill()
    worker.join()
    if dies:
        assert f'worker 0 of a data loader (process {worker.pid}) was killed by' in text
    else:
        assert text is None


def test_a_command_that_is_done_does_not_wait_for_a_stopped_worker():
    def main():
        worker = multiprocessing.get_context('fork').Process(
            target=time.sleep, args=(60,), daemon=True
        )
        worker.start()
        os.kill(worker.pid, signal.SIGSTOP)
        if stops:
            raise SystemExit(75)

    for stops in (False, True):
        with pytest.raises(SystemExit) if stops else nullcontext():
            user_errors(main)()
        assert not multiprocessing.active_children()


def test_other_errors_are_none_of_workers():
    assert explain_worker_fault(RuntimeError('CUDA out of memory')) is None
    assert explain_worker_fault(ValueError('DataLoader timed out after 3')) is None


def test_reads_of_two_threads_leave_nothing_behind():
    longer = threading.Event()

    def read():
        with being_read('other'):
            longer.wait(10)

    thread = threading.Thread(target=read)
    with being_read('first'):
        thread.start()
        while last_read(os.getpid()).name != 'other':
            time.sleep(0.001)
    longer.set()
    thread.join()
    assert not last_read(os.getpid()).now


def test_last_file_of_this_process():
    process = os.getpid()
    with being_read('outer'):
        with being_read('x' * 3000 + '.tif'):
            last = last_read(process)
            assert last.now and last.name.endswith('x.tif') and len(last.name) > 1000
        assert last_read(process).name == 'outer' and last_read(process).now
    assert last_read(process).name == 'outer' and not last_read(process).now
    assert last_read(process + 1024) is None
