# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Band statistics of an image folder, ready to paste into a config."""

import argparse
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from cmid_mm_cli import Command, band, run_tool, value_range_of

if TYPE_CHECKING:
    from cmid_mm.datasets.statistics import DatasetStatistics


def report(
    statistics: 'DatasetStatistics',
    given_range: bool,
    bands: Sequence[int | str] | None,
) -> str:
    """Statistics as text, with a block for a config."""

    def numbers(values: list[float], digits: int) -> str:
        return '[' + ', '.join(f'{value:.{digits}f}' for value in values) + ']'

    lines = [
        f'# {statistics.images} images; on the 0-1 scale:',
        '# mean ' + numbers([value / 255 for value in statistics.mean], 5),
        '# std  ' + numbers([value / 255 for value in statistics.std], 5),
    ]
    numbers_of_bands = bands or range(1, len(statistics.mean) + 1)
    deep = {name: x for name, x in statistics.types.items() if x.ranges}
    for name, found in deep.items():
        lines.append(f'# {name}: {found.images} images, 1st to 99.9th percentile:')
        lines += [
            f'#   band {number}: {low:g} to {high:g}'
            for number, (low, high) in zip(numbers_of_bands, found.ranges, strict=True)
        ]
    if len(statistics.types) > 1:
        examples = ', '.join(
            f'{name} ({x.images}, such as {x.example})'
            for name, x in statistics.types.items()
        )
        lines.append(
            f'# the files differ in data type: {examples}. One value_range cannot suit '
            'them all; convert them, or pre-train on each type by itself'
        )
    if statistics.value_range is not None:
        source = 'as given' if given_range else 'suggested: 1st to 99.9th percentile'
        lines.append(f'# of LoadImagery; {source}:')
        lines.append(f'value_range = {statistics.value_range}')
    lines += [
        'data_preprocessor = dict(',
        f'    mean={numbers(statistics.mean, 3)},',
        f'    std={numbers(statistics.std, 3)})',
    ]
    if statistics.empty:
        lines.append(f'# {statistics.empty} tiles hold no data')
    if statistics.unreadable:
        lines.append(f'# {len(statistics.unreadable)} unreadable:')
        lines += [f'#   {message}' for message in statistics.unreadable]
    return '\n'.join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument(
        'root',
        help='folder that is searched for images; or one scene, a quoted pattern, or '
        'an address',
    )
    parser.add_argument(
        '--list', default='', metavar='FILE', help='text file with the images to use'
    )
    parser.add_argument('--size', type=int, default=224, help='side images scale to')
    parser.add_argument(
        '--bands',
        type=band,
        nargs='+',
        help='bands to take, counted from 1, or their names in the files',
    )
    parser.add_argument(
        '--value-range',
        type=float,
        nargs='+',
        metavar='LOW HIGH',
        help='values of non-8-bit files that become 0 and 255: two numbers, or two '
        'for each band',
    )
    parser.add_argument(
        '--per-band',
        action='store_true',
        help='suggest a value range for each band instead of one for all',
    )
    parser.add_argument('--nodata', type=float, help='value of missing pixels')
    parser.add_argument(
        '--gsd',
        type=float,
        metavar='METRES',
        help='read files at this distance of pixels on the ground',
    )
    parser.add_argument(
        '--quality',
        metavar='FILE',
        help="mask beside each file of pixels that do not count: '{stem}_SCL.tif'",
    )
    parser.add_argument(
        '--quality-values', type=int, nargs='+', default=(), help='its masking values'
    )
    parser.add_argument(
        '--quality-bits',
        type=int,
        nargs='+',
        default=(),
        help='its masking bits, counted from 0',
    )
    parser.add_argument('--max-images', type=int, help='use this many, evenly spread')
    parser.add_argument('--tile-size', type=int, help='divide larger images into tiles')
    parser.add_argument('--workers', type=int, default=0, help='worker processes')


def main(args: argparse.Namespace) -> None:
    """Measure and print."""
    from rich.console import Console
    from rich.progress import track

    from cmid_mm.datasets.imagery import ImageryDataset
    from cmid_mm.datasets.statistics import dataset_statistics, reading_of

    quality = args.quality and {
        'file': args.quality,
        'values': args.quality_values,
        'bits': args.quality_bits,
    }
    # Tiles are those of the distance at which the first step of a pipeline reads.
    loader = dict(type='LoadImagery', gsd=args.gsd, quality=quality)
    dataset = ImageryDataset(args.root, args.list, [loader], tile_size=args.tile_size)
    reading = reading_of(
        dataset,
        size=args.size,
        bands=args.bands,
        value_range=value_range_of(args.value_range),
        nodata=args.nodata,
    )
    console = Console(stderr=True)
    statistics = dataset_statistics(
        dataset,
        reading,
        args.per_band,
        args.max_images,
        args.workers,
        partial(track, description='Reading images', console=console),
    )
    print(report(statistics, reading.value_range is not None, reading.bands))


COMMAND = Command(__doc__, add_arguments, main, reads_images=True)

if __name__ == '__main__':
    run_tool(COMMAND)
