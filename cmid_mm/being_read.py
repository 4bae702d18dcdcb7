# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Which file a process is reading, told to the one that waits for it.

A process that is killed, or hangs, cannot say which file it was at. So each notes the
name before it opens or reads a file, in memory that it shares with the process that
started it: some microseconds, and no file of its own.
"""

import itertools
import mmap
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

#: Processes are told apart by their numbers, of which few are alike to this modulus.
_PROCESSES, _BYTES = 1024, 1024
#: Process, whether it is reading, its notes until now, length of the name.
_HEAD = struct.Struct('<Q?QH')

#: The files that each thread of this process is reading, each within the one before,
#: and numbers that tell two reads of one file apart.
_of_threads: dict[int, list[tuple[str, int]]] = {}
_numbers = itertools.count()
#: Shared with all processes that are forked from this one, and theirs.
_notes = mmap.mmap(-1, _PROCESSES * _BYTES)


@dataclass(frozen=True)
class LastRead:
    """The file that a process has read last.

    Attributes:
        name: The end of it if it is long.
        now: Whether it is reading it now.
        count: Tells two reads of one file apart.
    """

    name: str
    now: bool
    count: int


@contextmanager
def being_read(name: str | os.PathLike[str]) -> Iterator[None]:
    """Note that this process reads a file."""
    # Of this thread: another one may end before or after it.
    thread = threading.get_native_id()
    reads = _of_threads.setdefault(thread, [])
    reads.append((os.fspath(name), next(_numbers)))
    _note(reads[-1][0], True)
    try:
        yield
    finally:
        ended, _ = reads.pop()
        _note(reads[-1][0] if reads else ended, bool(reads))
        if not reads:
            _of_threads.pop(thread, None)


def reads_of_threads() -> dict[int, tuple[str, int]]:
    """What the threads of this process are reading, by their number in the system.

    Returns:
        Of each thread that reads a file its name, and a number of this read.
    """
    reads = {thread: found[-1:] for thread, found in list(_of_threads.items())}
    return {thread: last[0] for thread, last in reads.items() if last}


def last_read(process: int) -> LastRead | None:
    """What a process has noted.

    Args:
        process: Its number.

    Returns:
        None if it has noted nothing, or was not forked from this one.
    """
    start = process % _PROCESSES * _BYTES
    found, now, count, length = _HEAD.unpack_from(_notes, start)
    if found != process:
        return None
    start += _HEAD.size
    return LastRead(os.fsdecode(_notes[start : start + length]), now, count)


# The threads of the process from which one is forked are not in it.
os.register_at_fork(after_in_child=_of_threads.clear)


def _note(name: str, now: bool) -> None:
    process = os.getpid()
    start = process % _PROCESSES * _BYTES
    text = os.fsencode(name)[-(_BYTES - _HEAD.size) :]
    _notes[start + _HEAD.size : start + _HEAD.size + len(text)] = text
    found, _, count, _ = _HEAD.unpack_from(_notes, start)
    count = count + 1 if found == process else 0
    _HEAD.pack_into(_notes, start, process, now, count, len(text))
