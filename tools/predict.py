# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Predict images with a trained model: pictures, and results as files.

Classification: predictions.csv. Segmentation: a mask of class indices (GeoTIFF if the
image is georeferenced, else PNG). Detection: boxes in DOTA's text form (and GeoJSON).
Change detection: a mask, 0 and 255.
"""

import argparse
import sys
from pathlib import Path

from cmid_mm_cli import Command, ConfigOptions, run_tool

EPILOG = """\
example: %(prog)s configs/segmentation/upernet_r18_demo.py \\
             work_dirs/mine/iter_120.pth scene.tif --out predictions
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument('config', help='config of the model, or package::path')
    parser.add_argument('checkpoint', help='checkpoint of a run with this config')
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
        '--score-thr',
        type=float,
        default=0.3,
        metavar='S',
        help='detections below this score are left out (default: %(default)s)',
    )
    parser.add_argument(
        '--device', default='cpu', help='such as cuda (default: %(default)s)'
    )
    parser.add_argument(
        '--half',
        action='store_true',
        help='compute in half precision (16 bits), on a GPU',
    )
    parser.add_argument(
        '--ensemble',
        nargs='+',
        default=[],
        metavar='CKPT',
        help='further checkpoints of this config: the mean of their probabilities is '
        'predicted, of detectors the boxes of all, merged',
    )
    parser.add_argument(
        '--tta',
        choices=('mirrored', 'all'),
        help='test-time augmentation: predict each image also in its two mirror '
        'images, or in all eight mirrored and turned views, merged likewise',
    )
    parser.add_argument(
        '--batch-size',
        type=int,
        default=1,
        metavar='N',
        help='images or windows predicted together (default: %(default)s)',
    )
    parser.add_argument(
        '--window',
        type=int,
        metavar='N',
        help='larger images are predicted in windows of this side in pixels; 0: never; '
        'default: the size that the config is made for',
    )
    parser.add_argument(
        '--overlap',
        type=int,
        metavar='M',
        help='pixels that neighbouring windows share; default: a quarter of the window',
    )
    parser.add_argument(
        '--bands',
        type=int,
        nargs='+',
        metavar='B',
        help='bands of multi-band images to show in pictures, counted from 1 among '
        'the loaded ones (default: the first three)',
    )
    parser.add_argument(
        '--align',
        action='store_true',
        help='change detection: warp the second date onto the pixels of the first',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=ConfigOptions,
        metavar='K=V',
        help='override settings',
    )


def main(args: argparse.Namespace) -> None:
    """Predict and say where the results are."""
    from mmengine.logging import MMLogger
    from rich.progress import track

    from cmid_mm.configs import load_config
    from cmid_mm.files import check_writable
    from cmid_mm.inference import Inferencer
    from cmid_mm.inference.images import output_names
    from cmid_mm.overrides import merge_options

    check_writable(args.out, '--out', is_folder=True)
    # Else every part of the model would be reported.
    MMLogger.get_instance('predict', log_level='WARNING')
    cfg = load_config(args.config)
    merge_options(cfg, args.cfg_options)
    checkpoints = [args.checkpoint, *args.ensemble]
    inferencer = Inferencer(
        cfg, checkpoints, args.device, args.tta or 'none', args.half
    )
    task, folder = inferencer.task, Path(args.out)
    task.bands = args.bands
    if hasattr(task, 'score_threshold'):
        task.score_threshold = args.score_thr
    if args.align:
        if not hasattr(task.loader, 'align'):
            raise ValueError(f'--align is for change detection, not for {task.name}')
        task.loader.align = True
    images = task.find(args.images)
    pairs = [image if isinstance(image, tuple) else (image,) for image in images]
    paths = [dates[0] for dates in pairs]
    others = [path for dates in pairs for path in dates[1:]]
    names = dict(zip(paths, output_names(paths, folder, others), strict=True))
    failed: list[str] = []

    def fail(path: Path, error: Exception) -> None:
        text = str(error) or type(error).__name__
        failed.append(text if str(path) in text else f'{path}: {text}')

    results = inferencer.iterate(
        images, args.batch_size, args.window, args.overlap, on_error=fail
    )
    summaries = []
    for result in track(
        results, 'predicting', len(images), disable=not sys.stderr.isatty()
    ):
        path = result.image.path
        try:
            task.save(result, folder, names[path])
            summaries.append(task.summary(result))
        except Exception as error:  # of this image; the others shall be saved
            fail(path, error)
    if summaries:
        task.save_summary(summaries, folder)
        print(f'wrote the results of {len(summaries)} images to {folder}')
    if failed:
        raise ValueError(
            f'{len(failed)} of {len(images)} images could not be predicted:\n'
            + '\n'.join(failed)
        )


COMMAND = Command(__doc__, add_arguments, main, EPILOG)

if __name__ == '__main__':
    run_tool(COMMAND)
