# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Write procedural aerial scenes with labels for all four downstream tasks.

Small data sets: OUT/scene (image folders by class), OUT/segmentation (img, ann),
OUT/detection (images, DOTA labelTxt) and OUT/change (A, B, label), each with train and
test. By --tasks aerial satellite a few georeferenced scenes with a label layer:
OUT/aerial (GeoTIFFs, polygons) and OUT/satellite (Sentinel-2 folders of 13 bands, a
label raster); --train, --test and --size do not concern these. The same settings
always give the same pixels; a complete folder is kept and an interrupted run continues.
"""

import argparse

from cmid_mm_cli import Command, run_tool

#: TASKS of cmid_mm.demo_scenes.
TASKS = ('scene', 'segmentation', 'detection', 'change')
#: RASTERS of cmid_mm.demo_scenes.
RASTERS = ('aerial', 'satellite')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument('out', metavar='OUT', help='folder to write to')
    for name, default, text in (
        ('--train', 800, 'training images or pairs of each task'),
        ('--test', 200, 'test images or pairs of each task'),
        ('--size', 256, 'side in pixels, 64 to 1024'),
        ('--seed', 0, 'seed of the collection'),
        ('--workers', 1, 'processes that make scenes'),
    ):
        parser.add_argument(
            name, type=int, default=default, help=f'{text} (default: %(default)s)'
        )
    parser.add_argument(
        '--tasks',
        nargs='+',
        choices=TASKS + RASTERS,
        default=list(TASKS),
        help='what to write (default: the first four)',
    )
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='replace demo data made with other settings',
    )


def main(args: argparse.Namespace) -> None:
    """Write the data and say where it is."""
    from cmid_mm.demo_scenes import write_demo_data

    folders = write_demo_data(
        args.out,
        args.train,
        args.test,
        args.size,
        args.seed,
        args.tasks,
        args.overwrite,
        args.workers,
    )
    for task, folder in folders.items():
        print(f'{task}: {folder}')


COMMAND = Command(__doc__, add_arguments, main)

if __name__ == '__main__':
    run_tool(COMMAND)
