# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Measure what a frozen encoder knows: nearest neighbours and a linear probe.

Of whole images, whose classes are known; or with --dense of each pixel, on tiles or
scenes with masks, label rasters or vector layers.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cmid_mm_cli import (
    Command,
    add_config_options,
    add_label_arguments,
    band,
    label_options,
    run_tool,
    value_range_of,
)

EPILOG = """\
DIR holds a folder of images for each class. Examples:

  %(prog)s configs/cmid/cmid_r50_millionaid.py \\
      work_dirs/cmid_r50_millionaid/epoch_200.pth --train ucmerced \\
      --train-list train.txt --test-list test.txt

  the same with 'random' in place of the checkpoint: the untrained encoder, the
  reference for any number.

  %(prog)s CONFIG CHECKPOINT --dense --train tiles/train/img --test tiles/test/img \
      --labels 'tiles/masks/{stem}.png' --classes building land road

  %(prog)s CONFIG CHECKPOINT --dense --train scenes --labels fields.gpkg \
      --field crop --background other --train-area split/train.gpkg \
      --test-area split/test.gpkg --stages 1 2 3
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument('config', help='config of the pre-training')
    parser.add_argument(
        'checkpoint',
        help="checkpoint of the run, or 'random' for the untrained encoder",
    )
    parser.add_argument(
        '--train', required=True, metavar='DIR', help='labelled images to learn from'
    )
    parser.add_argument(
        '--test',
        metavar='DIR',
        help='labelled images to classify (default: that of --train, with --test-list '
        'or --test-area)',
    )
    parser.add_argument(
        '--train-list',
        metavar='FILE',
        help="images to use: lines 'class/image.jpg', or 'image.jpg LABEL'",
    )
    parser.add_argument('--test-list', metavar='FILE', help='likewise for the test')
    parser.add_argument(
        '--backbone-only',
        action='store_true',
        help='the checkpoint is that of a backbone: exported, timm, torchvision, ...',
    )
    parser.add_argument(
        '--size',
        type=int,
        default=224,
        help='side of the images (default: %(default)s)',
    )
    parser.add_argument(
        '--bands',
        type=band,
        nargs='+',
        metavar='B',
        help='bands of the files to take, counted from 1, or their names in the files '
        '(default: all)',
    )
    parser.add_argument(
        '--value-range',
        type=float,
        nargs='+',
        metavar='LOW HIGH',
        help='values of files other than 8-bit that become 0 and 255: two numbers, or '
        'two for each band',
    )
    parser.add_argument(
        '--nodata',
        type=float,
        metavar='V',
        help='value of missing pixels in files that do not mark them',
    )
    parser.add_argument(
        '--k', type=int, default=20, help='neighbours that vote (default: %(default)s)'
    )
    parser.add_argument(
        '--temperature',
        type=float,
        default=0.07,
        help='temperature of their weights (default: %(default)s)',
    )
    parser.add_argument(
        '--batch-size', type=int, default=64, help='default: %(default)s'
    )
    parser.add_argument(
        '--num-workers',
        type=int,
        default=2,
        help='processes that load images (default: %(default)s)',
    )
    parser.add_argument(
        '--device',
        help='such as cuda (default: a GPU if there is one, else cpu)',
    )
    parser.add_argument(
        '--seed',
        type=int,
        default=0,
        help='seed of the untrained encoder (default: %(default)s)',
    )
    parser.add_argument(
        '--per-class', action='store_true', help='print the accuracy of each class'
    )
    add_config_options(
        parser,
        'the options that the run was given, such as model.heads.assignment=None',
    )
    parser.add_argument('--json', metavar='OUT', help='also write the results here')
    add_dense_arguments(parser)
    add_label_arguments(parser, boxes=False)


def add_dense_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the measure of each pixel."""
    group = parser.add_argument_group('measure of each pixel')
    group.add_argument(
        '--dense',
        action='store_true',
        help='a classifier of the cells of feature maps, scored in mIoU (--labels)',
    )
    group.add_argument(
        '--stages',
        type=int,
        nargs='+',
        metavar='S',
        help='stages of the backbone whose features are taken together, counted from 0 '
        '(default: those that the config has as out_indices)',
    )
    group.add_argument(
        '--normalization',
        choices=('pretraining', 'target'),
        default='pretraining',
        help='whose mean and deviation of each band images are normalised by: those of '
        'the pre-training, or of the training windows (default: %(default)s)',
    )
    group.add_argument(
        '--head',
        choices=('linear', 'conv'),
        default='linear',
        help='a linear classifier of cells, or a small convolutional one (default: '
        '%(default)s)',
    )
    group.add_argument(
        '--max-cells',
        type=int,
        metavar='N',
        help='cells drawn to fit it on (default: 20000; of conv 50000)',
    )
    group.add_argument(
        '--reduction',
        type=int,
        default=1,
        metavar='N',
        help='show the network means of N x N pixels, which bring images near the '
        'resolution of the pre-training; all pixels are scored (default: %(default)s)',
    )
    group.add_argument(
        '--window',
        type=int,
        default=512,
        help='side in pixels of the windows that are read (default: %(default)s)',
    )
    group.add_argument(
        '--gsd',
        type=float,
        metavar='M',
        help='distance of pixels on the ground in metres at which scenes are read '
        '(default: as they are)',
    )
    group.add_argument(
        '--train-area',
        metavar='FILE',
        help='polygons within which windows are to learn from, such as train.gpkg of '
        'split_dataset.py (default: everywhere)',
    )
    group.add_argument('--test-area', metavar='FILE', help='likewise for the test')
    group.add_argument(
        '--test-labels',
        metavar='L',
        help='labels of the test, of the same classes (default: that of --labels)',
    )
    group.add_argument(
        '--data-root',
        default='',
        metavar='DIR',
        help='folder that images, labels and areas are named in (default: here)',
    )


