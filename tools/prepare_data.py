# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Turn the download of a public data set into the folders that its configs read.

Or, by the name tiles, own scenes and their labels into an ordinary data set of files.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from cmid_mm_cli import (
    Command,
    add_label_arguments,
    band,
    label_options,
    run_tool,
)

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
TILES = 'tiles'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument(
        'dataset',
        choices=(*DATASETS, TILES),
        metavar='DATASET',
        help=f'one of {", ".join(DATASETS)}; or {TILES}, of own scenes',
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


def tiles_parser(prog: str) -> argparse.ArgumentParser:
    """The arguments of tiles of own scenes."""
    parser = argparse.ArgumentParser(
        prog=f'{prog} {TILES}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Write the labelled windows of own scenes as a data set: images '
        'and masks as GeoTIFF\nwith their place, or oriented boxes in DOTA text. All '
        'bands keep their type and values.\nAn interrupted command goes on where it '
        'stopped when it is repeated.',
        epilog='example: %(prog)s scenes/*.tif --labels fields.gpkg --field crop '
        '--out data/fields --split split',
    )
    parser.add_argument(
        'images', nargs='+', metavar='IMAGE', help='files, folders, patterns, lists'
    )
    parser.add_argument('--out', type=Path, required=True, metavar='D', help='folder')
    add_label_arguments(parser)
    parser.add_argument(
        '--window', type=int, default=512, help='side in pixels (default: %(default)s)'
    )
    parser.add_argument(
        '--overlap', type=int, default=0, help='of neighbours (default: %(default)s)'
    )
    parser.add_argument(
        '--split',
        type=Path,
        metavar='F',
        help='folder that split_dataset.py wrote: a folder of tiles for each of its '
        'parts (default: all tiles in one)',
    )
    parser.add_argument(
        '--bands',
        type=band,
        nargs='+',
        metavar='B',
        help='bands to take, counted from 1, or by name (default: all that hold data)',
    )
    parser.add_argument(
        '--nodata',
        type=float,
        metavar='V',
        help='value of missing pixels where files do not mark them',
    )
    parser.add_argument(
        '--gsd',
        type=float,
        metavar='M',
        help='distance of pixels on the ground in metres at which scenes are read '
        '(default: as they are)',
    )
    parser.add_argument(
        '--workers', type=int, default=1, help='processes (default: %(default)s)'
    )
    return parser


def write_tiles(args: argparse.Namespace) -> str:
    """Write tiles of own scenes."""
    from cmid_mm.images import Reading
    from cmid_mm.preparation import tiles

    if not args.labels:
        raise ValueError('tiles need labels: --labels L')
    return tiles.write_tiles(
        tiles.SceneTiles(
            args.images,
            label_options(args),
            args.window,
            args.overlap,
            tiles.parts_of(args.split),
            args.boxes,
            Reading(bands=args.bands, nodata=args.nodata, gsd=args.gsd),
        ),
        args.out,
        args.workers,
    )


def main(args: argparse.Namespace) -> None:
    """Prepare one data set."""
    if args.dataset == TILES:
        print(write_tiles(tiles_parser(args.prog).parse_args(args.arguments)))
        return
    from cmid_mm.preparation import PREPARATIONS, prepare

    kind = PREPARATIONS[args.dataset]
    args = parser_of(kind, args.prog).parse_args(args.arguments)
    options = {
        field.name: tuple(value) if isinstance(value, list) else value
        for field in dataclasses.fields(kind)
        for value in [getattr(args, field.name)]
    }
    print(prepare(kind(**options), args.source, args.destination, args.workers))


COMMAND = Command(__doc__, add_arguments, main, EPILOG, reads_images=True)

if __name__ == '__main__':
    run_tool(COMMAND)
