# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Test a checkpoint with the metrics of its config."""

import argparse
from pathlib import Path

from mmengine.config import DictAction
from mmengine.runner import Runner

import cmid_mm  # noqa: F401
from cmid_mm.engine import launch


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='A pre-trained encoder has no metric of its own: '
        'tools/evaluate_features.py measures its features.',
    )
    parser.add_argument('config', help='config file, or package::path')
    parser.add_argument('checkpoint', help='checkpoint of a run with this config')
    parser.add_argument(
        '--work-dir',
        metavar='D',
        help='folder for the log and results; default: work_dirs/NAME_OF_THE_CONFIG',
    )
    parser.add_argument('--data-root', metavar='D', help='folder with the data set')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='K=V',
        help='override settings, such as test_dataloader.batch_size=8',
    )
    launch.add_launcher_arguments(parser)
    return parser.parse_args()


@launch.user_errors
def main() -> None:
    """Test."""
    args = parse_args()
    cfg = launch.load_config(args.config)
    launch.merge_options(cfg, args.cfg_options)
    if cfg.get('test_dataloader') is None:
        raise ValueError(
            f'{args.config} has no test_dataloader; '
            'tools/evaluate_features.py measures the features of a pre-trained encoder'
        )
    if not Path(args.checkpoint).is_file():
        raise FileNotFoundError(f'checkpoint {args.checkpoint} does not exist')
    launch.set_work_dir(cfg, args.work_dir, args.config)
    if args.data_root:
        launch.set_data_root(cfg, args.data_root)
    launch.set_launcher(cfg, args.launcher)
    launch.pin_memory(cfg)
    cfg.load_from = args.checkpoint
    launch.refuse_unsafe_checkpoints()
    Runner.from_cfg(cfg).test()


if __name__ == '__main__':
    main()
