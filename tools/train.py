# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Train a model: pre-training with CMID, or any task of the OpenMMLab packages."""

import argparse
from typing import Any

from cmid_mm_cli import Command, add_run_arguments, run_tool

EPILOG = """\
example: %(prog)s configs/cmid/cmid_r50_millionaid.py --data-root my_images \\
             --work-dir work_dirs/mine --amp
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument(
        'config',
        help='config file, or package::path for one that an installed package ships, '
        'such as mmseg::upernet/upernet_r50_4xb4-80k_ade20k-512x512.py',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CKPT',
        help='continue a run exactly where it stopped: from this checkpoint, or '
        'without a value from the latest in the work folder (from the beginning if '
        'there is none)',
    )
    parser.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision; without a GPU training runs in float32',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate to the batch of all processes, relative to '
        'auto_scale_lr.base_batch_size of the config',
    )
    for unit, name in (('epochs', '--max-epochs'), ('iterations', '--max-iters')):
        parser.add_argument(
            name,
            type=int,
            metavar='N',
            help=f'train for N {unit}, of a config that counts these; warm-up and '
            'learning rate schedules are scaled with the run',
        )
    parser.add_argument(
        '--backbone-checkpoint',
        metavar='F',
        help='initialise the backbone from this file (a CMID run, an exported '
        'backbone, torchvision, timm, ...); refused unless every weight fits',
    )
    parser.add_argument(
        '--stem',
        metavar='RULE',
        help='with --backbone-checkpoint: load it into a model for other bands; '
        'repeat, mean or first, or a band of the file for each band of the model, '
        'such as 3,2,1,mean (docs/mixing.md)',
    )
    parser.add_argument(
        '--backbone-source',
        metavar='NAME',
        help='with --backbone-checkpoint: which network of a file that holds several, '
        'teacher or a name that the log tells, such as state_dict_ema',
    )
    add_run_arguments(parser)


def main(args: argparse.Namespace) -> None:
    """Train."""
    from cmid_mm.checkpoints.openmmlab import register_loaders
    from cmid_mm.configs import load_config
    from cmid_mm.engine import launch
    from cmid_mm.engine.backbone_checkpoint import (
        compare_images,
        set_backbone_checkpoint,
        stem_option,
    )
    from cmid_mm.engine.data_check import check_batches, check_data
    from cmid_mm.engine.data_faults import saved_on_data_fault, set_timeouts
    from cmid_mm.engine.fault_tolerant_runner import FaultTolerantRunner
    from cmid_mm.engine.initializers import check_backbones
    from cmid_mm.engine.layout import keep_step_size
    from cmid_mm.engine.quiet_runner import QuietRunner
    from cmid_mm.engine.run_length import set_run_length
    from cmid_mm.engine.settings import check_settings
    from cmid_mm.engine.start import read_start
    from cmid_mm.overrides import merge_options

    cfg = load_config(args.config)
    launch.warn_of_misspelt_keys(cfg)
    merge_options(cfg, args.cfg_options)
    check_settings(cfg)
    set_run_length(cfg, args.max_epochs, args.max_iters, args.cfg_options or ())
    launch.set_launcher(cfg, args.launcher)
    launch.pin_memory(cfg)
    set_timeouts(cfg)
    launch.set_work_dir(cfg, args.work_dir, args.config)
    if args.data_root:
        launch.set_data_root(cfg, args.data_root)
    if args.backbone_checkpoint:
        stem = stem_option(args.stem) if args.stem else None
        source = args.backbone_source
        set_backbone_checkpoint(cfg, args.backbone_checkpoint, stem, source)
    elif args.stem or args.backbone_source:
        option = '--stem' if args.stem else '--backbone-source'
        raise ValueError(f'{option} says how to load --backbone-checkpoint; give both')
    if args.amp:
        launch.use_amp(cfg)
    launch.fall_back_to_float32(cfg)
    launch.guard_steps(cfg)
    launch.save_on_signals(cfg)
    if args.auto_scale_lr:
        launch.enable_auto_scale_lr(cfg)
    launch.set_resume(cfg, args.resume)
    keep_step_size(cfg)
    read: dict[str, dict[str, Any]] = {}
    register_loaders(read)
    check_data(cfg, 'train_dataloader', 'val_dataloader')
    runner = (FaultTolerantRunner if args.verbose else QuietRunner).from_cfg(cfg)
    # A file that the student and a frozen target share is told of once, of the student.
    reports = {r.path: r for r in reversed(check_backbones(runner.model))}
    for report in reports.values():
        compare_images(cfg, report)
    read |= read_start(runner)
    check_batches(runner.train_loop)
    with saved_on_data_fault(runner):
        runner.train()


COMMAND = Command(
    __doc__,
    add_arguments,
    main,
    EPILOG,
    '--resume goes on from the last checkpoint',
    saves_on_signals=True,
)

if __name__ == '__main__':
    run_tool(COMMAND)
