# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Time whole CMID training steps against the bare limit of their backbone.

The limit is what no implementation of the method can avoid: the same backbone's
forward and backward pass on two views and its forward pass without gradients on
two views, on the same batch, in the faster of the two memory formats. Steps and
limits alternate in one process, so that the ratio holds on a noisy machine.
"""

import argparse
import functools
import gc
import json
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS

import cmid_mm  # noqa: F401

RESET_PEAK = Path('/proc/self/clear_refs')
CONFIGS = Path(__file__).resolve().parents[1] / 'configs' / 'cmid'


def view_pairs(batch_size: int, size: int, bands: int) -> dict:
    """A random batch of packed view pairs."""
    cells = size // 32  # patches of the mask
    box = torch.tensor([0.0, 0.0, size, size, 0.0])
    return dict(
        inputs=torch.randint(0, 256, (batch_size, 2, bands, size, size)).byte(),
        masks=torch.rand(batch_size, 2, cells, cells) < 0.6,
        boxes=box.expand(batch_size, 2, 5).clone(),
        index=torch.arange(batch_size),
    )


def process_peak() -> int:
    """Peak resident memory of this process in bytes, since the last reset."""
    status = Path('/proc/self/status')
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith('VmHWM:'):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Stopwatch:
    """Times calls and their peak memory on a device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: list[float] = []
        self.peak_mb = 0.0

    def __call__(self, function: Callable[[], None]) -> float:
        """Run a function and record its duration in seconds."""
        on_gpu = self.device.type == 'cuda'
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(self.device)
            torch.cuda.synchronize(self.device)
        elif RESET_PEAK.exists():
            RESET_PEAK.write_text('5')  # the process's peak starts anew
        start = time.perf_counter()
        function()
        if on_gpu:
            torch.cuda.synchronize(self.device)
        self.seconds.append(time.perf_counter() - start)
        if on_gpu:
            peak = torch.cuda.max_memory_allocated(self.device)
        else:
            peak = process_peak()
        self.peak_mb = max(self.peak_mb, peak / 2**20)
        return self.seconds[-1]

    @property
    def median(self) -> float:
        """Median duration in seconds."""
        return statistics.median(self.seconds)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--backbone', default='r50', help='r50, swin-b, vit-b, ...')
    parser.add_argument('--batch-size', type=int, default=8)
    parser.add_argument('--image-size', type=int, default=224)
    parser.add_argument('--repeats', type=int, default=5, help='counted steps')
    parser.add_argument('--amp', action='store_true', help='mixed precision')
    parser.add_argument(
        '--device', default='cuda' if torch.cuda.is_available() else 'cpu'
    )
    parser.add_argument('--json', type=Path, help='write the figures to this file')
    args = parser.parse_args()

    torch.manual_seed(0)
    device = torch.device(args.device)
    cfg = Config.fromfile(CONFIGS / f'cmid_{args.backbone}_millionaid.py')
    init_default_scope('mmpretrain')
    model = MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor})
    model.to(device).train()
    optim_cfg = {**cfg.optim_wrapper, 'type': 'OptimWrapper'}
    if args.amp:
        optim_cfg['type'] = 'AmpOptimWrapper'
    optimizer = build_optim_wrapper(model, optim_cfg)
    bare = MODELS.build(cfg.model.encoder.backbone).to(device)
    bare.train()
    batch = view_pairs(
        args.batch_size, args.image_size, model.data_preprocessor.num_bands
    )

    def step() -> None:
        model.train_step(batch, optimizer)
        model.update_teacher(0.996)

    views = model.data_preprocessor(batch)['images']

    def limit(memory_format: torch.memory_format) -> None:
        bare.to(memory_format=memory_format)
        images = [view.contiguous(memory_format=memory_format) for view in views]
        with torch.autocast(device.type, enabled=args.amp):
            loss = sum(bare(image)[-1].float().mean() for image in images)
            loss.backward()
            with torch.no_grad():
                for image in images:
                    bare(image)
        bare.zero_grad()

    formats = [torch.contiguous_format, torch.channels_last]
    limits = {memory_format: Stopwatch(device) for memory_format in formats}
    steps = Stopwatch(device)

    def run_all() -> None:
        steps(step)
        for memory_format in formats:
            limits[memory_format](functools.partial(limit, memory_format))

    run_all()  # warm-up, not counted
    for watch in (steps, *limits.values()):
        watch.seconds.clear()
    gc.disable()
    for _ in range(args.repeats):
        run_all()
    fastest = min(formats, key=lambda memory_format: limits[memory_format].median)

    result = dict(
        backbone=args.backbone,
        step_s=round(steps.median, 4),
        limit_s=round(limits[fastest].median, 4),
        ratio=round(steps.median / limits[fastest].median, 4),
        images_per_s=round(args.batch_size / steps.median, 2),
        peak_memory_mb=round(steps.peak_mb),
        limit_peak_memory_mb=round(limits[fastest].peak_mb),
        dtype='float16 (autocast)' if args.amp else 'float32',
        device=torch.cuda.get_device_name(device) if device.type == 'cuda' else 'cpu',
        threads=torch.get_num_threads(),
        batch_size=args.batch_size,
        image_size=args.image_size,
        limit_memory_format=str(fastest).removeprefix('torch.'),
    )
    print(json.dumps(result, indent=2))
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + '\n')


if __name__ == '__main__':
    main()
