# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""See CMID learn in minutes: draw aerial scenes, pre-train on them, compare."""

import argparse
import time
from pathlib import Path

from cmid_mm_cli import Command, run_tool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument(
        'out', nargs='?', default='demo', help='folder for data and results [demo]'
    )
    parser.add_argument('--images', type=int, default=800, help='scenes to learn from')
    parser.add_argument('--epochs', type=int, help="default: the config's")


def main(args: argparse.Namespace) -> None:
    """Run the demonstration."""
    from cmid_mm.configs import load_config
    from cmid_mm.demo_scenes import write_demo_data
    from cmid_mm.engine import launch
    from cmid_mm.engine.fault_tolerant_runner import FaultTolerantRunner
    from cmid_mm.engine.hooks.evaluation_hook import INITIAL_KEY

    out = Path(args.out)
    start = time.perf_counter()
    print(f'1. Procedural aerial scenes: {out / "data"}')
    data = write_demo_data(
        out / 'data', train=args.images, test=400, size=96, tasks=['scene'], workers=2
    )['scene']

    print('2. Pre-training on the unlabelled training scenes')
    cfg = load_config('cmid_mm::cmid/cmid_r18_demo.py')
    launch.fall_back_to_float32(cfg)
    cfg.launcher = 'none'
    cfg.work_dir = str(out / 'work_dir')
    cfg.train_dataloader.dataset.data_root = str(data / 'train')
    for hook in cfg.custom_hooks:
        if hook['type'] == 'FeatureEvaluationHook':
            hook.update(
                train=dict(root=str(data / 'train')), test=dict(root=str(data / 'test'))
            )
    if args.epochs:
        cfg.train_cfg.max_epochs = args.epochs
        cfg.param_scheduler[-1].end = args.epochs
    runner = FaultTolerantRunner.from_cfg(cfg)
    runner.train()

    names = ('knn_top1', 'linear_top1')
    initial = runner.message_hub.get_info(INITIAL_KEY)
    scalars = [runner.message_hub.get_scalar(f'features/{name}') for name in names]
    before = '  '.join(f'{initial[name]:12.1f} %' for name in names)
    after = '  '.join(f'{scalar.current():12.1f} %' for scalar in scalars)
    pictures = sorted(Path(cfg.work_dir, 'vis_data', 'reconstruction').glob('*.png'))
    print(
        f"""
Done in {(time.perf_counter() - start) / 60:.1f} minutes.

Accuracy of frozen features on 400 scenes never seen before (8 classes):
                     nearest neighbours    linear probe
  random encoder      {before}
  pre-trained encoder {after}

What the network reconstructs: {pictures[-1]}
The checkpoint:                {Path(cfg.work_dir) / 'last_checkpoint'} names it

Next, on a folder of your own images:
  .venv/bin/python tools/train.py configs/cmid/cmid_r18_scenes.py --data-root FOLDER"""
    )


COMMAND = Command(__doc__, add_arguments, main)

if __name__ == '__main__':
    run_tool(COMMAND)
