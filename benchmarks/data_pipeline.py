# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Speed of the data pipeline, as a ratio to a plain Pillow decode.

On one core, for JPEG files of one size, the time from file to packed view pair is
set beside that of Pillow decoding the same file in full and resizing it to 224 x 224
(bicubic). Both run interleaved, file by file, and medians are compared.

    python benchmarks/data_pipeline.py --image-size 600 --json result.json
"""

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from reporting import add_json, report

from cmid_mm.datasets import ImageryDataset
from cmid_mm.images import Reading, load_image, read_values

SIZE = 224
PIPELINE: list[dict[str, Any]] = [
    {'type': 'LoadImagery', 'size': SIZE},
    {'type': 'ViewPair', 'size': SIZE},
    {'type': 'PhotometricNoise'},
    {'type': 'MaskPair', 'size': SIZE},
    {'type': 'PackViewPair'},
]


def make_scene(size: int, seed: int) -> np.ndarray:
    """Draw an aerial-looking scene: terrain, fields, roofs, sensor noise.

    Args:
        size (int): Side in pixels.
        seed (int): Same seed, same scene.

    Returns:
        np.ndarray: BGR uint8, (size, size, 3).
    """
    generator = np.random.default_rng(seed)
    scene = np.full((size, size, 3), (85.0, 95.0, 88.0), np.float32)
    cells = 4
    while cells < size:
        # Natural texture: amplitude falls with spatial frequency.
        octave = generator.normal(0, 1, (cells, cells, 3)).astype(np.float32)
        octave = octave.mean(axis=2, keepdims=True) + 0.3 * octave
        scene += 70 / cells**0.4 * cv2.resize(octave, (size, size), interpolation=2)
        cells *= 2
    for _ in range(size * size // 1200):
        corner = generator.integers(0, size, 2)
        sides = generator.integers(4, 40, 2)
        box = cv2.boxPoints(
            (corner.tolist(), sides.tolist(), float(generator.uniform(0, 90)))
        )
        shade = (generator.uniform(30, 220) + generator.normal(0, 12, 3)).tolist()
        cv2.fillConvexPoly(scene, box.astype(np.int32), shade, cv2.LINE_AA)
    scene += generator.normal(0, 3, scene.shape)
    return np.clip(scene, 0, 255).astype(np.uint8)


def write_files(folder: Path, size: int, count: int, images: Path | None) -> None:
    """Write JPEG files of quality 90 and ``size`` x ``size`` pixels.

    Args:
        folder (Path): Where to.
        size (int): Side in pixels.
        count (int): Number of files.
        images (Path, optional): Folder of real images to scale to ``size``; drawn
            scenes if None.
    """
    dataset = None if images is None else ImageryDataset(str(images))
    for number in range(count):
        if dataset is None:
            scene = make_scene(size, number)
        else:
            path = dataset.get_data_info(number * len(dataset) // count)['img_path']
            pixels = load_image(path, Reading(size=size))
            scene = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        file = folder / f'{number:04d}.jpg'
        cv2.imwrite(str(file), scene, [cv2.IMWRITE_JPEG_QUALITY, 90])


def seconds(function: Callable[..., Any], *arguments: Any) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def reference(path: str) -> None:
    """Pillow: decode in full, convert to RGB, resize to 224 x 224 (bicubic)."""
    with Image.open(path) as image:
        image.convert('RGB').resize((SIZE, SIZE), Image.Resampling.BICUBIC)


def measure(dataset: ImageryDataset, rounds: int) -> dict[str, float]:
    """Time pipeline, its stages and the reference, interleaved file by file.

    Args:
        dataset (ImageryDataset): With the whole pipeline.
        rounds (int): Times that every file is loaded, after a first round that
            warms caches.

    Returns:
        dict[str, float]: Median milliseconds of ``pair`` (whole pipeline),
        ``reference``, ``decode`` and ``load`` (decode and resize).
    """
    times: dict[str, list[float]] = defaultdict(list)
    for key in range((rounds + 1) * len(dataset)):
        path = dataset.get_data_info(key % len(dataset))['img_path']
        taken = {
            'pair': seconds(dataset.__getitem__, key),
            'reference': seconds(reference, path),
            'decode': seconds(read_values, path, None, None, SIZE),
            'load': seconds(load_image, path, Reading(size=SIZE)),
        }
        if key >= len(dataset):
            for name, value in taken.items():
                times[name].append(1000 * value)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--image-size', type=int, default=600, help='pixels a side')
    add_json(parser)
    parser.add_argument('--images', type=Path, help='folder of real images to use')
    parser.add_argument('--files', type=int, default=16, help='number of files')
    parser.add_argument('--rounds', type=int, default=10, help='loads of every file')
    arguments = parser.parse_args()

    # One core: neither side may use a pool of threads.
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        write_files(
            Path(folder), arguments.image_size, arguments.files, arguments.images
        )
        file_bytes = statistics.mean(f.stat().st_size for f in Path(folder).iterdir())
        taken = measure(ImageryDataset(folder, pipeline=PIPELINE), arguments.rounds)
    pair = taken['pair']
    result = {
        'pair_ms': pair,
        'reference_ms': taken['reference'],
        'ratio': pair / taken['reference'],
        'pairs_per_s_per_core': 1000 / pair,
        'image_size': arguments.image_size,
        'file_kb': file_bytes / 1000,
        'decode_share': taken['decode'] / pair,
        'resize_share': (taken['load'] - taken['decode']) / pair,
        'augmentation_share': (pair - taken['load']) / pair,
    }
    figures = {name: round(value, 4) for name, value in result.items()}
    report(figures, arguments.json)


if __name__ == '__main__':
    main()
