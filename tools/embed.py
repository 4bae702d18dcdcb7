# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Embed images: a vector for each image, or for each window of large ones.

The vectors of an image with a place are GeoParquet (NAME.parquet) with the polygon of
each window, those of others NAME.npz. The folder is an index for `search`. Images may
be of any size; a command that was stopped goes on when it is repeated.
"""

import argparse
from pathlib import Path

from cmid_mm_cli import Command, add_config_options, run_tool

EPILOG = """\
example: %(prog)s configs/cmid/cmid_r18_demo.py work_dirs/mine/epoch_4.pth scenes \\
             --out vectors
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument('config', help='config of a pre-training or of any task')
    parser.add_argument('checkpoint', help='checkpoint of a run with this config')
    parser.add_argument('images', nargs='+', help='files, folders or patterns')
    parser.add_argument(
        '--out', required=True, metavar='DIR', help='folder to write to'
    )
    add_config_options(parser, 'override settings of the config')
    windows = parser.add_argument_group('images and windows')
    windows.add_argument(
        '--window',
        type=int,
        metavar='N',
        help='larger images are embedded in windows of this side in pixels; 0: never '
        '(default: 256)',
    )
    windows.add_argument(
        '--overlap',
        type=int,
        metavar='M',
        help='pixels that neighbouring windows share (default: 0)',
    )
    windows.add_argument(
        '--size',
        type=int,
        metavar='S',
        help='resize each window, or image, to a square of this side (default: as it '
        'is)',
    )
    windows.add_argument(
        '--min-valid',
        type=float,
        default=0.0,
        metavar='S',
        help='leave out windows of which a smaller share (0-1) holds data; those '
        'without any are left out in any case',
    )
    windows.add_argument(
        '--aoi', metavar='FILE', help='embed only inside the polygons of this layer'
    )
    vectors = parser.add_argument_group('vectors')
    vectors.add_argument(
        '--pooling',
        choices=('mean', 'max', 'gem'),
        default='mean',
        help='how the positions of a window become one vector (default: %(default)s)',
    )
    vectors.add_argument(
        '--stage',
        type=int,
        metavar='N',
        help='which stage of the backbone, from 1 (default: the last)',
    )
    vectors.add_argument(
        '--no-normalization',
        action='store_true',
        help='leave vectors as long as they are (default: length 1)',
    )
    dense = parser.add_argument_group('feature rasters')
    dense.add_argument(
        '--dense',
        action='store_true',
        help='write NAME.tif, a cloud-optimised GeoTIFF of the feature map, instead of '
        'vectors',
    )
    dense.add_argument(
        '--components',
        type=int,
        metavar='K',
        help='principal components to keep, on one basis for all images (default: all '
        'channels)',
    )
    dense.add_argument(
        '--bits',
        type=int,
        choices=(8, 16),
        help='of each value, which has a scale and an offset (default: 16)',
    )
    dense.add_argument(
        '--basis',
        metavar='FILE',
        help='basis.npz of another folder (default: made of these images)',
    )
    machines = parser.add_argument_group('network and machines')
    machines.add_argument(
        '--batch-size',
        type=int,
        default=16,
        metavar='N',
        help='images or windows embedded together (default: %(default)s)',
    )
    machines.add_argument(
        '--device', default='cpu', help='such as cuda (default: %(default)s)'
    )


def main(args: argparse.Namespace) -> None:
    """Embed and say where the vectors are."""
    from cmid_mm.embeddings.making import EmbeddingOptions, Maker
    from cmid_mm.files import check_writable
    from cmid_mm.inference.progress import ShownProgress
    from cmid_mm.labels.vectors import Area

    check_writable(args.out, '--out', is_folder=True)
    if not args.dense and (args.components or args.bits or args.basis):
        raise ValueError('--components, --bits and --basis are of --dense: give that')
    options = EmbeddingOptions(
        config=args.config,
        checkpoint=args.checkpoint,
        cfg_options=args.cfg_options or {},
        stage=args.stage,
        pooling=args.pooling,
        unit=not args.no_normalization,
        size=args.size,
        window=args.window,
        overlap=args.overlap,
        min_valid=args.min_valid,
        dense=args.dense,
        components=args.components,
        bits=args.bits or 16,
    )
    maker = Maker(options, args.device)
    maker.task.area = Area(args.aoi) if args.aoi else None
    images = maker.task.find(args.images)
    failed: list[str] = []

    def fail(path: Path, error: Exception) -> None:
        text = str(error) or type(error).__name__
        failed.append(text if str(path) in text else f'{path}: {text}')

    with ShownProgress('embedding') as maker.task.progress:
        saved = list(maker.write(args.out, images, args.batch_size, fail, args.basis))
    made = sum(result.is_new for result in saved)
    print(
        f'embedded {made} of {len(images)} images to {args.out}'
        + (f' ({len(saved) - made} were there)' if made < len(saved) else '')
    )
    if failed:
        raise ValueError(
            f'{len(failed)} of {len(images)} images could not be embedded:\n'
            + '\n'.join(failed)
        )


COMMAND = Command(
    __doc__,
    add_arguments,
    main,
    EPILOG,
    'repeat the command to go on',
    reads_images=True,
)

if __name__ == '__main__':
    run_tool(COMMAND)
