# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Time whole CMID training steps against the bare limit of their backbone.

The limit is what no implementation of the method can avoid: the same backbone's
forward and backward pass on two views and its forward pass without gradients on
two views, on the same batch, in the faster of the two memory formats. Steps and
limits alternate in one process, so that the ratio holds on a noisy machine. On request
a few steps are taken apart, steps whose networks are compiled are timed in the same way
(their limit is not compiled), and the steps are fed by the data loader of the config.
What was measured is in the file of ``--json`` before the next part begins.
"""

import argparse
import ctypes
import functools
import gc
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from data_pipeline import write_files
from mmengine import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, init_default_scope
from mmpretrain.registry import MODELS
from reporting import add_json, report, write
from step_parts import Parts, seconds_by_part, step_calls
from torch import nn
from torch.utils.data import DataLoader

import cmid_mm  # noqa: F401
from cmid_mm.engine.hooks.compile_hook import compile_networks

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


def resident(field: str) -> int:
    """Resident memory of this process in bytes: now (VmRSS) or at most (VmHWM)."""
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f'/proc/self/status has no {field}')


def memory_of(
    device: torch.device, function: Callable[[], None], weights: nn.Module
) -> float | None:
    """How far memory rises in a call, beyond the gradients that it makes, in MiB.

    Weights and the state of an optimiser were there before the call. On a CPU it is the
    process's resident memory, and known on Linux alone.

    Args:
        device: Where the function runs.
        function: Runs passes and the backward pass of ``weights``.
        weights: The module whose parameters get gradients.
    """
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
        start = torch.cuda.memory_allocated(device)
        function()
        peak = torch.cuda.max_memory_allocated(device)
    elif RESET_PEAK.exists():
        # What the allocator keeps for later would hide what the call takes.
        ctypes.CDLL(None).malloc_trim(0)
        RESET_PEAK.write_text('5')  # the process's peak starts anew
        start = resident('VmRSS')
        function()
        peak = resident('VmHWM')
    else:
        return None
    gradients = sum(
        parameter.numel() * parameter.element_size()
        for parameter in weights.parameters()
        if parameter.requires_grad
    )
    return (peak - start - gradients) / 2**20


class Stopwatch:
    """Times calls on a device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: list[float] = []

    def __call__(self, function: Callable[[], None]) -> float:
        """Run a function and record its duration in seconds."""
        on_gpu = self.device.type == 'cuda'
        if on_gpu:
            torch.cuda.synchronize(self.device)
        start = time.perf_counter()
        function()
        if on_gpu:
            torch.cuda.synchronize(self.device)
        self.seconds.append(time.perf_counter() - start)
        return self.seconds[-1]

    @property
    def median(self) -> float:
        """Median duration in seconds."""
        return statistics.median(self.seconds)


class Training:
    """A model and its optimiser; called with a batch, it takes a whole step."""

    def __init__(self, cfg: Config, device: str, amp: bool) -> None:
        torch.manual_seed(0)
        parts = {**cfg.model, 'data_preprocessor': cfg.data_preprocessor}
        self.model = MODELS.build(parts).to(device).train()
        kind = 'AmpOptimWrapper' if amp else 'OptimWrapper'
        self.optimizer = build_optim_wrapper(
            self.model, {**cfg.optim_wrapper, 'type': kind}
        )

    def __call__(self, batch: dict) -> None:
        """Take a step."""
        self.model.train_step(batch, self.optimizer)
        self.model.update_teacher(0.996)


def seconds_with_loader(step: Training, cfg: Config, args: argparse.Namespace) -> float:
    """Time of a step whose batches come from drawn files through the pipeline."""
    counted, unseen = 2 * args.repeats, 2 + args.workers
    settings: dict[str, Any] = {}
    if args.workers:
        settings = dict(persistent_workers=True, prefetch_factor=4)
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder), args.file_size, args.files, None)
        dataset = DATASETS.build(
            {**cfg.train_dataloader.dataset, 'data_root': folder, 'ann_file': ''}
        )
        loader = DataLoader(
            dataset,
            args.batch_size,
            sampler=range((unseen + counted) * args.batch_size),
            num_workers=args.workers,
            pin_memory=torch.device(args.device).type == 'cuda',
            **settings,
        )
        batches = iter(loader)
        for _ in range(unseen):  # what was loaded ahead
            step(next(batches))
        watch = Stopwatch(torch.device(args.device))

        def fed() -> None:
            for _ in range(counted):
                step(next(batches))

        return watch(fed) / counted


