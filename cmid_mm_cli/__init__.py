# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The command line: ``cmid-mm COMMAND ...``, the same as ``python tools/COMMAND.py``.

Importing cmid_mm imports torch and the OpenMMLab packages, which takes seconds. So
that help and completion answer at once, this package stands beside it and imports
nothing but the standard library, and a tool imports what it works with in its
``main``, when its arguments are read.
"""

from .arguments import (
    TRACEBACK_VARIABLE,
    add_config_options,
    add_label_arguments,
    add_launcher_arguments,
    add_run_arguments,
    band,
    label_options,
    user_errors,
    value_range_of,
)
from .commands import Command, load_commands, main, run_tool

__all__ = [
    'TRACEBACK_VARIABLE',
    'Command',
    'add_config_options',
    'add_label_arguments',
    'add_launcher_arguments',
    'add_run_arguments',
    'band',
    'label_options',
    'load_commands',
    'main',
    'run_tool',
    'user_errors',
    'value_range_of',
]
