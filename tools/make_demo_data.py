# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Write procedural aerial scenes with labels for all four downstream tasks."""

import argparse

from cmid_mm.demo_scenes import TASKS, write_demo_data


def main() -> None:
    """Parse the command line and write the data."""
    parser = argparse.ArgumentParser(
        description='Write procedural aerial scenes as small data sets: OUT/scene '
        '(image folders by class), OUT/segmentation (img, ann), OUT/detection '
        '(images, DOTA labelTxt) and OUT/change (A, B, label), each with train and '
        'test. The same settings always give the same pixels; a complete folder is '
        'kept and an interrupted run continues.',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument('out', metavar='OUT', help='folder to write to')
    parser.add_argument(
        '--train', type=int, default=800, help='training images or pairs of each task'
    )
    parser.add_argument(
        '--test', type=int, default=200, help='test images or pairs of each task'
    )
    parser.add_argument(
        '--size', type=int, default=256, help='side in pixels, 64 to 1024'
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of the collection')
    parser.add_argument(
        '--tasks', nargs='+', choices=TASKS, default=list(TASKS), help='what to write'
    )
    parser.add_argument(
        '--workers', type=int, default=1, help='processes that make scenes'
    )
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='replace demo data made with other settings',
    )
    args = parser.parse_args()
    try:
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
    except (ValueError, FileExistsError) as error:
        parser.error(str(error))
    for task, folder in folders.items():
        print(f'{task}: {folder}')


if __name__ == '__main__':
    main()
