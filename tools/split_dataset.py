# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Split a folder of class folders into lists of training and test images.

Writes FOLDER/train.txt and FOLDER/test.txt with lines class/image, the same share of
each class in both. The same ratio and seed always give the same lists.
"""

import argparse
from pathlib import Path

from cmid_mm_cli import Command, run_tool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument('folder', type=Path, help='holds a folder for each class')
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
        help="added to the lists' names, for several splits of one folder: "
        '_20 gives train_20.txt and test_20.txt',
    )
    parser.add_argument(
        '--overwrite', action='store_true', help='replace lists that exist'
    )


def main(args: argparse.Namespace) -> None:
    """Split."""
    from cmid_mm.datasets.scenes import find_scenes, split_scenes
    from cmid_mm.labels.lists import write_list

    paths = [args.folder / f'{part}{args.suffix}.txt' for part in ('train', 'test')]
    for path in paths:
        if path.exists() and not args.overwrite:
            raise FileExistsError(
                f'{path} exists; give another --suffix, or --overwrite to replace it'
            )
    names = [
        path.relative_to(args.folder).as_posix() for path, _ in find_scenes(args.folder)
    ]
    lists = split_scenes(names, args.train_ratio, args.seed)
    for path, members in zip(paths, lists, strict=True):
        write_list(path, members)
        print(f'{path}: {len(members)} images')


COMMAND = Command(
    __doc__,
    add_arguments,
    main,
    'example: %(prog)s data/my_scenes --train-ratio 0.2 --suffix _20',
)

if __name__ == '__main__':
    run_tool(COMMAND)
