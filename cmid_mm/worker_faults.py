# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Workers of data loaders that die or hang: what is said, and how they are ended."""

import logging
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .being_read import last_read

#: Seconds that data loaders wait for their workers, unless a config says how long.
TIMEOUT = 600

#: What torch's loader says, once a worker has died or nothing came in time.
_DIED = re.compile(
    r'DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) '
    r'(?:is killed by signal: (.*?)\.? *$'
    r'|exited unexpectedly(?: with exit code (\d+))?)',
    re.MULTILINE,
)
_LATE = re.compile(r'DataLoader timed out after ([\d.]+) seconds')

_MEMORY = (
    'a worker that nobody else has killed was mostly killed by the system, which was '
    'out of memory (dmesg says so): use fewer workers (num_workers), smaller '
    'prefetch_factor, or smaller windows or images'
)
_ADVICE = {
    'SIGKILL': _MEMORY,
    'SIGTERM': 'somebody or a scheduler has ended it',
    'SIGBUS': 'mostly shared memory was full (df -h /dev/shm): use fewer workers '
    '(num_workers) or a smaller batch, or enlarge it (docker run --shm-size); or the '
    'file was cut off while it was read',
}
_CRASHED = 'mostly a decoder has failed at a damaged file: look at it, or remove it'
#: Seconds that killed processes have to end; longer ones hang in the kernel.
_END_SECONDS = 10.0
#: Seconds after which a process that dies is known as dead, however busy the machine.
_KNOWN_SECONDS = 1.0


def explain_worker_fault(error: BaseException) -> str | None:
    """The text for an error by which a data loader tells of its workers.

    Args:
        error: As it was caught.

    Returns:
        Which worker, what happened to it, its last file and what to do; None of any
        other error.
    """
    workers = _workers_of(error)
    if isinstance(error, OSError | EOFError):
        return _text_of_ends(_ends_behind(workers), workers)
    if not isinstance(error, RuntimeError):
        return None
    text = str(error)
    late, died = _LATE.search(text), _DIED.search(text)
    if late:
        return _text_of_late(float(late[1]), workers)
    if not died:
        return None
    ends = {}
    for process in map(int, died[1].split(',')):
        code = getattr(workers.get(process), 'exitcode', None)
        name = _signal_name(code, died[2])
        ends[process] = (name, died[3] or code)
    return _text_of_ends(ends, workers)


def _ends_behind(workers: dict[int, Any]) -> dict[int, tuple[str | None, Any]]:
    """Signal or status with which workers have ended.

    The connection to one that dies is closed some moments before it is known as dead.
    """
    latest = time.monotonic() + _KNOWN_SECONDS
    while True:
        codes = {process: worker.exitcode for process, worker in workers.items()}
        ended = {process: code for process, code in codes.items() if code}
        if ended or not workers or time.monotonic() > latest:
            return {p: (_signal_name(code, None), code) for p, code in ended.items()}
        time.sleep(0.01)


def _text_of_ends(
    ends: dict[int, tuple[str | None, Any]], workers: dict[int, Any]
) -> str | None:
    texts = []
    for process, (name, code) in ends.items():
        end = f'was killed by {name}' if name else f'ended with status {code}'
        advice = _ADVICE.get(name or '', _CRASHED)
        texts.append(f'{_worker(process, workers)} {end}{_file(process)}; {advice}')
    return '. '.join(texts) or None


def leave_if_hanging(text: str, status: int) -> None:
    """End the workers, and this process if they cannot be ended.

    Python waits at its end for those that torch asked to end, for ever if they are
    stopped or wait in the kernel for storage.

    Args:
        text: What to say before.
        status: With which this process ends then.
    """
    children = multiprocessing.active_children()
    if not children:
        return
    with _deaths_untold():
        for child in children:
            child.kill()
        for child in children:
            child.join(_END_SECONDS / len(children))
    if multiprocessing.active_children():
        logging.shutdown()
        sys.stdout.flush()
        os.write(2, text.encode())
        os._exit(status)


@contextmanager
def _deaths_untold() -> Iterator[None]:
    """Leave out torch's handler, which raises an error for each death of a worker."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler)


def _text_of_late(seconds: float, workers: dict[int, Any]) -> str:
    waited = [
        f'{_worker(process, workers)}{_state(process)}{_file(process)}'
        for process in _suspects(workers)
    ]
    return (
        f'no data came from the workers of a data loader for {seconds:g} seconds: '
        f'{"; ".join(waited) or "none of them lives"}. The storage has stalled, or a '
        'worker hangs or was stopped. If reading takes so long, raise timeout of the '
        'data loader (train_dataloader.timeout=SECONDS, 0 waits for ever)'
    )


def _suspects(workers: dict[int, Any]) -> Iterable[int]:
    """Workers that are stopped or read a file; all if none is."""
    processes = list(workers) or [
        child.pid for child in multiprocessing.active_children() if child.pid
    ]
    stuck = [
        process
        for process in processes
        if _state(process) or ((last := last_read(process)) and last.now)
    ]
    return stuck or processes


def _workers_of(error: BaseException) -> dict[int, Any]:
    """Workers by their process, of the iterator that raised an error."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        workers = getattr(frame.f_locals.get('self'), '_workers', None)
        if isinstance(workers, list) and all(hasattr(w, 'exitcode') for w in workers):
            return {worker.pid: worker for worker in workers}
    return {}


def _worker(process: int, workers: dict[int, Any]) -> str:
    number = list(workers).index(process) if process in workers else None
    which = 'a worker' if number is None else f'worker {number}'
    return f'{which} of a data loader (process {process})'


def _file(process: int) -> str:
    last = last_read(process)
    if last is None:
        return ', of which no file is known'
    return f' while it read {last.name}' if last.now else f' after it read {last.name}'


def _state(process: int) -> str:
    """Whether a process is stopped, or waits for storage in the kernel."""
    try:
        status = Path(f'/proc/{process}/stat').read_text(errors='replace')
    except OSError:
        return ''
    state = status.rpartition(') ')[2][:1]
    return {'T': ' is stopped', 't': ' is stopped', 'D': ' waits for storage'}.get(
        state, ''
    )


def _signal_name(code: int | None, said: str | None) -> str | None:
    """Name of the signal that ended a worker."""
    if code is not None and code < 0:
        return signal.Signals(-code).name
    if said is None:
        return None
    known = {signal.strsignal(number): number.name for number in signal.Signals}
    # torch adds advice to some.
    return next((known[text] for text in known if text and said.startswith(text)), said)
