# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Measure what a frozen encoder knows: nearest neighbours and a linear probe."""

import argparse
import json
from pathlib import Path
from typing import Any

from cmid_mm_cli import Command, ConfigOptions, band, run_tool, value_range_of

EPILOG = """\
DIR holds a folder of images for each class. Examples:

  %(prog)s configs/cmid/cmid_r50_millionaid.py \\
      work_dirs/cmid_r50_millionaid/epoch_200.pth --train ucmerced \\
      --train-list train.txt --test-list test.txt

  the same with 'random' in place of the checkpoint: the untrained encoder, the
  reference for any number.
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
        help='labelled images to classify (default: that of --train, with --test-list)',
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
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=ConfigOptions,
        metavar='K=V',
        help='the options that the run was given, such as model.heads.assignment=None',
    )
    parser.add_argument('--json', metavar='OUT', help='also write the results here')


def evaluate(args: argparse.Namespace) -> dict:
    """Evaluate as the command line says."""
    from cmid_mm.evaluation.features import LabelledFolder
    from cmid_mm.evaluation.frozen_encoder import (
        evaluate_frozen_encoder,
        load_frozen_encoder,
    )

    reading: dict[str, Any] = dict(
        bands=args.bands,
        value_range=value_range_of(args.value_range),
        nodata=args.nodata,
    )
    model = load_frozen_encoder(
        args.config,
        args.checkpoint,
        args.backbone_only,
        args.seed,
        args.cfg_options,
        reading,
    ).to(args.device)
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


def main(args: argparse.Namespace) -> None:
    """Evaluate, print and write."""
    import torch
    from mmengine.logging import MMLogger

    from cmid_mm.files import check_writable, write_bytes

    if args.test is None and args.test_list is None:
        raise ValueError('give --test DIR or --test-list FILE')
    if args.size < 1:
        raise ValueError(f'--size must be at least 1, got {args.size}')
    if args.json:
        check_writable(args.json, '--json')
    args.device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    # Else every initialised weight would be listed.
    MMLogger.get_instance('evaluate_features', log_level='WARNING')
    try:
        results = evaluate(args)
    except RuntimeError as error:  # of the device: unknown, or out of memory
        raise ValueError(error) from error
    if args.json:
        record = dict(results, settings=vars(args))
        write_bytes(Path(args.json), (json.dumps(record, indent=2) + '\n').encode())
    print(
        f'{args.checkpoint}: {results["feature_dim"]} features of '
        f'{results["train_images"]} training and {results["test_images"]} test images'
    )
    print(f'k-NN (k={args.k}, T={args.temperature})  {results["knn_top1"]:6.2f} %')
    print(f'linear probe          {results["linear_top1"]:6.2f} %')
    if args.per_class:
        for name, value in results['linear_per_class'].items():
            print(f'  {name:<24}{value:6.2f} %')


COMMAND = Command(__doc__, add_arguments, main, EPILOG)

if __name__ == '__main__':
    run_tool(COMMAND)
