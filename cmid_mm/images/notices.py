# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What is worth saying about files, and is said once a run."""

import logging

from mmengine.logging import print_log
from torch.utils.data import get_worker_info

_said: set[str] = set()


def say_once(subject: str, message: str) -> None:
    """Log a warning unless one about the same subject has been logged.

    Of the worker processes of a data loader only the first says something.

    Args:
        subject: What it is about, such as ``'orientation'``; not shown.
        message: The warning; names the file that it was noticed on.
    """
    worker = get_worker_info()
    if subject in _said or (worker is not None and worker.id > 0):
        return
    _said.add(subject)
    say(f'{message} (said once)')


def say(message: str) -> None:
    """Log a warning.

    Args:
        message: The warning; names the file that it is about.
    """
    print_log(message, 'current', level=logging.WARNING)
