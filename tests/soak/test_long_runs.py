# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Runs of many steps and of many images: what they hold on to is flat."""

import os
from pathlib import Path

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook

from cmid_mm.configs import build_model, load_config
from cmid_mm.engine.launch import fall_back_to_float32
from cmid_mm.engine.quiet_runner import QuietRunner
from cmid_mm.inference import Inferencer
from tests.end_to_end.pretraining import write_images
from tests.inference.tiny_segmentation import write_raster
from tests.toy import toy_config

CONFIGS = Path(__file__).parents[2] / 'configs'
EPOCHS, VALIDATIONS, KEPT = 200, 20, 2
SAMPLES = 200


class GaugeHook(Hook):
    """Takes a sample at the end of each epoch, after the checkpoint."""

    priority = 'LOWEST'

    def __init__(self, gauge):
        self.gauge = gauge

    def after_train_epoch(self, runner):
        self.gauge.take()


def demo_config(folder: Path, steps: int) -> Config:
    """The demo's config with all its hooks, tiny: an epoch of a two-hundredth."""
    for part, count in (('train', steps // EPOCHS), ('test', 4)):
        for scene in ('a', 'b'):
            write_images(folder / part / scene, count, 64)
    cfg = load_config(str(CONFIGS / 'cmid/cmid_r18_demo.py'))
    model = toy_config()
    model.pop('data_preprocessor')
    cfg.model = ConfigDict(model)
    cfg.train_dataloader.batch_size = 2
    cfg.train_dataloader.dataset.data_root = str(folder / 'train')
    for step in cfg.train_dataloader.dataset.pipeline:
        if 'size' in step:
            step.size = 64
    cfg.train_cfg.max_epochs = cfg.param_scheduler[1].end = EPOCHS
    cfg.default_hooks.checkpoint.update(interval=1, max_keep_ckpts=KEPT)
    # Forgetting every thousand steps would let checkpoints swell and shrink.
    cfg.default_hooks.log_history.keep = steps // EPOCHS
    for hook in cfg.custom_hooks:
        if 'interval' in hook:
            hook.interval = EPOCHS // VALIDATIONS
        if hook.type == 'FeatureEvaluationHook':
            hook.size = 64
            for part in ('train', 'test'):
                hook[part] = dict(root=str(folder / part))
    cfg.work_dir = str(folder / 'run')
    fall_back_to_float32(cfg)
    return cfg


@pytest.mark.soak
def test_training(tmp_path, gauge, assert_flat, request):
    steps = request.config.getoption('--soak-steps')
    runner = QuietRunner.from_cfg(demo_config(tmp_path, steps))
    runner.register_hook(GaugeHook(gauge))
    runner.train()
    assert runner.iter == steps // EPOCHS * EPOCHS
    assert len(gauge.samples) == EPOCHS
    assert len(list((tmp_path / 'run').glob('*.pth'))) == KEPT
    assert not list((tmp_path / 'run').rglob('*.part'))
    assert_flat(
        f'training of {runner.iter:,} steps: {EPOCHS} checkpoints, '
        f'{VALIDATIONS} validations'
    )


@pytest.mark.soak
def test_predictions(tmp_path, gauge, assert_flat, request):
    images = request.config.getoption('--soak-images')
    cfg = load_config(str(CONFIGS / 'segmentation/upernet_r18_demo.py'))
    torch.manual_seed(0)
    checkpoint = tmp_path / 'random.pth'
    torch.save(dict(state_dict=build_model(cfg).state_dict(), meta={}), checkpoint)
    inferencer = Inferencer(cfg, checkpoint)

    # Placed and not, whole and in windows, and one of fifty broken.
    kinds = [
        write_raster(tmp_path / 'a.tif', 64, 64),
        write_raster(tmp_path / 'ab.tif', 80, 112),
        write_raster(tmp_path / 'abc.tif', 64, 64, crs=None, transform=None),
    ]
    broken = tmp_path / 'broken.tif'
    broken.write_bytes(kinds[0].read_bytes()[:200])
    names = []
    for number in range(images):
        kind = broken if number % 50 == 49 else kinds[number % 3]
        names.append(tmp_path / 'images' / f'{number:05d}.tif')
        names[-1].parent.mkdir(exist_ok=True)
        os.link(kind, names[-1])
    missed: list[Path] = []
    saved = inferencer.predict_to(
        tmp_path / 'out',
        names,
        batch_size=2,
        window=64,
        on_error=lambda path, error: missed.append(path),
    )
    every = max(1, images // SAMPLES)
    done = 0
    for done, _ in enumerate(saved, 1):
        if done % every == 0:
            gauge.take()
    assert len(missed) == images // 50
    assert done == images - len(missed)
    assert_flat(f'prediction of {images:,} images, {len(missed):,} of them broken')