#: Options that only one of both measures reads; labels are asked for by --dense.
OF_IMAGES = (
    *('train_list', 'test_list', 'size', 'k', 'temperature', 'batch_size'),
    *('num_workers', 'per_class'),
)
OF_PIXELS = (
    *('stages', 'normalization', 'head', 'max_cells', 'reduction', 'window', 'gsd'),
    *('train_area', 'test_area', 'test_labels', 'data_root', 'labels', 'field'),
    *('layer', 'classes', 'background', 'label_map', 'ignore'),
)


def load_model(args: argparse.Namespace, reading: dict[str, Any]) -> Any:
    """Build the encoder and load its weights."""
    from cmid_mm.evaluation.frozen_encoder import load_frozen_encoder

    model = load_frozen_encoder(
        args.config,
        args.checkpoint,
        args.backbone_only,
        args.seed,
        args.cfg_options,
        reading,
    )
    return model.to(args.device)


def evaluate(args: argparse.Namespace, reading: dict[str, Any]) -> dict:
    """Classify images."""
    from cmid_mm.evaluation.features import LabelledFolder
    from cmid_mm.evaluation.frozen_encoder import evaluate_frozen_encoder

    model = load_model(args, reading)
    bands = model.data_preprocessor.mean.numel()
    loading = dict(reading, size=args.size, num_bands=bands)
    train_set = LabelledFolder(args.train, args.train_list, **loading)
    test_set = LabelledFolder(
        args.test or args.train, args.test_list, train_set.class_names, **loading
    )
    return evaluate_frozen_encoder(
        model,
        train_set,
        test_set,
        args.k,
        args.temperature,
        args.batch_size,
        args.num_workers,
    )


def evaluate_pixels(args: argparse.Namespace, reading: dict[str, Any]) -> dict:
    """Classify pixels."""
    from cmid_mm.evaluation.dense import probe_pixels, windows_to_probe
    from cmid_mm.images import Reading

    model = load_model(args, reading)
    bands = model.data_preprocessor.mean.numel()
    reading_of_scenes = Reading(bands, gsd=args.gsd, **reading)
    train, test = windows_to_probe(
        args, label_options(args), args.data_root, reading_of_scenes
    )
    return probe_pixels(
        model,
        train,
        test,
        args.stages,
        args.normalization,
        args.head,
        args.max_cells,
        args.reduction,
        args.seed,
    )


