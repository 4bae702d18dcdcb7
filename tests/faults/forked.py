# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Runs in processes that can be killed, without importing everything once more."""

import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


def start(target: Callable[..., Any], *args: Any, log: Path | int) -> Any:
    """Call a function in a copy of this process.

    What it says goes to a file, or to one that is open.
    """

    def call() -> None:
        is_open = isinstance(log, int)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        descriptor = log if is_open else os.open(log, flags, 0o666)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        # pytest has put others in their place.
        sys.stdout = sys.stderr = os.fdopen(1, 'w', buffering=1)
        try:
            target(*args)
        except BaseException:
            traceback.print_exc()
            raise

    process = multiprocessing.get_context('fork').Process(target=call)
    process.start()
    return process


def die() -> None:
    """What the kernel does to a process that takes too much memory."""
    os.kill(os.getpid(), signal.SIGKILL)
