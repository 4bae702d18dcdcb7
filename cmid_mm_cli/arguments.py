# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What all commands share: arguments and how errors are told."""

import argparse
import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

#: Set this variable to see where an error came from.
TRACEBACK_VARIABLE = 'CMID_MM_TRACEBACK'


def user_errors(
    main: Callable[[], None], if_interrupted: str = ''
) -> Callable[[], None]:
    """Make a command print one line for bad input instead of a traceback.

    Every error ends the command with ``error: ...``, which names the file or the key
    of the config, and exit status 1. The traceback is in the log file of the run; with
    the environment variable ``CMID_MM_TRACEBACK=1`` it is shown. Ctrl-C
    ends it with one line as well, and exit status 130.

    Args:
        main: What the command does.
        if_interrupted: How to go on after Ctrl-C.
    """

    @functools.wraps(main)
    def wrapper() -> None:
        try:
            main()
            _end_workers(0)
        except SystemExit as end:
            _end_workers(end.code)
            raise
        except (KeyboardInterrupt, Exception) as error:
            if os.environ.get(TRACEBACK_VARIABLE):
                raise
            request = _request_to_end(error)
            if isinstance(request, SystemExit):
                _end_workers(request.code)
                raise request from None
            if request or not isinstance(error, Exception):
                hint = f'; {if_interrupted}' if if_interrupted else ''
                print(f'Interrupted{hint}.', file=sys.stderr)
                sys.exit(130)
            try:
                from cmid_mm.explaining import explain, record_traceback
                from cmid_mm.worker_faults import leave_if_hanging
            except ImportError:  # of what cmid_mm needs, as the error says
                sys.exit(f'error: {error} ({TRACEBACK_VARIABLE}=1 shows where)')

            log = record_traceback(error)
            text = f'error: {explain(error)}'
            shown = (
                f'{log} says where' if log else f'{TRACEBACK_VARIABLE}=1 shows where'
            )
            leave_if_hanging(f'{text} ({shown})\n', 1)
            sys.exit(f'{text} ({shown})')

    return wrapper


def _end_workers(code: Any) -> None:
    """End workers that are left, which Python would wait for, stopped ones for ever."""
    text, status = (f'{code}\n', 1) if isinstance(code, str) else ('', code or 0)
    if 'multiprocessing' in sys.modules:  # else nothing heavy is imported
        from multiprocessing import active_children

        if active_children():
            from cmid_mm.worker_faults import leave_if_hanging

            leave_if_hanging(text, status)


def _request_to_end(error: BaseException) -> BaseException | None:
    """What asked a program to end, of which a bare ``except:`` may have made an error.

    mmengine has one around the formatting of configs.
    """
    cause: BaseException | None = error
    while cause and not isinstance(cause, KeyboardInterrupt | SystemExit):
        cause = cause.__cause__ or cause.__context__
    return cause


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
            if '=' not in entry[1:]:
                parser.error(f'{option_string} takes KEY=VALUE ..., got {entry!r}')
        try:
            from mmengine.config import DictAction
        except ImportError:
            user_errors(_check_packages)()
            raise
        read = DictAction(self.option_strings, self.dest, nargs=self.nargs)
        read(parser, namespace, values, option_string)


def _check_packages() -> None:
    """Say what to install where a package is missing."""
    from cmid_mm.dependencies import MINIMUM_VERSIONS, check_dependencies

    check_dependencies(MINIMUM_VERSIONS)


def add_config_options(parser: argparse.ArgumentParser, text: str) -> None:
    """Add ``--cfg-options``, with its help."""
    parser.add_argument(
        '--cfg-options', nargs='+', action=ConfigOptions, metavar='K=V', help=text
    )


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
    add_config_options(
        parser, 'override settings, such as train_dataloader.batch_size=32'
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


def band(text: str) -> int | str:
    """A band on a command line: its number, or its name in the files."""
    return int(text) if text.isdecimal() else text


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


def add_label_arguments(parser: argparse.ArgumentParser, boxes: bool = True) -> None:
    """Add the options that say where the labels of scenes are, and what they mean.

    Args:
        parser: Gets them.
        boxes: Whether labels may be oriented boxes.
    """
    group = parser.add_argument_group('labels of scenes')
    group.add_argument(
        '--labels',
        metavar='L',
        help='label raster or vector layer (GeoPackage, GeoJSON, Shapefile, ...); with '
        '{stem} in it, a file for each scene, whose name without ending it takes',
    )
    group.add_argument(
        '--field', metavar='F', help='field of a vector layer that holds the class'
    )
    group.add_argument('--layer', metavar='N', help='name of the vector layer')
    group.add_argument(
        '--classes', nargs='+', metavar='C', help='names of the classes, in their order'
    )
    group.add_argument(
        '--background', metavar='C', help='class of ground without a polygon'
    )
    group.add_argument(
        '--label-map',
        nargs='+',
        action=ConfigOptions,
        metavar='V=C',
        help='class by value of the raster or field, such as 10=water 20=forest',
    )
    group.add_argument(
        '--ignore', nargs='+', metavar='V', help='values that are ignored'
    )
    if boxes:
        group.add_argument(
            '--boxes',
            action='store_true',
            help='the polygons of the vector layer are objects: take oriented boxes',
        )


def label_options(args: argparse.Namespace) -> dict[str, Any]:
    """What :func:`add_label_arguments` was given, as ``labels`` of a data set."""

    def number(text: str) -> Any:
        return int(text) if text.lstrip('-').isdigit() else text

    options: dict[str, Any] = {
        'path': args.labels,
        'field': args.field,
        'layer': args.layer,
        'classes': args.classes,
        'background': args.background,
    }
    if args.label_map:
        options['label_map'] = {number(v): c for v, c in args.label_map.items()}
    if args.ignore:
        options['ignore'] = [number(value) for value in args.ignore]
    return {name: value for name, value in options.items() if value is not None}
