# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Images, statistics and backbones of different numbers of bands, in every task."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from cmid_mm.configs import load_config, scope_of
from cmid_mm.engine.hooks import InputBandsHook
from tests.toy_baselines import build, toy_baseline

CONFIGS = Path(__file__).parents[3] / 'configs'
#: Config, and the type of data preprocessor that takes any number of bands.
TASKS = {
    'cmid/cmid_r18_demo.py': None,
    'baselines/mocov2_r18_scenes.py': None,
    'classification/resnet18_demo.py': 'ClsDataPreprocessor',
    'segmentation/upernet_r18_demo.py': 'MultiBandSegPreprocessor',
    'detection/oriented-rcnn_r18_demo.py': None,
    'change_detection/bit_r18_demo.py': None,
}


def first_batch(cfg: Config, bands: int, model: object = None) -> None:
    """What the hook says to a batch of images."""
    with scope_of(cfg):
        preprocessor = MODELS.build(
            {**(cfg.get('data_preprocessor') or cfg.model.data_preprocessor)}
        )
    model = model or SimpleNamespace(backbone=torch.nn.Conv2d(bands, 1, 1))
    model.data_preprocessor = preprocessor
    dates = 2 if 'change' in cfg.filename else 1
    images = torch.zeros(2, 2, bands * dates, 8, 8)
    inputs = images if 'cmid/' in cfg.filename else list(images)
    runner = SimpleNamespace(model=model, cfg=cfg)
    hook = InputBandsHook()
    hook.before_train_iter(runner, 0, dict(inputs=inputs))
    hook.before_val_iter(runner, 0, dict(inputs=list(images[0])))


@pytest.mark.parametrize('name', TASKS)
@pytest.mark.parametrize('key', ['mean', 'std'])
def test_statistics_of_other_bands_are_refused(name, key):
    cfg = load_config(str(CONFIGS / name))
    part = cfg.get('data_preprocessor') or cfg.model.data_preprocessor
    part.setdefault('type', TASKS[name])
    if TASKS[name]:
        part.type = TASKS[name]
    part.update(mean=[1.0] * 3, std=[1.0] * 3)
    first_batch(cfg, 3)
    place = 'data_preprocessor' if 'data_preprocessor' in cfg else 'model.data_'
    with pytest.raises(ValueError, match=f'^{place}.*has 3 values.*have 4 bands'):
        first_batch(cfg, 4)
    if TASKS[name]:
        # Others refuse different lengths when they are built.
        part.update(mean=[1.0] * 3, std=[1.0] * 3)
        part[key] = [1.0] * 5
        with pytest.raises(ValueError, match=rf'{key} has 5 values|values of mean'):
            first_batch(cfg, 3)


def test_every_config_has_the_hook():
    for name in TASKS:
        cfg = load_config(str(CONFIGS / name))
        assert cfg.default_hooks.input_bands.type == 'InputBandsHook'


@pytest.mark.parametrize('name', ['mae_vit-tiny_scenes', 'mocov2_r18_scenes'])
def test_a_backbone_of_other_bands_is_refused_by_name(name):
    cfg = toy_baseline(name)
    first_batch(cfg, 3, build(cfg))
    cfg.data_preprocessor.update(mean=[1.0] * 4, std=[1.0] * 4)
    message = r'have 4 bands.*takes 3; set model\.backbone\.in_channels=4'
    with pytest.raises(ValueError, match=message):
        first_batch(cfg, 4, build(cfg))


def test_a_backbone_of_cmid_is_refused_by_its_own_name():
    cfg = load_config(str(CONFIGS / 'cmid/cmid_r18_demo.py'))
    model = SimpleNamespace(student=SimpleNamespace(backbone=torch.nn.Conv2d(4, 1, 1)))
    with pytest.raises(ValueError, match=r'model\.encoder\.backbone\.in_channels=3'):
        first_batch(cfg, 3, model)
