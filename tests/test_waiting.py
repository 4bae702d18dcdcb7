# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from cmid_mm import waiting
from cmid_mm.being_read import being_read
from cmid_mm.explaining import explain
from cmid_mm.restartable import Job, run_jobs
from cmid_mm.waiting import reading_ends, waiting_ends
from cmid_mm.worker_faults import leave_if_hanging
from tests.faults import forked


class StopsAfterwards(Dataset):
    """The worker has stopped when the memory of its batch is asked for."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        with being_read('/data/last.tif'):
            number = os.getpid()
        threading.Timer(0.3, os.kill, (number, signal.SIGSTOP)).start()
        return torch.zeros(9)


def test_waiting_for_the_memory_of_a_batch_ends():
    loader = DataLoader(StopsAfterwards(), num_workers=1, timeout=1)
    with pytest.raises(RuntimeError) as caught, waiting_ends():
        batches = iter(loader)
        time.sleep(1)
        next(batches)
    text = explain(caught.value)
    leave_if_hanging('', 1)
    assert 'is stopped after it read /data/last.tif' in text


class Stalls(Dataset):
    """A file takes for ever, where signals are heard and where they are not."""

    def __init__(self, hears):
        self.hears = hears

    def __len__(self):
        return 4

    def __getitem__(self, index):
        with being_read(f'/data/{index}.tif'):
            if index == 2:
                if not self.hears:  # as in the kernel
                    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
                time.sleep(600)
        return index


@pytest.mark.parametrize('hears', [True, False])
def test_a_run_without_workers_ends_with_the_file_that_stalls(
    hears, tmp_path, monkeypatch
):
    monkeypatch.setattr(waiting, '_INTERVAL', 0.05)

    def leave(waits):
        print('left in', waits.f_code.co_name)

    def run():
        with waiting_ends(leave, without_workers=0.3):
            list(DataLoader(Stalls(hears), batch_size=2))

    process = forked.start(run, log=tmp_path / 'log')
    process.join(60)
    process.kill()
    assert process.exitcode == 1
    said, left = (tmp_path / 'log').read_text().splitlines()
    assert said.startswith('error: /data/2.tif is being read for 0.3 seconds, without')
    assert left == 'left in __next__'


def read_for_ever():
    with being_read('/data/scene.tif'):
        # As in the kernel, where no signal is heard.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        time.sleep(600)


def read_in_thread():
    """And other files meanwhile."""
    threading.Thread(target=read_for_ever, daemon=True).start()
    while True:
        with being_read('/data/other.tif'):
            time.sleep(0.01)


def read_in_workers():
    job = Job((Path('/data/out.tif'),), read_for_ever)
    run_jobs([job, job], workers=2, progress=False)


@pytest.mark.parametrize('read', [read_for_ever, read_in_thread, read_in_workers])
def test_a_command_ends_with_the_file_that_stalls(read, tmp_path, monkeypatch):
    monkeypatch.setattr(waiting, '_INTERVAL', 0.05)

    def run():
        with reading_ends(0.3):
            read()

    process = forked.start(run, log=tmp_path / 'log')
    process.join(60)
    process.kill()
    assert process.exitcode == 1
    said = (tmp_path / 'log').read_text()
    assert said.startswith('error: /data/scene.tif is being read for 0.3 seconds: the ')


def test_reading_that_goes_on_does_not_end(monkeypatch):
    """One long read that computes, and many short ones of one file."""
    monkeypatch.setattr(waiting, '_INTERVAL', 0.02)
    with reading_ends(0.1):
        end = time.monotonic() + 0.4
        with being_read('/data/scene.tif'):
            while time.monotonic() < end:
                pass
        for _ in range(10):
            with being_read('/data/scene.tif'):
                time.sleep(0.03)


class Slow(Dataset):
    """Files of which each takes its time, one of them read again and again."""

    def __len__(self):
        return 16

    def __getitem__(self, index):
        with being_read('/data/scene.tif'):
            time.sleep(0.05)
        return index


def test_many_files_take_longer_than_one_may(monkeypatch):
    monkeypatch.setattr(waiting, '_INTERVAL', 0.02)
    with waiting_ends(without_workers=0.3):
        (batch,) = DataLoader(Slow(), batch_size=16)
    assert batch.tolist() == list(range(16))


class Numbers(Dataset):
    """Some take their time in the worker."""

    def __init__(self, seconds=0.0):
        self.seconds = seconds

    def __len__(self):
        return 8

    def __getitem__(self, index):
        time.sleep(self.seconds)
        return index


def kill(worker):
    os.kill(worker.pid, signal.SIGKILL)
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
    time.sleep(0.01)  # here the signal of its death is handled


def test_a_death_is_told_where_it_may_be():
    with pytest.raises(RuntimeError) as caught, waiting_ends() as tell_death:
        batches = iter(DataLoader(Numbers(), num_workers=1))
        next(batches)
        tell_death()  # of none
        kill(batches._workers[0])
        done = True
        tell_death()
    assert done
    assert 'was killed by SIGKILL' in explain(caught.value)


def test_a_death_is_told_where_data_are_waited_for(monkeypatch):
    monkeypatch.setattr(waiting, '_INTERVAL', 0.05)
    with pytest.raises(RuntimeError) as caught, waiting_ends():
        batches = iter(DataLoader(Numbers(0.1), num_workers=1, timeout=60))
        next(batches)
        kill(batches._workers[0])
        list(batches)
    assert 'was killed by SIGKILL' in explain(caught.value)


def test_no_death_is_told_while_another_error_is():
    with pytest.raises(ValueError, match='first') as caught, waiting_ends():
        batches = iter(DataLoader(Numbers(), num_workers=1))
        try:
            raise ValueError('first')
        finally:
            kill(batches._workers[0])
    assert caught.value.__context__ is None
    leave_if_hanging('', 1)
