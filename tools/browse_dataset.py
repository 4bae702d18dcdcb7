# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Draw samples of a data set as the network of a config sees them.

After the whole pipeline and the data preprocessor: views with their matched cells
(pre-training), images with their classes, tiles with masks, oriented boxes, changes.
"""

import argparse
from pathlib import Path

from cmid_mm_cli import Command, add_config_options, run_tool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument('config', help='config file, or package::path')
    parser.add_argument('--data-root', metavar='D', help='folder with the data set')
    parser.add_argument(
        '--out',
        metavar='DIR',
        help='folder for the pictures; default: browse/NAME_OF_THE_CONFIG',
    )
    parser.add_argument(
        '--split',
        choices=['train', 'val', 'test'],
        default='train',
        help='which data loader of the config (default: %(default)s)',
    )
    parser.add_argument(
        '--number',
        type=int,
        default=8,
        metavar='N',
        help='samples, spread evenly over the data set (default: %(default)s)',
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of the augmentations')
    parser.add_argument(
        '--bands',
        type=int,
        nargs='+',
        metavar='B',
        help='three bands to show as red, green and blue, or one; counted from 1 '
        'among the loaded ones (default: the first three)',
    )
    add_config_options(
        parser, 'override settings, such as model.heads.assignment.location=legacy'
    )


def main(args: argparse.Namespace) -> None:
    """Draw and say where the pictures are."""
    from mmengine.logging import MMLogger

    from cmid_mm.configs import load_config
    from cmid_mm.engine import launch
    from cmid_mm.images.writing import write_image
    from cmid_mm.overrides import merge_options
    from cmid_mm.visualization.samples import SampleBrowser

    # Else every part of the model would be reported.
    MMLogger.get_instance('browse_dataset', log_level='WARNING')
    if args.number < 1:
        raise ValueError(f'--number must be at least 1, got {args.number}')
    cfg = load_config(args.config)
    merge_options(cfg, args.cfg_options)
    if args.data_root:
        launch.set_data_root(cfg, args.data_root)
    name = Path(args.config.split('::')[-1]).stem
    folder = Path(args.out or Path('browse', name))
    count = 0
    browser = SampleBrowser(cfg, args.split, args.bands, args.seed)
    for name, picture in browser.draw(args.number):
        write_image(folder / f'{name}.png', picture)
        count += 1
    print(f'wrote {count} pictures to {folder}')


COMMAND = Command(
    __doc__,
    add_arguments,
    main,
    'example: %(prog)s configs/cmid/cmid_r18_scenes.py --data-root data/my_images',
)

if __name__ == '__main__':
    run_tool(COMMAND)
