# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""A runner whose console shows what matters, and whose log file has everything."""

import logging
import re
import sys
from typing import Any

from mmengine.logging import MMLogger

from .fault_tolerant_runner import FaultTolerantRunner

#: Packages whose messages at the start are for the log file.
_FRAMEWORK = ('mmengine', 'mmcv', 'mmpretrain', 'mmseg', 'mmdet', 'mmrotate')
#: What they say at the start that depends on the command and not on the config alone.
_TELLING = re.compile('resumed epoch|load checkpoint|LR is set', re.IGNORECASE)
_DEPRECATION = re.compile('deprecat', re.IGNORECASE)


class QuietRunner(FaultTolerantRunner):
    """A runner without its environment, config and hooks on the console.

    Until the first epoch (or test) begins, what the OpenMMLab packages log is written
    to the log file alone, but for warnings; what others log is shown, ours included.
    """

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build the logger of the run."""
        logger = super().build_logger(*args, **kwargs)
        self._at_start = StartFilter()
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(self._at_start)
        logger.info(f'Log file, with config and environment: {logger.log_file}')
        return logger

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call all hooks; at the first epoch the start is over."""
        if fn_name in ('before_train_epoch', 'before_val_epoch', 'before_test_epoch'):
            self._at_start.is_over = True
        super().call_hook(fn_name, **kwargs)


class StartFilter(logging.Filter):
    """Passes what the console shows.

    Attributes:
        is_over: Whether the start is; then only deprecation warnings, which are for
            the authors of the OpenMMLab packages, are kept back.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_over = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to show a message."""
        message = record.getMessage()
        if record.levelno > logging.INFO:
            kept_back = bool(_DEPRECATION.search(message))
        else:
            kept_back = not self.is_over and not _TELLING.search(message)
        return not (kept_back and _package_that_logs() in _FRAMEWORK)


def _package_that_logs() -> str:
    """Top-level package of the code that a message comes from.

    A record has it only where the logger is called directly, not by ``print_log``.
    """
    frame = sys._getframe(2)
    while frame.f_back is not None:
        module = frame.f_globals.get('__name__', '')
        if module != 'logging' and not module.startswith('mmengine.logging'):
            return module.partition('.')[0]
        frame = frame.f_back
    return ''
