# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Test a checkpoint with the metrics of its config."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmid_mm_cli import Command, add_run_arguments, run_tool

if TYPE_CHECKING:
    from mmengine.runner import Runner
    from torch import nn

EPILOG = """\
A pre-trained encoder has no metric of its own: evaluate-features measures its features.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument('config', help='config file, or package::path')
    parser.add_argument('checkpoint', help='checkpoint of a run with this config')
    parser.add_argument(
        '--tta',
        action='store_true',
        help='test-time augmentation: tta_model and tta_pipeline of the config',
    )
    parser.add_argument(
        '--show-dir',
        metavar='D',
        help='write pictures of the predictions beside the labels to this folder',
    )
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.3,
        metavar='S',
        help='detections below this score are not drawn (default: %(default)s)',
    )
    parser.add_argument(
        '--bands',
        type=int,
        nargs='+',
        metavar='B',
        help='bands of multi-band images to show in pictures, counted from 1 among '
        'the loaded ones (default: the first three)',
    )
    parser.add_argument('--json', metavar='FILE', help='write the metrics to this file')
    add_run_arguments(parser)


def main(args: argparse.Namespace) -> None:
    """Test."""
    from mmengine.config import Config
    from mmengine.dist import is_main_process
    from mmengine.runner import Runner

    from cmid_mm.checkpoints.openmmlab import register_loaders
    from cmid_mm.configs import load_config
    from cmid_mm.engine import launch
    from cmid_mm.engine.data_check import check_data
    from cmid_mm.engine.data_faults import set_timeouts
    from cmid_mm.engine.quiet_runner import QuietRunner
    from cmid_mm.engine.settings import check_settings
    from cmid_mm.files import check_writable, write_bytes
    from cmid_mm.inference import read_fitting_checkpoint
    from cmid_mm.inference.pictures_hook import PredictionPicturesHook
    from cmid_mm.overrides import merge_options
    from cmid_mm.waiting import waiting_ends

    cfg = load_config(args.config)
    launch.warn_of_misspelt_keys(cfg)
    merge_options(cfg, args.cfg_options)
    check_settings(cfg, trains=False)
    if cfg.get('test_dataloader') is None:
        raise ValueError(
            f'{args.config} has no test_dataloader; '
            'tools/evaluate_features.py measures the features of a pre-trained encoder'
        )
    if not Path(args.checkpoint).is_file():
        raise FileNotFoundError(f'checkpoint {args.checkpoint} does not exist')
    launch.set_work_dir(cfg, args.work_dir, args.config)
    if args.json:
        check_writable(args.json, '--json')
    if args.show_dir:
        check_writable(args.show_dir, '--show-dir', is_folder=True)
    if args.data_root:
        launch.set_data_root(cfg, args.data_root)
    launch.set_launcher(cfg, args.launcher)
    launch.pin_memory(cfg)
    set_timeouts(cfg)
    if args.tta:
        launch.use_tta(cfg)
    cfg.load_from = args.checkpoint
    read: dict[str, dict[str, Any]] = {}
    register_loaders(read)
    check_data(cfg, 'test_dataloader')
    # Named by the time in the work folder: the config of the training beside it stays,
    # which has no test-time augmentation.
    nameless = Config(cfg.to_dict())
    runner = (Runner if args.verbose else QuietRunner).from_cfg(nameless)
    # The runner itself would load what fits and go on with the rest untrained.
    read[args.checkpoint] = read_fitting_checkpoint(model_of(runner), args.checkpoint)
    if args.show_dir:
        pictures = PredictionPicturesHook(args.show_dir, args.score_thr, args.bands)
        runner.register_hook(pictures)
    with waiting_ends():
        metrics = runner.test()
    if args.json and is_main_process():
        record = dict(
            config=args.config,
            checkpoint=args.checkpoint,
            tta=args.tta,
            metrics={name: _number(value) for name, value in metrics.items()},
        )
        write_bytes(Path(args.json), (json.dumps(record, indent=2) + '\n').encode())


def model_of(runner: 'Runner') -> 'nn.Module':
    """The model itself, inside wrappers for data parallelism and augmentation."""
    from mmengine.model import BaseTTAModel, is_model_wrapper

    model: Any = runner.model
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def _number(value: Any) -> Any:
    """A metric as JSON knows it; NumPy's numbers and arrays are not."""
    return value.tolist() if hasattr(value, 'tolist') else value


COMMAND = Command(__doc__, add_arguments, main, EPILOG)

if __name__ == '__main__':
    run_tool(COMMAND)