def beside_limits(
    step: Callable[[], None],
    limit: Callable[[torch.memory_format], None],
    device: torch.device,
    repeats: int,
) -> tuple[float, float, float, torch.memory_format]:
    """Time steps and, in turn with them, the bare passes in both memory formats.

    Returns:
        Seconds of the first step, of a step and of the faster passes, and the memory
        format of these.
    """
    formats = [torch.contiguous_format, torch.channels_last]
    limits = {memory_format: Stopwatch(device) for memory_format in formats}
    steps = Stopwatch(device)
    for _ in range(1 + repeats):
        steps(step)
        for memory_format in formats:
            limits[memory_format](functools.partial(limit, memory_format))
    first = steps.seconds[0]
    for watch in (steps, *limits.values()):
        del watch.seconds[0]  # warm-up
    fastest = min(formats, key=lambda memory_format: limits[memory_format].median)
    return first, steps.median, limits[fastest].median, fastest


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--backbone', default='r50', help='r50, swin-b, vit-b, ...')
    parser.add_argument('--config', type=Path, help='in place of that of --backbone')
    parser.add_argument('--batch-size', type=int, default=8)
    parser.add_argument('--image-size', type=int, help='default: that of the config')
    parser.add_argument('--repeats', type=int, default=5, help='counted steps')
    parser.add_argument('--amp', action='store_true', help='mixed precision')
    parser.add_argument(
        '--compile',
        nargs='?',
        const='inductor',
        metavar='BACKEND',
        help='compiled networks too, by this backend (inductor)',
    )
    parser.add_argument(
        '--workers', type=int, help='steps fed by a data loader too, by so many'
    )
    parser.add_argument(
        '--parts', action='store_true', help='the time of each part of a step, too'
    )
    parser.add_argument('--files', type=int, default=64, help='drawn for the loader')
    parser.add_argument('--file-size', type=int, default=256, help='pixels a side')
    parser.add_argument(
        '--device', default='cuda' if torch.cuda.is_available() else 'cpu'
    )
    add_json(parser)
    args = parser.parse_args()

    device = torch.device(args.device)
    file = args.config or CONFIGS / f'cmid_{args.backbone}_millionaid.py'
    cfg = Config.fromfile(file)
    size = args.image_size or cfg.image_size
    for transform in cfg.train_dataloader.dataset.pipeline:
        if 'size' in transform:
            transform.size = size
    init_default_scope('mmpretrain')
    training = Training(cfg, args.device, args.amp)
    bands = training.model.data_preprocessor.num_bands
    batch = view_pairs(args.batch_size, size, bands)
    bare = MODELS.build(cfg.model.encoder.backbone).to(device)
    bare.train()
    views = training.model.data_preprocessor(batch)['images']

    def limit(memory_format: torch.memory_format, parts: Parts | None = None) -> None:
        bare.to(memory_format=memory_format)
        images = [view.contiguous(memory_format=memory_format) for view in views]
        timed = parts.timed if parts else lambda _, function: function
        with torch.autocast(device.type, enabled=args.amp):
            student = timed('student forward', bare)
            loss = sum(student(image)[-1].float().mean() for image in images)
            timed('backward', loss.backward)()
            teacher = timed('teacher forward', bare)
            with torch.no_grad():
                for image in images:
                    teacher(image)
        bare.zero_grad()

    gc.disable()
    step = functools.partial(training, batch)
    _, step_s, limit_s, fastest = beside_limits(step, limit, device, args.repeats)
    result = dict(
        backbone=args.config.stem if args.config else args.backbone,
        step_s=round(step_s, 4),
        limit_s=round(limit_s, 4),
        ratio=round(step_s / limit_s, 4),
        images_per_s=round(args.batch_size / step_s, 2),
        dtype='float16 (autocast)' if args.amp else 'float32',
        device=torch.cuda.get_device_name(device) if device.type == 'cuda' else 'cpu',
        threads=torch.get_num_threads(),
        batch_size=args.batch_size,
        image_size=size,
        limit_memory_format=str(fastest).removeprefix('torch.'),
    )
    passes = functools.partial(limit, fastest)
    step_memory = memory_of(device, step, training.model)
    limit_memory = memory_of(device, passes, bare)
    if step_memory and limit_memory:
        result |= dict(
            memory_mb=round(step_memory),
            limit_memory_mb=round(limit_memory),
            memory_ratio=round(step_memory / limit_memory, 4),
        )
    write(result, args.json)  # what follows may take too long for whoever waits
    if args.parts:
        result['parts'] = seconds_by_part(
            device,
            step,
            step_calls(training.model, training.optimizer),
            passes,
            args.repeats,
        )
        write(result, args.json)
    fed_by, fed_step_s = 'eager', step_s
    if args.compile:
        training = Training(cfg, args.device, args.amp)
        # A graph break is an error.
        options = dict(backend=args.compile, fullgraph=True, dynamic=False)
        compile_networks(training.model, **options)
        step = functools.partial(training, batch)
        first_s, step_s, limit_s, _ = beside_limits(step, limit, device, args.repeats)
        result |= dict(
            compiled_step_s=round(step_s, 4),
            compiled_ratio=round(step_s / limit_s, 4),
            compilation_s=round(first_s - step_s, 1),
        )
        write(result, args.json)
        fed_by, fed_step_s = 'compiled', step_s
    if args.workers is not None:
        gc.enable()
        fed = seconds_with_loader(training, cfg, args)
        result |= dict(
            workers=args.workers,
            fed_step_s=round(fed, 4),
            fed_share=round(fed_step_s / fed, 4),
            fed=fed_by,
        )
    report(result, args.json)


if __name__ == '__main__':
    main()