def given(args: argparse.Namespace, names: Iterable[str]) -> list[str]:
    """Those of some options that differ from their defaults."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return [name for name in names if getattr(args, name) != parser.get_default(name)]


def check(args: argparse.Namespace) -> None:
    """Refuse options that do not go together.

    Raises:
        ValueError: If there are such.
    """
    foreign, about = (
        (OF_IMAGES, 'whole images: leave it out with --dense')
        if args.dense
        else (OF_PIXELS, 'pixels: add --dense, or leave it out')
    )
    for name in given(args, foreign):
        hint = '; a list is given as --train or --test LIST.txt' * ('list' in name)
        raise ValueError(f'--{name.replace("_", "-")} is about {about}{hint}')
    if args.dense and not args.labels:
        raise ValueError('--dense needs the labels of the images: --labels L')
    if args.dense and args.test is None and args.test_area is None:
        raise ValueError('give --test IMAGES or --test-area FILE')
    if not args.dense and args.test is None and args.test_list is None:
        raise ValueError('give --test DIR or --test-list FILE')
    if args.size < 1:
        raise ValueError(f'--size must be at least 1, got {args.size}')


def main(args: argparse.Namespace) -> None:
    """Evaluate, print and write."""
    import torch
    from mmengine.logging import MMLogger

    from cmid_mm.files import check_writable, write_bytes

    check(args)
    if args.json:
        check_writable(args.json, '--json')
    args.device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    # Else every initialised weight would be listed.
    MMLogger.get_instance('evaluate_features', log_level='WARNING')
    reading: dict[str, Any] = dict(
        bands=args.bands,
        value_range=value_range_of(args.value_range),
        nodata=args.nodata,
    )
    try:
        results = (evaluate_pixels if args.dense else evaluate)(args, reading)
    except RuntimeError as error:  # of the device: unknown, or out of memory
        raise ValueError(error) from error
    if args.json:
        record = dict(results, settings=vars(args))
        write_bytes(Path(args.json), (json.dumps(record, indent=2) + '\n').encode())
    (print_pixels if args.dense else print_images)(args, results)


def print_images(args: argparse.Namespace, results: dict) -> None:
    """Print the accuracies of images."""
    print(
        f'{args.checkpoint}: {results["feature_dim"]} features of '
        f'{results["train_images"]} training and {results["test_images"]} test images'
    )
    print(f'k-NN (k={args.k}, T={args.temperature})  {results["knn_top1"]:6.2f} %')
    print(f'linear probe          {results["linear_top1"]:6.2f} %')
    if args.per_class:
        for name, value in results['linear_per_class'].items():
            print(f'  {name:<24}{value:6.2f} %')


def print_pixels(args: argparse.Namespace, results: dict) -> None:
    """Print the scores of pixels."""
    stages = results['stages']
    named = 'of out_indices' if stages is None else ' '.join(map(str, stages))
    low, high = results['interval']
    print(
        f'{args.checkpoint}: {results["feature_dim"]} features of '
        f'{results["train_cells"]} training cells; {results["test_windows"]} windows '
        f'of {results["test_scenes"]} test images\n'
        f'stages {named}, normalization {args.normalization}, head {args.head}, '
        f'reduction {args.reduction}\n'
        f'mIoU                  {results["dense_mIoU"]:6.2f} %  (95 %: {low:.2f} to '
        f'{high:.2f}, {results["resampled"]} drawn anew)\n'
        f'aAcc                  {results["dense_aAcc"]:6.2f} %\n'
        'IoU'
    )
    for name, value in results['IoU'].items():
        print(f'  {name:<20}{value:6.2f} %')
    for what in ('training_cells', 'test_pixels'):
        names = results[f'without_{what}']
        if names:
            print(f'without {what.replace("_", " ")}: {", ".join(names)}')


COMMAND = Command(__doc__, add_arguments, main, EPILOG, reads_images=True)

if __name__ == '__main__':
    run_tool(COMMAND)
