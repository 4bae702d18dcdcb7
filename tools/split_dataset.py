# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Split a folder of class folders, or the ground of labelled scenes.

Of class folders it writes FOLDER/train.txt and FOLDER/test.txt with lines class/image,
the same share of each class in both. Of scenes with --labels it divides the ground into
blocks with a guard strip between them, and writes the blocks of each part as
OUT/train.gpkg, OUT/val.gpkg and OUT/test.gpkg, the aoi of windowed data sets, so that
each part gets its share of each class as well as blocks permit. The same options and
seed always give the same split.
"""

import argparse
from pathlib import Path

from cmid_mm_cli import Command, add_label_arguments, label_options, run_tool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument(
        'names',
        nargs='+',
        metavar='FOLDER | SCENE',
        help='a folder that holds a folder for each class; or, with --labels, scenes: '
        'files, folders, patterns',
    )
    parser.add_argument(
        '--train-ratio',
        type=float,
        default=0.8,
        help='share of each class to train on (default: %(default)s)',
    )
    parser.add_argument('--seed', type=int, default=0, help='default: %(default)s')
    parser.add_argument(
        '--suffix',
        default='',
        help="added to the files' names, for several splits of one folder: "
        '_20 gives train_20.txt and test_20.txt',
    )
    parser.add_argument(
        '--overwrite', action='store_true', help='replace files that exist'
    )
    add_label_arguments(parser)
    group = parser.add_argument_group('split of the ground of scenes')
    group.add_argument('--out', type=Path, metavar='D', help='folder for the result')
    group.add_argument(
        '--val-ratio',
        type=float,
        default=0.0,
        help='share of each class for validation; the rest is for the test '
        '(default: %(default)s)',
    )
    group.add_argument(
        '--block',
        default='1024px',
        metavar='LENGTH',
        help='side of the blocks, in pixels of the first scene (1024px) or metres '
        '(2000m); at least the windows of the data sets and the guard strip '
        '(default: %(default)s)',
    )
    group.add_argument(
        '--guard',
        default='64px',
        metavar='LENGTH',
        help='width of the strip between blocks that belongs to no part '
        '(default: %(default)s)',
    )


def main(args: argparse.Namespace) -> None:
    """Split."""
    if args.labels:
        _split_ground(args)
    elif len(args.names) > 1 or args.out or args.val_ratio:
        raise ValueError(
            'a split of scenes needs --labels; one of class folders takes one FOLDER, '
            'and neither --out nor --val-ratio'
        )
    else:
        _split_class_folders(args, Path(args.names[0]))


def _split_class_folders(args: argparse.Namespace, folder: Path) -> None:
    from cmid_mm.datasets.scenes import find_scenes, split_scenes
    from cmid_mm.labels.lists import write_list

    paths = [folder / f'{part}{args.suffix}.txt' for part in ('train', 'test')]
    _refuse_existing(paths, args.overwrite)
    names = [path.relative_to(folder).as_posix() for path, _ in find_scenes(folder)]
    lists = split_scenes(names, args.train_ratio, args.seed)
    for path, members in zip(paths, lists, strict=True):
        write_list(path, members)
        print(f'{path}: {len(members)} images')


def _split_ground(args: argparse.Namespace) -> None:
    from cmid_mm.datasets.windowed.scenes import LayersOfScenes, find_scenes
    from cmid_mm.datasets.windowed.splits import Length, split_ground
    from cmid_mm.files import check_writable
    from cmid_mm.labels.layers import BoxLayer, LabelLayer

    if args.out is None:
        raise ValueError('name a folder for the split: --out D')
    check_writable(args.out, '--out', is_folder=True)
    shares = {
        'train': args.train_ratio,
        'val': args.val_ratio,
        'test': 1 - args.train_ratio - args.val_ratio,
    }
    if not all(0 <= share < 1 for share in shares.values()):
        raise ValueError(
            f'--train-ratio {args.train_ratio:g} and --val-ratio {args.val_ratio:g} '
            'are shares of which something remains for the test'
        )
    shares = {name: share for name, share in shares.items() if share > 1e-9}
    paths = [args.out / f'{part}{args.suffix}.gpkg' for part in shares]
    _refuse_existing(paths, args.overwrite)
    scenes = find_scenes('', args.names)
    kind = BoxLayer if args.boxes else LabelLayer
    split = split_ground(
        scenes,
        LayersOfScenes(kind, label_options(args), '', scenes),
        Length.parse(args.block),
        Length.parse(args.guard),
        shares,
        args.seed,
    )
    split.write(paths)
    for path, blocks in zip(paths, split.blocks_of_parts(), strict=True):
        print(f'{path}: {blocks} blocks')
    print(
        f'windows of up to {split.window} pixels of the first scene fit into them\n\n'
        f'shares of the labelled {"boxes" if args.boxes else "pixels"}\n'
        f'{split.report()}'
    )


def _refuse_existing(paths: list[Path], overwrite: bool) -> None:
    for path in paths:
        if path.exists() and not overwrite:
            raise FileExistsError(
                f'{path} exists; give another --suffix, or --overwrite to replace it'
            )


COMMAND = Command(
    __doc__,
    add_arguments,
    main,
    'examples:\n'
    '  %(prog)s data/my_scenes --train-ratio 0.2 --suffix _20\n'
    '  %(prog)s scenes/*.tif --labels fields.gpkg --field crop --block 2000m '
    '--out split',
)

if __name__ == '__main__':
    run_tool(COMMAND)
