# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Memory of large predictions, and what is left of those that are killed."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import from_origin
from rasterio.windows import Window

from cmid_mm.configs import build_model, load_config

from .trained_tasks import CONFIGS, TASKS, dump, files

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PLACE = dict(crs='EPSG:32650', transform=from_origin(5e5, 3e6, 0.5, 0.5))

#: Of the images whose memory is compared, in pixels.
SIDES = 4096, 16384
#: Of networks that take seconds for a window; pictures of both are reduced alike.
OTHER_SIDES = 2304, 4608

#: Says the most memory that this program had, not the one that started it.
RUN = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name='__main__')
finally:
    print(open('/proc/self/status').read())
"""


def start(*args: object) -> subprocess.Popen:
    """Start tools/predict.py as a process of its own."""
    command = [sys.executable, '-c', RUN, ROOT / 'tools' / 'predict.py', *args]
    environment = os.environ | {'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    return subprocess.Popen(
        [str(part) for part in command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def peak_memory(process: subprocess.Popen) -> int:
    """Peak resident set in kB of a process that ends well."""
    text, _ = process.communicate()
    assert process.returncode == 0, text
    (line,) = [line for line in text.splitlines() if line.startswith('VmHWM')]
    return int(line.split()[1])


def write_scene(path: Path, side: int, bands: int) -> Path:
    rng = np.random.default_rng(0)
    coarse = rng.integers(1, 256, (bands, 64, -(-side // 16)), np.uint8)
    rows = coarse.repeat(16, axis=1).repeat(16, axis=2)[:, :, :side]
    with rasterio.open(
        path,
        'w',
        driver='GTiff',
        height=side,
        width=side,
        count=bands,
        dtype='uint8',
        tiled=True,
        compress='deflate',
        photometric='MINISBLACK',
        **PLACE,
    ) as target:
        for top in range(0, side, rows.shape[1]):
            height = min(rows.shape[1], side - top)
            window = Window(0, top, side, height)
            target.write(np.roll(rows, top // 7, 2)[:, :height], window=window)
    return path


def save_model(cfg, folder: Path) -> tuple[Path, Path]:
    """The config and a checkpoint of random weights that tell classes apart."""
    torch.manual_seed(0)
    model = build_model(cfg)
    if hasattr(model, 'decode_head'):
        torch.nn.init.normal_(model.decode_head.conv_seg.weight, std=1)
    torch.save(dict(state_dict=model.state_dict(), meta={}), folder / 'model.pth')
    return dump(cfg, folder / 'config.py'), folder / 'model.pth'


@pytest.fixture
def small_model(tmp_path):
    """A network on four bands that sees little and is soon done."""
    cfg = load_config(str(CONFIGS / TASKS['segmentation']))
    cfg.test_dataloader.dataset.pipeline[0] = dict(type='LoadImagery', num_bands=4)
    norm = dict(type='BN')
    cfg.model.data_preprocessor.update(
        type='MultiBandSegPreprocessor', mean=[127.0] * 4, std=[64.0] * 4
    )
    cfg.model.backbone = dict(
        type='ResNet',
        depth=18,
        in_channels=4,
        stem_channels=8,
        base_channels=8,
        num_stages=1,
        strides=(1,),
        dilations=(1,),
        out_indices=(0,),
        norm_cfg=norm,
    )
    cfg.model.decode_head = dict(
        type='FCNHead',
        in_channels=8,
        in_index=0,
        channels=8,
        num_convs=0,
        concat_input=False,
        num_classes=3,
        norm_cfg=norm,
    )
    cfg.model.auxiliary_head = None
    return save_model(cfg, tmp_path)


def test_memory_does_not_grow_with_the_image(small_model, tmp_path):
    peaks = []
    for side in SIDES:
        scene = write_scene(tmp_path / f'{side}.tif', side, 4)
        options = ('--out', tmp_path / 'out', '--window', 512, '--overlap', 64)
        peaks.append(
            peak_memory(start(*small_model, scene, *options, '--probabilities'))
        )
        with rasterio.open(tmp_path / 'out' / f'{side}_prob.tif') as source:
            assert source.shape == (side, side) and source.count == 3
            corner = source.read(window=Window(side - 256, side - 256, 256, 256))
            assert (np.abs(corner.sum(0, dtype=int) - 254) <= 2).all()
    print('segmentation', [peak // 1024 for peak in peaks], 'MiB')
    assert peaks[1] <= 1.1 * peaks[0], peaks


@pytest.mark.parametrize('task', ['change', 'detection'])
def test_memory_of_other_tasks_does_not_grow_either(task, tmp_path):
    cfg = load_config(str(CONFIGS / TASKS[task]))
    cfg.model.backbone.update(stem_channels=8, base_channels=8)
    if task == 'change':
        cfg.model.backbone.update(num_stages=2, strides=(1, 2), dilations=(1, 1))
        cfg.model.backbone.out_indices = (1,)
        cfg.model.decode_head.update(in_channels=16, channels=8)
        options = '--window', 512, '--overlap', 64, '--probabilities'
    else:
        cfg.model.neck.in_channels = [8, 16, 32]
        cfg.model.test_cfg.rpn.update(nms_pre=100, max_per_img=20)
        options = '--overlap', 64, '--score-thr', 0.2
    model = save_model(cfg, tmp_path)
    peaks = []
    for side in OTHER_SIDES:
        dates = 2 if task == 'change' else 1
        scenes = [
            write_scene(tmp_path / f'{side}_{date}.tif', side, 3)
            for date in range(dates)
        ]
        place = '--out', tmp_path / f'out{side}'
        peaks.append(peak_memory(start(*model, *scenes, *place, *options)))
        assert len(files(tmp_path / f'out{side}')) >= 3
    print(task, [peak // 1024 for peak in peaks], 'MiB')
    assert peaks[1] <= 1.1 * peaks[0], peaks


def test_killed_at_any_moment(tmp_path):
    model = save_model(load_config(str(CONFIGS / TASKS['segmentation'])), tmp_path)
    scene = write_scene(tmp_path / 'scene.tif', 900, 3)
    options = ('--window', 96, '--overlap', 32, '--batch-size', 3, '--probabilities')

    def begin(folder):
        return start(*model, scene, '--out', tmp_path / folder, *options)

    peak_memory(begin('whole'))
    expected = files(tmp_path / 'whole')
    assert len(expected) == 4
    moments = random.Random(0)
    for _ in range(3):
        process = begin('out')
        unfinished = tmp_path / 'out' / '.scene.unfinished'
        before = set(unfinished.glob('*.done'))
        # It begins after some seconds; then it has done something, or little more.
        while process.poll() is None and set(unfinished.glob('*.done')) <= before:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        present = files(tmp_path / 'out')
        assert all(name.startswith('.scene.unfinished') for name in present)
        assert set(unfinished.glob('*.done')) > before
    peak_memory(begin('out'))
    assert files(tmp_path / 'out') == expected
    for name in expected:
        whole, part = (tmp_path / folder / name for folder in ('whole', 'out'))
        assert whole.read_bytes() == part.read_bytes(), name
