# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Speed of windows of large rasters, as a ratio to rasterio's plain read.

On one core, windows at random positions of several drawn scenes are loaded as training
loads them (``load_image``: values, missing pixels, the 0-255 scale), and read by
rasterio from files that stay open. Both run interleaved, window by window, each with
files of its own, so that neither finds the blocks that the other has decoded; medians
are compared. Where torchgeo can be imported, its ``RandomGeoSampler`` draws as many
windows of the same scenes.

    python benchmarks/raster_windows.py --json result.json
"""

import argparse
import importlib.util
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rasterio
import torch
from rasterio.transform import from_origin
from rasterio.windows import Window as RasterWindow
from reporting import add_json, write

from cmid_mm.images import Reading, Window, load_image, read_values
from cmid_mm.images.gdal import keep_settings

#: Scenes as users have them: options of rasterio, number of bands, how they are read.
KINDS: dict[str, tuple[dict[str, Any], int, Reading]] = {
    'rgb': (dict(dtype='uint8'), 3, Reading()),
    'rgb, deflate': (dict(dtype='uint8', compress='deflate'), 3, Reading()),
    '4 bands, nodata': (
        dict(dtype='uint16', compress='deflate', nodata=0),
        4,
        Reading(4, value_range=(0, 3000)),
    ),
    '12 bands': (
        dict(dtype='uint16', compress='deflate', interleave='band'),
        12,
        Reading(12, value_range=(0, 3000)),
    ),
}


def write_scenes(folder: Path, kind: str, count: int, size: int) -> list[Path]:
    """Write scenes side by side: smooth terrain and noise, in blocks of 256 pixels.

    Args:
        folder: Where to.
        kind: Of :data:`KINDS`.
        count: Number of files.
        size: Side in pixels.
    """
    options, bands, _ = KINDS[kind]
    folder.mkdir()
    paths = []
    for number in range(count):
        generator = np.random.default_rng(number)
        high = 255 if options['dtype'] == 'uint8' else 3000
        coarse = generator.uniform(0.1, 0.9, (size // 32, size // 32)).astype('f4')
        terrain = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
        path = folder / f'{number:03d}.tif'
        with rasterio.open(
            path,
            'w',
            driver='GTiff',
            height=size,
            width=size,
            count=bands,
            crs='EPSG:32650',
            transform=from_origin(5e5 + number * size * 10, 3e6, 10, 10),
            tiled=True,
            blockxsize=256,
            blockysize=256,
            **options,
        ) as target:
            for band in range(1, bands + 1):
                noise = generator.normal(0, 0.02, terrain.shape)
                values = np.clip((terrain + noise) * high, 1, high)
                target.write(values.astype(options['dtype']), band)
        paths.append(path)
    return paths


def draw_windows(count: int, paths: list[Path], scene: int, side: int) -> list[Any]:
    """Files and windows at random, the same at each call."""
    generator = random.Random(0)
    last = scene - side
    return [
        (
            generator.choice(paths),
            (generator.randint(0, last), generator.randint(0, last), side, side),
        )
        for _ in range(count)
    ]


def milliseconds(function: Callable[..., Any], *arguments: Any) -> float:
    """Time of the processor that one call takes; files are in the system's cache."""
    start = time.process_time()
    function(*arguments)
    return 1000 * (time.process_time() - start)


def measure(paths: list[Path], windows: list[Any], reading: Reading) -> dict[str, Any]:
    """Time our windows and rasterio's, interleaved.

    Args:
        paths: The scenes.
        windows: Files and windows.
        reading: How ours are read.

    Returns:
        Medians in milliseconds: ``load`` (on the 0-255 scale), ``read`` (stored
        values and which of them are valid), ``rasterio``.
    """
    opened = {path: rasterio.open(path) for path in paths}

    def plain(path: Path, window: Window) -> Any:
        top, left, height, width = window
        return opened[path].read(window=RasterWindow(left, top, width, height))

    def stored(path: Path, window: Window) -> Any:
        return read_values(path, reading, window)

    def loaded(path: Path, window: Window) -> Any:
        return load_image(path, reading, window)

    # A file that two hold open is cached for both: our two take turns by windows.
    times: dict[str, list[float]] = {'load': [], 'read': [], 'rasterio': []}
    for number, (path, window) in enumerate(windows):
        ours = ('load', loaded) if number % 2 else ('read', stored)
        calls = [ours, ('rasterio', plain)]
        for name, call in calls if number % 4 < 2 else reversed(calls):
            times[name].append(milliseconds(call, path, window))
    for source in opened.values():
        source.close()
    # The first windows open the files.
    return {name: statistics.median(taken[20:]) for name, taken in times.items()}


def torchgeo_milliseconds(folder: Path, count: int, side: int) -> float | None:
    """Median time of a window by torchgeo's sampler; None without torchgeo."""
    if importlib.util.find_spec('torchgeo') is None:
        return None
    from torchgeo.datasets import RasterDataset
    from torchgeo.samplers import RandomGeoSampler

    class Scenes(RasterDataset):
        filename_glob = '*.tif'

    dataset = Scenes(folder)
    torch.manual_seed(0)
    sampler = RandomGeoSampler(dataset, side, count)
    taken = [milliseconds(dataset.__getitem__, query) for query in sampler]
    return statistics.median(taken[20:])


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--scenes', type=int, default=8, help='scenes of each kind')
    parser.add_argument('--scene-size', type=int, default=2048, help='pixels a side')
    parser.add_argument('--window', type=int, default=224, help='pixels a side')
    parser.add_argument('--windows', type=int, default=600, help='of each kind')
    add_json(parser)
    arguments = parser.parse_args()

    # One core: neither side may use a pool of threads.
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    result: dict[str, Any] = {}
    # A cache of blocks that the scenes do not fit into, as real ones do not.
    with tempfile.TemporaryDirectory() as root, rasterio.Env(GDAL_CACHEMAX=64):
        # As in the workers of a data loader.
        keep_settings()
        for number, (kind, (_, _, reading)) in enumerate(KINDS.items()):
            folder = Path(root) / str(number)
            paths = write_scenes(folder, kind, arguments.scenes, arguments.scene_size)
            windows = draw_windows(
                arguments.windows, paths, arguments.scene_size, arguments.window
            )
            taken = measure(paths, windows, reading)
            torchgeo = torchgeo_milliseconds(
                folder, arguments.windows // 2, arguments.window
            )
            result[kind] = {
                'windows_per_s': 1000 / taken['load'],
                'ratio_load': taken['load'] / taken['rasterio'],
                'ratio_read': taken['read'] / taken['rasterio'],
                'rasterio_windows_per_s': 1000 / taken['rasterio'],
                'torchgeo_windows_per_s': torchgeo and 1000 / torchgeo,
            }
            print(kind, json.dumps(rounded(result[kind])))
    write({kind: rounded(found) for kind, found in result.items()}, arguments.json)


def rounded(found: dict[str, float | None]) -> dict[str, float | None]:
    """Figures as one reads them."""
    return {name: value and round(value, 3) for name, value in found.items()}


if __name__ == '__main__':
    main()
