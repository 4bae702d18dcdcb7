# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Predict images with a trained model: pictures, and results as files.

Images may be of any size, and a prediction that was stopped goes on when it is started
again.

Classification: predictions.csv. Segmentation: a mask of class indices (GeoTIFF if the
image is georeferenced, else PNG). Detection: boxes in DOTA's text form (and GeoJSON).
Change detection: a mask, 0 and 255.
"""

import argparse
import os
import sys
from pathlib import Path

from cmid_mm_cli import Command, add_config_options, run_tool

EPILOG = """\
example: %(prog)s configs/segmentation/upernet_r18_demo.py \\
             work_dirs/mine/iter_120.pth scene.tif --out predictions
         %(prog)s --onnx map.onnx scene.tif --out predictions
"""

#: Options that name a network in place of config and checkpoint.
EXPORTED = ('--onnx', '--exported')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    # An exported network stands for both.
    if not any(word.partition('=')[0] in EXPORTED for word in sys.argv):
        parser.add_argument('config', help='config of the model, or package::path')
        parser.add_argument('checkpoint', help='checkpoint of a run with this config')
    parser.add_argument(
        *EXPORTED,
        dest='exported',
        metavar='FILE',
        help='a network that cmid-mm export wrote, .onnx or .pt2 with its .json beside '
        'it, in place of config and checkpoint',
    )
    parser.add_argument(
        'images',
        nargs='+',
        help='files, folders or patterns; for change detection two files, two folders '
        'with images of the same names, or one folder with A and B in it',
    )
    parser.add_argument(
        '--out', required=True, metavar='DIR', help='folder to write to'
    )
    parser.add_argument(
        '--resume',
        action='store_true',
        help='skip images whose results are in the folder and newer than the image; '
        'one that was begun with the same settings is gone on with in any case',
    )
    add_config_options(parser, 'override settings')
    large = parser.add_argument_group('images, windows, area')
    large.add_argument(
        '--window',
        type=int,
        metavar='N',
        help='larger images are predicted in windows of this side in pixels; 0: never; '
        'default: the size that the config is made for',
    )
    large.add_argument(
        '--overlap',
        type=int,
        metavar='M',
        help='pixels that neighbouring windows share; default: a quarter of the window',
    )
    large.add_argument(
        '--batch-size',
        type=int,
        default=1,
        metavar='N',
        help='images or windows predicted together (default: %(default)s)',
    )
    large.add_argument(
        '--aoi',
        metavar='FILE',
        help='predict only inside the polygons of this vector layer (GeoPackage, '
        'GeoJSON, Shapefile, ... in any reference system)',
    )
    large.add_argument(
        '--align',
        action='store_true',
        help='change detection: warp the second date onto the pixels of the first',
    )
    results = parser.add_argument_group('results')
    results.add_argument(
        '--score-thr',
        type=float,
        metavar='S',
        help='detections below this score are left out (default: 0.3)',
    )
    results.add_argument(
        '--probabilities',
        nargs='?',
        choices=('classes', 'largest'),
        const='classes',
        help='segmentation and change detection: also write NAME_prob.tif, one band '
        'for each class, or one with the largest probability',
    )
    results.add_argument(
        '--probability-bits',
        type=int,
        choices=(8, 16),
        help='of each probability (default: 8)',
    )
    results.add_argument(
        '--polygons',
        action='store_true',
        help='segmentation and change detection: also write NAME.gpkg, the regions of '
        'each class (or of change) with class, area and mean score',
    )
    results.add_argument(
        '--min-area',
        type=float,
        default=0.0,
        metavar='A',
        help='smaller polygons are left out; square metres, or pixels of images '
        'without a reference system (default: all are written)',
    )
    results.add_argument(
        '--background',
        nargs='+',
        default=[],
        metavar='CLASS',
        help='classes of which no polygons are written',
    )
    results.add_argument(
        '--format',
        choices=('geojson', 'gpkg'),
        help='of boxes and tiles of georeferenced images (default: geojson); polygons '
        'are always gpkg',
    )
    results.add_argument(
        '--bands',
        type=int,
        nargs='+',
        metavar='B',
        help='bands of multi-band images to show in pictures, counted from 1 among '
        'the loaded ones (default: the first three)',
    )
    machines = parser.add_argument_group('network and machines')
    machines.add_argument(
        '--device', default='cpu', help='such as cuda (default: %(default)s)'
    )
    machines.add_argument(
        '--half',
        action='store_true',
        help='compute in half precision (16 bits), on a GPU',
    )
    machines.add_argument(
        '--ensemble',
        nargs='+',
        default=[],
        metavar='CKPT',
        help='further checkpoints of this config: the mean of their probabilities is '
        'predicted, of detectors the boxes of all, merged',
    )
    machines.add_argument(
        '--tta',
        choices=('mirrored', 'all'),
        help='test-time augmentation: predict each image also in its two mirror '
        'images, or in all eight mirrored and turned views, merged likewise',
    )
    machines.add_argument(
        '--shard',
        default='1/1',
        metavar='K/N',
        help='do the K-th part of the work that N processes share, on any machines '
        'with the same --out; torchrun divides it further among its processes',
    )


def main(args: argparse.Namespace) -> None:
    """Predict and say where the results are."""
    from mmengine.logging import MMLogger

    from cmid_mm.configs import load_config
    from cmid_mm.dependencies import vector_library
    from cmid_mm.files import check_writable
    from cmid_mm.inference import Inferencer
    from cmid_mm.inference.areas import OutsideAreaError
    from cmid_mm.inference.progress import ShownProgress
    from cmid_mm.inference.segmentation import Probabilities
    from cmid_mm.inference.shards import Shard
    from cmid_mm.inference.vector_files import PolygonOptions
    from cmid_mm.labels.vectors import Area
    from cmid_mm.overrides import merge_options

    check_writable(args.out, '--out', is_folder=True)
    # Else every part of the model would be reported.
    MMLogger.get_instance('predict', log_level='WARNING')
    shard = Shard.parse(args.shard).within()
    device = args.device
    if device == 'cuda':  # of several processes on a machine, each has its own
        device = f'cuda:{os.environ.get("LOCAL_RANK", 0)}'
    views = args.tta or 'none'
    if args.exported:
        if args.ensemble or args.half or args.cfg_options:
            raise ValueError(
                '--ensemble, --half and --cfg-options are not for exported networks; '
                'leave them out'
            )
        inferencer = Inferencer.of_exported(args.exported, device, views)
    else:
        cfg = load_config(args.config)
        merge_options(cfg, args.cfg_options)
        checkpoints = [args.checkpoint, *args.ensemble]
        inferencer = Inferencer(cfg, checkpoints, device, views, args.half)
    task, folder = inferencer.task, Path(args.out)
    task.bands = args.bands
    if args.score_thr is not None:
        if not hasattr(task, 'score_threshold'):
            raise ValueError(f'--score-thr is for detection, not for {task.name}')
        if not 0 <= args.score_thr <= 1:
            raise ValueError(f'--score-thr {args.score_thr:g}: scores are 0 to 1')
        task.score_threshold = args.score_thr
    if args.align:
        if not hasattr(task.loader, 'align'):
            raise ValueError(f'--align is for change detection, not for {task.name}')
        task.loader.align = True
    if args.probabilities:
        if not hasattr(task, 'probabilities'):
            raise ValueError(
                '--probabilities is for segmentation and change detection, not for '
                f'{task.name}'
            )
        bits = args.probability_bits or 8
        task.probabilities = Probabilities(args.probabilities, bits)
    elif args.probability_bits:
        raise ValueError('--probability-bits is of --probabilities: give that')
    if not args.min_area >= 0:
        raise ValueError(f'--min-area {args.min_area:g}: expected an area, 0 or more')
    if args.polygons:
        if not hasattr(task, 'polygons'):
            raise ValueError(
                '--polygons is for segmentation and change detection, not for '
                f'{task.name}'
            )
        task.polygons = PolygonOptions(args.min_area, args.background)
        task.polygons.left_out(task.classes)  # refuses a class that is none
    elif args.min_area or args.background:
        raise ValueError('--min-area and --background are of --polygons: give that')
    if args.format:
        if hasattr(task, 'polygons'):
            raise ValueError(
                '--format is of boxes and tiles, that is for detection and '
                f'classification, not for {task.name}; --polygons writes gpkg'
            )
        task.vector_format = args.format
    if args.polygons or args.format == 'gpkg':
        vector_library()
    task.area = Area(args.aoi) if args.aoi else None
    images = task.find(args.images)
    failed: list[str] = []
    outside: list[str] = []

    def fail(path: Path, error: Exception) -> None:
        text = str(error) or type(error).__name__
        if isinstance(error, OutsideAreaError):
            outside.append(text)
            return
        failed.append(text if str(path) in text else f'{path}: {text}')

    results = inferencer.predict_to(
        folder,
        images,
        resume=args.resume,
        batch_size=args.batch_size,
        window=args.window,
        overlap=args.overlap,
        on_error=fail,
        shard=shard,
    )
    label = f'shard {shard}' if shard.total > 1 else 'predicting'
    with ShownProgress(label) as task.progress:
        saved = list(results)
    made = sum(result.is_new and bool(result.files) for result in saved)
    waiting = sum(not result.files for result in saved)
    if made:
        print(f'wrote the results of {images_in_words(made)} to {folder}')
    if waiting:
        parts = images_in_words(waiting)
        print(f'did the part of shard {shard} of {parts}; others go on')
    if skipped := len(saved) - made - waiting:
        print(f'skipped {images_in_words(skipped)} with results in {folder}')
    if len(outside) == len(images):
        raise ValueError(f'no image lies in the area of {args.aoi}')
    if outside:
        print(f'left out {images_in_words(len(outside))} outside of {args.aoi}')
    if failed:
        raise ValueError(
            f'{len(failed)} of {len(images)} images could not be predicted:\n'
            + '\n'.join(failed)
        )


def images_in_words(count: int) -> str:
    """So many images."""
    return '1 image' if count == 1 else f'{count} images'


COMMAND = Command(__doc__, add_arguments, main, EPILOG, reads_images=True)

if __name__ == '__main__':
    run_tool(COMMAND)
