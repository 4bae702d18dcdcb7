# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Turn the download of a public data set into the folders that its configs read."""

import argparse
import dataclasses
from pathlib import Path

from cmid_mm.cli import user_errors
from cmid_mm.preparation import PREPARATIONS, Preparation, prepare


def add_dataset(commands: argparse._SubParsersAction, kind: type[Preparation]) -> None:
    """Add the command of one data set; its fields become options."""
    parser = commands.add_parser(
        kind.name,
        help=kind.title,
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


@user_errors
def main() -> None:
    """Prepare one data set."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Each data set has its own help: '
        'tools/prepare_data.py potsdam --help. An interrupted command goes on where '
        'it stopped when it is repeated. See docs/datasets.md.',
    )
    commands = parser.add_subparsers(dest='dataset', required=True, metavar='DATASET')
    for kind in PREPARATIONS.values():
        add_dataset(commands, kind)
    args = parser.parse_args()
    kind = PREPARATIONS[args.dataset]
    options = {
        field.name: tuple(value) if isinstance(value, list) else value
        for field in dataclasses.fields(kind)
        for value in [getattr(args, field.name)]
    }
    print(prepare(kind(**options), args.source, args.destination, args.workers))


if __name__ == '__main__':
    main()
