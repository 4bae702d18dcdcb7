# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""No run, and no command, waits for its data for ever."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from torch.utils.data._utils.signal_handling import (
    _error_if_any_worker_fails,
    _set_SIGCHLD_handler,
)
from torch.utils.data.dataloader import _BaseDataLoaderIter

from .being_read import last_read, reads_of_threads
from .worker_faults import TIMEOUT

#: In it data loaders wait for their workers, or read themselves.
_FETCH = _BaseDataLoaderIter.__next__.__code__
#: Seconds between two looks, and for what is done before a process is ended.
_INTERVAL, _LAST_SECONDS = 1.0, 300.0

#: Is given the frame in which the run waits.
Leave = Callable[[FrameType], None]


@contextmanager
def waiting_ends(
    leave: Leave | None = None, without_workers: float = TIMEOUT
) -> Iterator[Callable[[], None]]:
    """Let no data loader wait for ever, or for files that do not come.

    One with workers has a ``timeout`` of its own, for batches that do not come. It does
    not count while the memory of one that has come is asked for of a worker that has
    stopped since: after twice that time the same error is raised.

    One without workers reads in this process, which waits in the kernel, where no error
    reaches it. If it is at the same file of the same batch for too long, a thread says
    so and ends the process with status 1.

    torch raises an error wherever the run is when a worker dies; here, where the run
    waits for data alone: elsewhere the error could interrupt what must be whole, or the
    telling of another error.

    Args:
        leave: What to do before the process is ended; for 300 seconds at most, as it
            may need the storage that has stalled.
        without_workers: Seconds that loaders without workers may take for a file.

    Yields:
        A function to call where a death that has not been told yet may raise its error.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    _set_SIGCHLD_handler()  # which a loader sets only once
    watch = _Watch(leave, without_workers)
    alarm = signal.signal(signal.SIGALRM, watch.interrupt)
    death = signal.signal(signal.SIGCHLD, watch.keep_death)
    watch.start()
    try:
        yield watch.tell_death
        # After an error deaths stay untold, for it is what has to be told.
        signal.signal(signal.SIGCHLD, death)
    finally:
        watch.ended.set()
        watch.join()
        signal.signal(signal.SIGALRM, alarm)


@contextmanager
def reading_ends(seconds: float = TIMEOUT) -> Iterator[None]:
    """Let no thread of this process, and no process that it has started, read for ever.

    A thread that reads from storage that has stalled waits in the kernel, where no
    error reaches it, and whoever waits for it waits with it. If one is at the same file
    for too long, and computes nothing meanwhile, another one says so and ends the
    process with status 1.

    Args:
        seconds: What a file may take without a byte that comes.
    """
    ended = threading.Event()
    watch = threading.Thread(
        target=_watch_reads, args=(ended, seconds), name='watches reading', daemon=True
    )
    watch.start()
    try:
        yield
    finally:
        ended.set()
        watch.join()


def _watch_reads(ended: threading.Event, seconds: float) -> None:
    before: dict[Any, int] = {}
    while not ended.wait(_INTERVAL):
        looks = {state: before.get(state, 0) + 1 for state in _reads()}
        before = looks  # and not seconds: see above
        for (_, name, *_), count in looks.items():
            if count * _INTERVAL > seconds:
                text = (
                    f'error: {name} is being read for {seconds:g} seconds: the storage '
                    'has stalled, or a server does not answer. Run the command again '
                    'once it can be read\n'
                )
                os.write(2, text.encode())
                for child in multiprocessing.active_children():
                    child.kill()
                os._exit(1)


def _reads() -> Iterator[tuple[int, str, int, str]]:
    """Reads of threads and of processes; not the same once something was computed."""
    reads = reads_of_threads()
    for child in multiprocessing.active_children():
        last = child.pid and last_read(child.pid)
        if last and last.now:
            reads[child.pid or 0] = last.name, last.count
    for task, (name, number) in reads.items():
        try:
            used = Path(f'/proc/{task}/schedstat').read_text().split()[0]
        except (OSError, IndexError):  # has ended, or another system
            used = ''
        yield task, name, number, used


class _Watch(threading.Thread):
    """Looks every second at what the main thread waits for."""

    def __init__(self, leave: Leave | None, without_workers: float) -> None:
        super().__init__(name='watches data loaders', daemon=True)
        self.ended = threading.Event()
        self._leave = leave
        self._without_workers = without_workers
        self._has_died = False
        self._late: FrameType | None = None
        self._goes_on = threading.Event()
        self._goes_on.set()

    def run(self) -> None:
        """Look until the run has ended."""
        before: Any = None
        looks = 0  # and not seconds: a run that was suspended is not late
        while not self.ended.wait(_INTERVAL):
            fetch = _fetch_of_main_thread()
            if fetch and self._has_died:
                _send_main_thread(signal.SIGCHLD)
            state = fetch and (fetch, last_read(os.getpid()))
            looks = looks + 1 if fetch and state == before else 0
            before = state
            if fetch and 0 < self._limit(fetch) <= looks * _INTERVAL:
                self._end(fetch)
                before = None

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal by which this thread reaches the main one."""
        self._goes_on.wait()
        late, self._late = self._late, None
        if late is not None and _fetch_of(frame) is late:
            raise RuntimeError(
                f'DataLoader timed out after {self._limit(late) / 2:g} seconds'
            )

    def keep_death(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal of a death: tell it now or when data are waited for."""
        self._has_died = True
        if _fetch_of(frame):
            self.tell_death()

    def tell_death(self) -> None:
        """Raise the error of a death that has been kept."""
        has_died, self._has_died = self._has_died, False
        if has_died:
            _error_if_any_worker_fails()

    def _limit(self, fetch: FrameType) -> float:
        loader = fetch.f_locals['self']
        return 2 * loader._timeout if loader._num_workers else self._without_workers

    def _end(self, fetch: FrameType) -> None:
        if fetch.f_locals['self']._num_workers:
            self._late = fetch
            _send_main_thread(signal.SIGALRM)
            return
        self._goes_on.clear()
        _send_main_thread(signal.SIGALRM)
        # From here on it runs no line: the file may have come in the last moment.
        if _fetch_of_main_thread() is not fetch:
            self._goes_on.set()
            return
        os.write(2, f'error: {self._text()}\n'.encode())
        if self._leave:
            last = threading.Thread(target=self._leave, args=(fetch,), daemon=True)
            last.start()
            last.join(_LAST_SECONDS)
        os._exit(1)

    def _text(self) -> str:
        last = last_read(os.getpid())
        file = f'{last.name} is' if last and last.now else 'data are'
        return (
            f'{file} being read for {self._without_workers:g} seconds, without workers '
            '(num_workers=0): the storage has stalled. If reading takes so long, give '
            'the data loader a worker and a timeout (train_dataloader.num_workers=1 '
            'train_dataloader.timeout=SECONDS, 0 waits for ever)'
        )


def _fetch_of_main_thread() -> FrameType | None:
    return _fetch_of(sys._current_frames().get(_main_thread()))


def _send_main_thread(number: signal.Signals) -> None:
    signal.pthread_kill(_main_thread(), number)


def _main_thread() -> int:
    number = threading.main_thread().ident
    assert number is not None
    return number


def _fetch_of(frame: FrameType | None) -> FrameType | None:
    """The frame of a data loader's wait that a frame is in."""
    while frame is not None and frame.f_code is not _FETCH:
        frame = frame.f_back
    return frame
