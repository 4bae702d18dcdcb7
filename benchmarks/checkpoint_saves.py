# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""How long training waits for a checkpoint of CMID, and for how much longer it is made.

Training waits until the state is copied into memory; beside it the copy is written,
sent to the disk, read again and its checksums are compared. That is set beside waiting
for the file, in turns, on the folder that is given.

    python benchmarks/checkpoint_saves.py --backbone r50 --folder work_dirs
"""

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import torch
from mmengine import Config
from mmengine.fileio import LocalBackend
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.runner import save_checkpoint
from mmpretrain.registry import MODELS
from reporting import add_json, write

import cmid_mm  # noqa: F401
from cmid_mm.checkpoints.damage import damaged_entry
from cmid_mm.engine.atomic_backend import handed_to
from cmid_mm.engine.checkpoint_writer import CheckpointWriter

CONFIGS = Path(__file__).resolve().parents[1] / 'configs' / 'cmid'


def state_of_training(backbone: str) -> dict:
    """What a run saves after its first step."""
    cfg = Config.fromfile(CONFIGS / f'cmid_{backbone}_millionaid.py')
    init_default_scope('mmpretrain')
    model = MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor})
    wrapper = build_optim_wrapper(model, {**cfg.optim_wrapper, 'type': 'OptimWrapper'})
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.full_like(parameter, 1e-3)
    wrapper.step()
    return dict(state_dict=model.state_dict(), optimizer=wrapper.state_dict())


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--backbone', default='r50', help='r50, swin-b, ...')
    parser.add_argument('--folder', type=Path, help='where checkpoints are written')
    parser.add_argument('--repeats', type=int, default=5)
    add_json(parser)
    args = parser.parse_args()

    state = state_of_training(args.backbone)
    seconds: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        file = Path(folder, 'a.pth')
        writer = CheckpointWriter(LocalBackend(), MMLogger.get_instance('benchmark'))
        for _ in range(args.repeats):
            start = time.perf_counter()
            save_checkpoint(state, str(file), backend_args=dict(backend='atomic_local'))
            seconds['waiting for the file'].append(time.perf_counter() - start)
            start = time.perf_counter()
            with handed_to(writer.start):
                save_checkpoint(state, str(file), backend_args=dict(backend='handing'))
            seconds['waiting for the copy'].append(time.perf_counter() - start)
            writer.wait()
            seconds['until it is proven'].append(time.perf_counter() - start)
            start = time.perf_counter()
            assert damaged_entry(file) is None
            seconds['checksums alone'].append(time.perf_counter() - start)
        size = file.stat().st_size / 1e6
    figures = {name: statistics.median(values) for name, values in seconds.items()}
    before, after = figures['waiting for the file'], figures['waiting for the copy']
    print(f'{args.backbone}: {size:.0f} MB')
    for name, value in figures.items():
        print(f'{name:22} {value:6.2f} s')
    print(f'training waits {before / after:.1f} times shorter')
    record = dict(
        backbone=args.backbone, megabytes=size, seconds=figures, ratio=before / after
    )
    write(record, args.json)


if __name__ == '__main__':
    main()
