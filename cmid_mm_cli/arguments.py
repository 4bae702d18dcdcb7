# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What all commands share: arguments and how errors are told."""

import argparse
import functools
import itertools
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

#: Set this variable to see where an error came from.
TRACEBACK_VARIABLE = 'CMID_MM_TRACEBACK'


def user_errors(main: Callable[[], None]) -> Callable[[], None]:
    """Make a command print one line for bad input instead of a traceback.

    Wrong values, missing files and refused checkpoints end the command with
    ``error: ...`` and exit status 1. With the environment variable
    ``CMID_MM_TRACEBACK=1`` the traceback is shown.
    """

    @functools.wraps(main)
    def wrapper() -> None:
        try:
            main()
        except (ValueError, OSError, KeyError, TypeError, ImportError) as error:
            if os.environ.get(TRACEBACK_VARIABLE):
                raise
            text = str(error.args[0] if isinstance(error, KeyError) else error)
            if 'Original Traceback' in text:
                text = _message_of_traceback(text)
            sys.exit(f'error: {text} ({TRACEBACK_VARIABLE}=1 shows where)')

    return wrapper


def _message_of_traceback(text: str) -> str:
    """The error itself in a traceback that a data-loading worker reports."""
    lines = text.rpartition('Traceback (most recent call last):')[2].splitlines()
    message = itertools.dropwhile(lambda line: not line or line[0] == ' ', lines)
    return '\n'.join(message).partition(': ')[2]


class ConfigOptions(argparse.Action):
    """Reads ``K=V ...`` as mmengine does, which is imported once there are some."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Put a dict of the values into the namespace."""
        for entry in values:
            if '=' not in entry:
                parser.error(f'{option_string} takes KEY=VALUE ..., got {entry!r}')
        from mmengine.config import DictAction

        read = DictAction(self.option_strings, self.dest, nargs=self.nargs)
        read(parser, namespace, values, option_string)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that every run of a config takes."""
    parser.add_argument(
        '--work-dir',
        metavar='D',
        help='folder for checkpoints, logs, results and pictures; '
        'default: work_dirs/NAME_OF_THE_CONFIG',
    )
    parser.add_argument(
        '--data-root', metavar='D', help='folder with the images or the data set'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=ConfigOptions,
        metavar='K=V',
        help='override settings, such as train_dataloader.batch_size=32',
    )
    parser.add_argument(
        '--verbose',
        action='store_true',
        help='show all that goes to the log file: environment, config, hooks, ...',
    )
    add_launcher_arguments(parser)


def add_launcher_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options by which launchers of several processes call a tool."""
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='how several processes are started; the dist_ and slurm_ scripts set it',
    )
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, help=argparse.SUPPRESS
    )


def value_range_of(numbers: Sequence[float] | None) -> Any:
    """The value range that numbers on a command line mean.

    Args:
        numbers: Low and high, or low and high of each band.

    Raises:
        ValueError: If their number is odd.
    """
    if numbers is None:
        return None
    if len(numbers) % 2:
        raise ValueError(
            f'--value-range takes LOW HIGH, or both for each band, got {len(numbers)} '
            'numbers'
        )
    pairs = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    return pairs[0] if len(pairs) == 1 else pairs
