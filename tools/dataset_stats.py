# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Band statistics of an image folder, ready to paste into a config."""

import argparse
from functools import partial

from rich.console import Console
from rich.progress import track

from cmid_mm.cli import user_errors
from cmid_mm.datasets.imagery import ImageryDataset
from cmid_mm.datasets.statistics import DatasetStatistics, dataset_statistics


def report(statistics: DatasetStatistics, given_range: bool) -> str:
    """Statistics as text, with a block for a config."""

    def numbers(values: list[float], digits: int) -> str:
        return '[' + ', '.join(f'{value:.{digits}f}' for value in values) + ']'

    lines = [
        f'# {statistics.images} images; on the 0-1 scale:',
        '# mean ' + numbers([value / 255 for value in statistics.mean], 5),
        '# std  ' + numbers([value / 255 for value in statistics.std], 5),
    ]
    if statistics.value_range is not None:
        source = 'as given' if given_range else 'suggested: 1st to 99.9th percentile'
        low, high = statistics.value_range
        lines.append(f'value_range = ({low:g}, {high:g})  # of LoadImagery; {source}')
    lines += [
        'data_preprocessor = dict(',
        f'    mean={numbers(statistics.mean, 3)},',
        f'    std={numbers(statistics.std, 3)})',
    ]
    if statistics.unreadable:
        lines.append(f'# {len(statistics.unreadable)} unreadable:')
        lines += [f'#   {message}' for message in statistics.unreadable]
    return '\n'.join(lines)


@user_errors
def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('root', help='folder that is searched for images')
    parser.add_argument(
        '--list', default='', metavar='FILE', help='text file with the images to use'
    )
    parser.add_argument('--size', type=int, default=224, help='side images scale to')
    parser.add_argument(
        '--bands', type=int, nargs='+', help='bands to take, counted from 1'
    )
    parser.add_argument(
        '--value-range',
        type=float,
        nargs=2,
        metavar=('LOW', 'HIGH'),
        help='values of non-8-bit files that become 0 and 255',
    )
    parser.add_argument('--nodata', type=float, help='value of missing pixels')
    parser.add_argument('--max-images', type=int, help='use this many, evenly spread')
    parser.add_argument('--tile-size', type=int, help='divide larger images into tiles')
    parser.add_argument('--workers', type=int, default=0, help='worker processes')
    arguments = parser.parse_args()

    dataset = ImageryDataset(
        arguments.root, arguments.list, tile_size=arguments.tile_size
    )
    given = arguments.value_range
    console = Console(stderr=True)
    statistics = dataset_statistics(
        dataset,
        arguments.size,
        arguments.bands,
        None if given is None else (given[0], given[1]),
        arguments.nodata,
        arguments.max_images,
        arguments.workers,
        partial(track, description='Reading images', console=console),
    )
    print(report(statistics, given is not None))


if __name__ == '__main__':
    main()
