# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Turn the download of a public data set into the folders that its configs read."""

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from cmid_mm_cli import Command, run_tool

if TYPE_CHECKING:
    from cmid_mm.preparation import Preparation

EPILOG = """\
Each data set has its own options and help: %(prog)s potsdam --help. An interrupted
command goes on where it stopped when it is repeated. See docs/datasets.md.
"""
#: PREPARATIONS of cmid_mm.preparation.
DATASETS = (
    *('ucmerced', 'aid', 'resisc45', 'eurosat', 'potsdam', 'vaihingen', 'loveda'),
    *('dota', 'dota-ms', 'dior-r', 'cdd', 'levir-cd'),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument(
        'dataset',
        choices=DATASETS,
        metavar='DATASET',
        help=f'one of {", ".join(DATASETS)}',
    )
    parser.add_argument(
        'arguments',
        nargs=argparse.REMAINDER,
        metavar='...',
        help='SRC, the download; DST, the folder for the result; options',
    )
    parser.set_defaults(prog=parser.prog)


def parser_of(kind: 'type[Preparation]', prog: str) -> argparse.ArgumentParser:
    """The arguments of one data set; its fields become options."""
    parser = argparse.ArgumentParser(
        prog=f'{prog} {kind.name}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=f'{kind.title}\nfrom {kind.url}\nterms: {kind.licence}\n\n'
        f'expected in SRC:\n{kind.expects}',
    )
    parser.add_argument(
        'source',
        type=Path,
        metavar='SRC',
        help='the download: a folder, or a zip file; it is not changed',
    )
    parser.add_argument(
        'destination',
        type=Path,
        metavar='DST',
        nargs='?',
        default=Path(kind.folder),
        help='folder for the result (default: %(default)s, where the configs look)',
    )
    parser.add_argument(
        '--workers', type=int, default=1, help='processes (default: %(default)s)'
    )
    for field in dataclasses.fields(kind):
        several = isinstance(field.default, tuple)
        parser.add_argument(
            f'--{field.name.replace("_", "-")}',
            type=field.metadata.get('type')
            or type(field.default[0] if several else field.default),
            nargs='+' if several else None,
            default=field.default,
            choices=field.metadata.get('choices'),
            help=field.metadata['help']
            + ('' if field.default == () else ' (default: %(default)s)'),
        )
    return parser


def main(args: argparse.Namespace) -> None:
    """Prepare one data set."""
    from cmid_mm.preparation import PREPARATIONS, prepare

    kind = PREPARATIONS[args.dataset]
    args = parser_of(kind, args.prog).parse_args(args.arguments)
    options = {
        field.name: tuple(value) if isinstance(value, list) else value
        for field in dataclasses.fields(kind)
        for value in [getattr(args, field.name)]
    }
    print(prepare(kind(**options), args.source, args.destination, args.workers))


COMMAND = Command(__doc__, add_arguments, main, EPILOG)

if __name__ == '__main__':
    run_tool(COMMAND)
