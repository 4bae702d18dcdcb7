# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Every config with one misspelt key, or one value of a wrong type: told by its place.

By default of a few configs, with ``-m slow`` of all of them.
"""

import copy
import random

import pytest
import torch

from cmid_mm.configs import load_config
from cmid_mm_cli import user_errors
from tests.wrong_settings import (
    CONFIGS,
    ROOT,
    build_section,
    places,
    with_wrong_key,
    with_wrong_type,
)

#: One of each task, quick to build.
SAMPLE = (
    'baselines/mocov2_r18_scenes.py',
    'change_detection/bit_r18_demo.py',
    'classification/resnet18_ucmerced.py',
    'cmid/cmid_r18_demo.py',
    'detection/oriented-rcnn_r18_dota.py',
    'segmentation/upernet_r18_dubai.py',
)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Random weights are not needed."""
    for name in ('kaiming_uniform_', 'normal_', 'uniform_', 'trunc_normal_'):
        monkeypatch.setattr(torch.nn.init, name, lambda tensor, *a, **k: tensor)


def message_of(cfg, path) -> str:
    """What a command says about a config."""

    @user_errors
    def main():
        config = cfg  # where commands have it
        build_section(config, path)

    with pytest.raises(SystemExit) as caught:
        main()
    return str(caught.value.code)


def check(name: str, each: bool) -> int:
    """Try wrong settings of a config, of each part or of one; returns how many."""
    rng = random.Random(name)
    original = load_config(str(ROOT / name))
    found = places(original)
    assert found
    tried = 0
    for place in found if each else rng.sample(found, min(4, len(found))):
        cfg = copy.deepcopy(original)
        wrong, right = with_wrong_key(cfg, place, rng)
        message = message_of(cfg, place.path)
        assert message.startswith(f'error: {place.path} ('), message
        assert f'unknown key {wrong!r}; did you mean {right!r}?' in message
        assert '\n' not in message
        tried += 1
        cfg = copy.deepcopy(original)
        key = with_wrong_type(cfg, place, rng)
        if key is not None:
            message = message_of(cfg, place.path)
            assert message.startswith(f'error: {place.path} ('), message
            assert f'{key}=' in message and 'expected' in message
            tried += 1
    return tried


@pytest.mark.parametrize('name', SAMPLE)
def test_wrong_settings_of_a_config(name):
    assert check(name, each=False) > 1


@pytest.mark.parametrize('name', ['channels', 'backbone'])
def test_wrong_setting_of_an_encoder_that_is_told_its_bands(name):
    cfg = load_config(str(ROOT / 'cmid/cmid_r50_sentinel1.py'))
    encoder = cfg.model.encoder
    encoder[name[:-1]] = encoder.pop(name)
    message = message_of(cfg, 'model.encoder')
    assert message.startswith('error: model.encoder (MaskedEncoder): ')
    assert f'unknown key {name[:-1]!r}; did you mean {name!r}?' in message


@pytest.mark.slow
def test_wrong_settings_of_all_configs(capsys):
    tried = {name: check(name, each=True) for name in CONFIGS}
    assert len(tried) == len(CONFIGS) >= 99 and min(tried.values()) > 0
    with capsys.disabled():
        print(f'\n{sum(tried.values())} wrong settings in {len(tried)} configs')
