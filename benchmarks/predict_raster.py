# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Time of predicting a large raster, as a ratio to that of the bare network.

A generated scene is predicted by a segmentation network with random weights, from file
to file. Beside it the same network predicts as many windows of the same size that are
in memory already. Both run in turn, and medians are compared: ``ratio`` by the clock,
``cpu_ratio`` by the time of all cores together, which other programs do not disturb.

    python benchmarks/predict_raster.py --size 4096 --json result.json
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
import torch
from mmengine.logging import MMLogger
from rasterio.transform import from_origin
from rasterio.windows import Window
from reporting import add_json, report

from cmid_mm.configs import build_model, load_config
from cmid_mm.demo_scenes import make_scene
from cmid_mm.images import tile_windows
from cmid_mm.inference import Inferencer
from cmid_mm.inference.windows import chunks

CONFIG = Path(__file__).parents[1] / 'configs/segmentation/upernet_r18_demo.py'
TILE = 512


def write_scene(path: Path, size: int) -> None:
    """Write a scene of a few drawn ones that repeat."""
    tiles = [make_scene(5, seed, TILE).image.transpose(2, 0, 1) for seed in range(4)]
    generator = np.random.default_rng(0)
    with rasterio.open(
        path,
        'w',
        driver='GTiff',
        height=size,
        width=size,
        count=3,
        dtype='uint8',
        tiled=True,
        compress='deflate',
        crs='EPSG:32650',
        transform=from_origin(5e5, 3e6, 0.5, 0.5),
    ) as target:
        for top, left, height, width in tile_windows(size, size, TILE, 0):
            tile = tiles[generator.integers(len(tiles))][:, :height, :width]
            target.write(tile, window=Window(left, top, width, height))


class Times(NamedTuple):
    """What something took: by the clock, and of all cores together."""

    seconds: float
    cpu: float


def timed(work: Callable[[], Any], device: str) -> Times:
    """Time some work; a device that works on by itself is waited for."""
    start, cpu = time.perf_counter(), time.process_time()
    work()
    if device != 'cpu':
        torch.accelerator.synchronize()
    return Times(time.perf_counter() - start, time.process_time() - cpu)


def predict_raster(
    inferencer: Inferencer, image: Path, options: dict[str, Any]
) -> None:
    """Predict a raster, from file to file."""
    with tempfile.TemporaryDirectory() as folder:
        list(inferencer.predict_to(folder, [image], **options))


def windows_in_memory(
    inferencer: Inferencer, image: Path, options: dict[str, Any]
) -> list[list[dict[str, Any]]]:
    """Batches of as many windows as the raster has; all are one that was read."""
    task, size = inferencer.task, options['window']
    opened = task.open(image)
    windows = list(tile_windows(opened.height, opened.width, size, options['overlap']))
    sample = task.sample(opened, windows[0]).data
    return list(chunks([sample] * len(windows), options['batch_size']))


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--size', type=int, default=2048, help='side of the scene')
    parser.add_argument('--window', type=int, default=512, help='side of the windows')
    parser.add_argument('--batch-size', type=int, default=4, help='windows together')
    parser.add_argument('--device', default='cpu', help='such as cuda')
    parser.add_argument('--half', action='store_true', help='in half precision')
    parser.add_argument('--rounds', type=int, default=3, help='rounds to time')
    add_json(parser)
    args = parser.parse_args()

    MMLogger.get_instance('benchmark', log_level='WARNING')
    cfg = load_config(str(CONFIG))
    options = dict(
        batch_size=args.batch_size, window=args.window, overlap=args.window // 4
    )
    times: dict[str, list[Times]] = {'raster': [], 'network': []}
    with tempfile.TemporaryDirectory() as folder:
        image, checkpoint = Path(folder, 'scene.tif'), Path(folder, 'random.pth')
        write_scene(image, args.size)
        torch.manual_seed(0)
        torch.save(dict(state_dict=build_model(cfg).state_dict(), meta={}), checkpoint)
        inferencer = Inferencer(cfg, checkpoint, args.device, half=args.half)
        batches = windows_in_memory(inferencer, image, options)
        works = {
            'network': lambda: [inferencer.task.forward(batch) for batch in batches],
            'raster': lambda: predict_raster(inferencer, image, options),
        }
        for number in range(args.rounds + 1):
            for name, work in works.items():
                taken = timed(work, args.device)
                if number:  # the first warms caches
                    times[name].append(taken)
    raster, network = (
        Times(*(statistics.median(each) for each in zip(*times[name], strict=True)))
        for name in ('raster', 'network')
    )
    result: dict[str, Any] = {
        'raster_s': round(raster.seconds, 3),
        'network_s': round(network.seconds, 3),
        'ratio': round(raster.seconds / network.seconds, 4),
        'cpu_ratio': round(raster.cpu / network.cpu, 4),
        'megapixels_per_s': round(args.size**2 / 1e6 / raster.seconds, 3),
        'device': args.device,
        'half': args.half,
        'size': args.size,
        **options,
    }
    report(result, args.json)


if __name__ == '__main__':
    main()
