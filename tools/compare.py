# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Compare pre-training methods on the same data, tasks and seeds."""

import argparse
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cmid_mm_cli import Command, run_tool

if TYPE_CHECKING:
    from cmid_mm.comparison import Cell

EPILOG = """\
example: %(prog)s configs/compare/small_real.yaml \\
             --data ucmerced=/data/UCMerced --jobs 2

Each cell (method, backbone, pre-training data, seed) is pre-trained, then measured
by every task; after each the table is written anew. An interrupted comparison goes
on where it was when the same command is given again.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument('spec', help='YAML file, see docs/comparison.md')
    parser.add_argument('--output', metavar='D', help='folder for everything')
    parser.add_argument(
        '--data',
        nargs='+',
        default=[],
        metavar='NAME=D',
        help='folders of the data sets that the spec names',
    )
    parser.add_argument(
        '--only', nargs='+', metavar='METHOD', help='these methods only'
    )
    parser.add_argument(
        '--seeds', nargs='+', type=int, metavar='N', help='these seeds only'
    )
    parser.add_argument(
        '--jobs',
        type=int,
        default=1,
        help='cells to run side by side (default: %(default)s)',
    )
    parser.add_argument(
        '--dry-run',
        action='store_true',
        help='check all, print the commands, run nothing',
    )


def main(args: argparse.Namespace) -> None:
    """Compare."""
    from cmid_mm.comparison import (
        CellRunner,
        check_records,
        check_spec,
        exclusive,
        is_done,
        plan,
        read_spec,
        write_report,
    )
    from cmid_mm.files import check_writable

    if args.jobs < 1:
        raise ValueError(f'--jobs must be at least 1, got {args.jobs}')
    if any('=' not in entry for entry in args.data):
        raise ValueError(f'--data takes NAME=FOLDER ..., got {" ".join(args.data)}')
    spec = read_spec(args.spec, args.output)
    spec = spec.with_data(dict(entry.split('=', 1) for entry in args.data))
    part = spec.only(args.only, args.seeds)
    check_spec(spec, args.spec, inputs=part)
    check_writable(spec.output, '--output', is_folder=True)
    every_cell = plan(spec, Path(__file__).parent)
    cells = [
        cell
        for cell in every_cell
        if cell.method in part.methods and cell.seed in part.seeds
    ]
    if args.dry_run:
        check_records(cells)
        print_commands(cells)
        return
    # As Ctrl-C does: end what was started, then oneself.
    signal.signal(signal.SIGTERM, stop)
    with exclusive(spec.output) as lock:
        check_records(cells)
        missing = [cell for cell in cells if not is_done(cell)]
        print(f'{len(cells) - len(missing)} of {len(cells)} cells are done.')
        remaining = len(missing)

        def finished(cell: 'Cell', error: str | None) -> None:
            nonlocal remaining
            remaining -= 1
            print(f'{cell.name}: {error or "done"} ({remaining} to go)', flush=True)
            write_report(spec, every_cell)

        failed = CellRunner(missing, args.jobs, lock).run(finished)
        write_report(spec, every_cell)
    print(f'Table, values, figure and commands: {spec.output}')
    if failed:
        errors = ''.join(f'\n  {name}: {error}' for name, error in failed.items())
        sys.exit(
            f'error: {len(failed)} of {len(cells)} cells failed; the same command '
            f'retries them:{errors}'
        )


def stop(*_: object) -> None:
    """End by SIGTERM."""
    # Not print(), which may be what the signal interrupts.
    os.write(2, b'Stopped by SIGTERM; the same command goes on from here.\n')
    sys.exit(143)


def print_commands(cells: 'list[Cell]') -> None:
    """Print what would be run."""
    for cell in cells:
        for step in cell.steps:
            print(f'# {cell.folder}: {step.name}, {step.config_hash}')
            if step.run_config is not None:
                print(f'# {step.run_config.file}: {step.run_config.origin}')
            for command in step.commands:
                print(shlex.join(command))


COMMAND = Command(
    __doc__, add_arguments, main, EPILOG, 'the same command goes on from here'
)

if __name__ == '__main__':
    run_tool(COMMAND)
