# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS

from cmid_mm.configs import load_config
from cmid_mm.engine.run_length import set_run_length


def lengths(cfg):
    """What the schedulers count, of each."""
    names = ('begin', 'end', 'T_max', 'milestones')
    return [[s[name] for name in names if name in s] for s in cfg.param_scheduler]


@pytest.mark.parametrize(
    ('config', 'length', 'expected'),
    [
        # Warm-up 10 of 200 epochs.
        ('cmid/cmid_r50_millionaid', 20, [[1], [1, 20]]),
        ('cmid/cmid_r50_millionaid', 400, [[20], [20, 400]]),
        ('cmid/cmid_r50_millionaid', 5, [[1], [1, 5]]),
        ('cmid/cmid_r50_millionaid', 1, [[0, 1]]),  # no room for a warm-up
        ('baselines/mae_vit-b_millionaid', 10, [[2], [2, 10]]),
        # Warm-up 500 iterations, steps after 8 and 11 of 12 epochs.
        ('detection/oriented-rcnn_r50_dota', 36, [[1500], [36, [24, 33]]]),
        ('detection/oriented-rcnn_r50_dota', 3, [[125], [3, [2, 3]]]),
        ('segmentation/upernet_swin-b_potsdam', 25, [[50], [25]]),
        ('change_detection/bit_r50_cdd', 20, [[20]]),
        ('classification/resnet50_aid', 40, [[1], [1, 40]]),
    ],
)
def test_schedules_follow_the_epochs(config, length, expected):
    cfg = load_config(f'cmid_mm::{config}.py')
    set_run_length(cfg, max_epochs=length)
    assert cfg.train_cfg.max_epochs == length
    assert lengths(cfg) == expected
    for part in (cfg.train_cfg.get('val_interval', 1), cfg.default_hooks.checkpoint):
        assert (part if isinstance(part, int) else part.interval) <= length


@pytest.mark.parametrize(
    ('config', 'length', 'expected'),
    [
        ('segmentation/upernet_r18_demo', 30, [[2], [2, 30]]),
        ('segmentation/upernet_r18_demo', 1500, [[100], [100, 1500]]),
        # One iteration would leave the rate where a warm-up starts.
        ('segmentation/upernet_r18_demo', 3, [[1, 3]]),
        ('classification/resnet50_fewshot_ucmerced', 200, [[5], [5, 200]]),
    ],
)
def test_schedules_follow_the_iterations(config, length, expected):
    cfg = load_config(f'cmid_mm::{config}.py')
    set_run_length(cfg, max_iters=length)
    assert cfg.train_cfg.max_iters == length
    assert lengths(cfg) == expected
    assert cfg.train_cfg.val_interval <= length
    assert cfg.default_hooks.checkpoint.interval <= length
    assert cfg.default_hooks.logger.interval <= length


def rates(cfg, steps):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedulers = [
        PARAM_SCHEDULERS.build(dict(scheduler, optimizer=optimizer))
        for scheduler in cfg.param_scheduler
    ]
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return found


def test_rates_keep_their_shape():
    short = Config(
        dict(
            train_cfg=dict(max_iters=100),
            param_scheduler=[
                dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=10),
                dict(type='CosineAnnealingLR', by_epoch=False, begin=10, T_max=90),
            ],
        )
    )
    before = rates(short, 100)
    set_run_length(short, max_iters=1000)
    after = rates(short, 1000)
    assert after[::10] == pytest.approx(before, abs=0.1)
    assert after[99] == pytest.approx(1) and after[-1] < 1e-4


def test_options_at_the_top_of_the_config_stand_beside_it():
    cfg = load_config('cmid_mm::cmid/cmid_r18_demo.py')
    set_run_length(cfg, max_epochs=2, options=['load_from', 'resume'])
    assert cfg.train_cfg.max_epochs == 2
    with pytest.raises(ValueError, match='--cfg-options param_scheduler sets it'):
        set_run_length(cfg, max_epochs=2, options=['param_scheduler'])


def test_our_hooks_look_within_the_run():
    cfg = load_config('cmid_mm::cmid/cmid_r50_millionaid.py')
    set_run_length(cfg, max_epochs=3)
    intervals = {hook.type: hook.get('interval') for hook in cfg.custom_hooks}
    assert intervals['ReconstructionHook'] == 3
    assert cfg.default_hooks.logger.interval == 50  # iterations, not epochs


@pytest.mark.parametrize(
    ('config', 'given', 'message'),
    [
        ('cmid_r18_demo', dict(max_epochs=2, max_iters=2), 'give one of them'),
        ('cmid_r18_demo', dict(max_epochs=0), 'at least 1, got 0'),
        ('cmid_r18_demo', dict(max_iters=9), r'counts epochs.*give --max-epochs'),
        (
            'cmid_r18_demo',
            dict(max_epochs=2, options=['model.momentum', 'param_scheduler.1.end']),
            r'--cfg-options param_scheduler\.1\.end sets it',
        ),
        (
            'cmid_r18_demo',
            dict(max_epochs=2, options=['train_cfg.max_epochs']),
            r'--cfg-options train_cfg\.max_epochs sets it',
        ),
    ],
)
def test_contradictions_are_refused(config, given, message):
    cfg = load_config(f'cmid_mm::cmid/{config}.py')
    with pytest.raises(ValueError, match=message):
        set_run_length(cfg, **given)
    assert cfg.train_cfg.max_epochs == 4
    set_run_length(cfg, options=['train_cfg.max_epochs'])  # nothing to scale
    with pytest.raises(ValueError, match='no train_cfg.max_iters to scale'):
        set_run_length(Config(dict(model={})), max_iters=3)
