# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Signals that ask a run to stop, and how its processes end.

Here, where nothing but the standard library is imported: a run takes its signals before
it imports torch, which may last half a minute on the disk of a cluster.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

#: Exit status of a run that a scheduler stopped and that goes on with ``--resume``:
#: ``EX_TEMPFAIL`` of sysexits.h, "try again later".
TRY_AGAIN = 75
#: Exit status of a run that was stopped by Ctrl-C, as shells have it.
INTERRUPTED = 130
#: File for the exit status, for launchers that do not hand it on.
STATUS_VARIABLE = 'CMID_MM_EXIT_STATUS'

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
_AGAIN = b'\nSaving a checkpoint first; Ctrl-C again stops at once.\n'


class StopSignals:
    """Takes the signals that ask this process to stop, instead of dying of them.

    Processes that are forked meanwhile, such as the workers of data loaders, leave
    these signals to this one, which still needs them: schedulers send signals to whole
    groups of processes.

    Attributes:
        received: The first of them.
        when_idle: Called from the signal handler with the frame that it interrupts,
            when nothing is under way that has to be finished first.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.when_idle: Callable[[FrameType | None], None] | None = None
        self._replaced: dict[signal.Signals, Any] = {}

    def install(self) -> None:
        """Take the signals; in other threads than the main one nothing is done."""
        if self._replaced or threading.current_thread() is not threading.main_thread():
            return
        self.received = None
        self._replaced = {
            number: signal.signal(number, self._receive) for number in _SIGNALS
        }

    def restore(self) -> None:
        """Leave the signals to those who had them before."""
        self.when_idle = None
        while self._replaced:
            signal.signal(*self._replaced.popitem())

    def leave_to_parent(self) -> None:
        """Make a forked process ignore what is meant for its parent."""
        if not self._replaced:
            return
        self.when_idle = None
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        # Its parent ends it by the same signal: only who sent it tells them apart.
        # Blocked and not ignored, since PyTorch sets a handler of its own.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_for_parent, daemon=True).start()
        sys.excepthook = _tell_unless_parent_left

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        if self.received is None:
            self.received = signal.Signals(number)
            if number == signal.SIGINT and self.when_idle is None:
                os.write(2, _AGAIN)  # print() must not be used in a signal handler
        if self.when_idle is not None:
            self.when_idle(frame)


def _end_for_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


def _tell_unless_parent_left(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Say nothing of a connection to a parent that stops while it takes a batch.

    The thread of multiprocessing that hands tensors over tells all its errors; what
    fails in the work itself a data loader takes to the parent.
    """
    if not issubclass(kind, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)


#: The signals of this process.
stop_signals = StopSignals()
os.register_at_fork(after_in_child=stop_signals.leave_to_parent)


def stop_before_training() -> None:
    """Take the signals from the start of a run on, when there is nothing to save."""

    def end(frame: FrameType | None) -> None:
        received = stop_signals.received
        if received is None or received == signal.SIGINT:
            raise KeyboardInterrupt
        sys.stderr.write(f'Stopped by {received.name} before training began.\n')
        raise SystemExit(exit_status(received))

    stop_signals.install()
    stop_signals.when_idle = end


def exit_status(received: signal.Signals) -> int:
    """Status with which a process ends when what had to be saved was.

    If a launcher asked for the status in a file, it is written there, and the exit
    itself is a success, of which launchers make no words.
    """
    status = INTERRUPTED if received == signal.SIGINT else TRY_AGAIN
    if file := os.environ.get(STATUS_VARIABLE):
        Path(file).write_text(f'{status}\n')
        status = 0
    return status
