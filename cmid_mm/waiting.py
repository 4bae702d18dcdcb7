# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""No run waits for its data for ever."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from torch.utils.data.dataloader import _BaseDataLoaderIter

from .being_read import last_read
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
) -> Iterator[None]:
    """Let no data loader wait for ever, or for files that do not come.

    One with workers has a ``timeout`` of its own, for batches that do not come. It does
    not count while the memory of one that has come is asked for of a worker that has
    stopped since: after twice that time the same error is raised.

    One without workers reads in this process, which waits in the kernel, where no error
    reaches it. If it is at the same file of the same batch for too long, a thread says
    so and ends the process with status 1.

    Args:
        leave: What to do before the process is ended; for 300 seconds at most, as it
            may need the storage that has stalled.
        without_workers: Seconds that loaders without workers may take for a file.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    watch = _Watch(leave, without_workers)
    handler = signal.signal(signal.SIGALRM, watch.interrupt)
    watch.start()
    try:
        yield
    finally:
        watch.ended.set()
        watch.join()
        signal.signal(signal.SIGALRM, handler)


class _Watch(threading.Thread):
    """Looks every second at what the main thread waits for."""

    def __init__(self, leave: Leave | None, without_workers: float) -> None:
        super().__init__(name='watches data loaders', daemon=True)
        self.ended = threading.Event()
        self._leave = leave
        self._without_workers = without_workers
        self._late: FrameType | None = None
        self._goes_on = threading.Event()
        self._goes_on.set()

    def run(self) -> None:
        """Look until the run has ended."""
        before: Any = None
        looks = 0  # and not seconds: a run that was suspended is not late
        while not self.ended.wait(_INTERVAL):
            fetch = _fetch_of_main_thread()
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

    def _limit(self, fetch: FrameType) -> float:
        loader = fetch.f_locals['self']
        return 2 * loader._timeout if loader._num_workers else self._without_workers

    def _end(self, fetch: FrameType) -> None:
        main = threading.main_thread().ident
        assert main is not None
        if fetch.f_locals['self']._num_workers:
            self._late = fetch
            signal.pthread_kill(main, signal.SIGALRM)
            return
        self._goes_on.clear()
        signal.pthread_kill(main, signal.SIGALRM)
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
    main = threading.main_thread().ident
    assert main is not None
    return _fetch_of(sys._current_frames().get(main))


def _fetch_of(frame: FrameType | None) -> FrameType | None:
    """The frame of a data loader's wait that a frame is in."""
    while frame is not None and frame.f_code is not _FETCH:
        frame = frame.f_back
    return frame
