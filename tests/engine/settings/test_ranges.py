# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import math
import re

import pytest
from mmengine.config import Config
from mmpretrain.registry import MODELS

from cmid_mm.configs import build_model, load_config
from cmid_mm.engine.settings import check_settings
from cmid_mm.overrides import merge_options


@pytest.fixture(scope='module')
def scenes():
    return load_config('configs/cmid/cmid_r18_scenes.py')


@pytest.mark.parametrize(
    ('path', 'value', 'expected'),
    [
        ('train_cfg.max_epochs', 0, 'a whole number of at least 1'),
        ('randomness.seed', 'abc', 'a whole number of at least 0'),
        ('randomness.seed', -1, 'a whole number of at least 0'),
        ('optim_wrapper.optimizer.lr', '1e', 'a number of at least 0'),
        ('optim_wrapper.optimizer.lr', float('inf'), 'a number of at least 0'),
        ('optim_wrapper.accumulative_counts', 0, 'a whole number of at least 1'),
        ('optim_wrapper.accumulative_counts', True, 'a whole number of at least 1'),
        ('train_dataloader.num_workers', 'abc', 'a whole number of at least 0'),
        ('train_dataloader.batch_size', 2.5, 'a whole number of at least 1'),
        ('auto_scale_lr.base_batch_size', 0, 'a whole number of at least 1'),
        ('env_cfg.dist_cfg.timeout', -3, 'a number above 0'),
        ('log_processor.window_size', 0, 'a whole number of at least 1'),
        ('param_scheduler.0.end', 'abc', 'a whole number of at least 1'),
        ('train_cfg.val_begin', -1, 'a whole number of at least 0'),
        ('log_level', 'FOO', 'DEBUG, INFO, WARNING, ERROR, CRITICAL or a number'),
        ('optim_wrapper.optimizer.betas', (0.9, 1.5, 0.9), 'numbers of at least 0'),
        ('optim_wrapper.optimizer.betas', 0.9, 'numbers of at least 0'),
        ('default_hooks.checkpoint.interval', 0, 'a whole number of at least 1, or'),
        ('default_hooks.checkpoint.interval', -2, 'a whole number of at least 1, or'),
        ('default_hooks.checkpoint.max_keep_ckpts', 0, 'a whole number of at least'),
        ('default_hooks.checkpoint.save_begin', -1, 'a whole number of at least 0'),
        ('default_hooks.logger.interval', 0, 'a whole number of at least 1, or'),
        ('default_hooks.visualization.interval', 0, 'a whole number of at least 1'),
        ('val_evaluator.iou_metrics', ['mIoU', 'mIou'], 'mIoU, mDice or mFscore'),
        (
            'model.encoder.backbone.out_indices',
            (2, 1),
            'numbers of stages, the lowest first, each once',
        ),
        ('model.encoder.backbone.out_indices', (1, 1), 'numbers of stages, the lowest'),
        ('train_dataloader.dataset.indices', 0, 'how many images to take'),
        ('train_dataloader.dataset.indices', [], 'how many images to take'),
    ],
)
def test_a_value_out_of_range_is_told_by_its_key(scenes, path, value, expected):
    cfg = scenes.copy()
    check_settings(cfg)
    cfg.merge_from_dict({path: value})
    message = re.escape(f'{path}={value!r}: expected {expected}')
    with pytest.raises(ValueError, match=message):
        check_settings(cfg)


@pytest.mark.parametrize('form', [list, tuple])
@pytest.mark.parametrize(
    ('path', 'value'),
    [
        ('model.heads.assignment.teacher_temperature', (0.02, 0.04)),
        ('val_evaluator.iou_metrics', ('mIoU', 'mDice')),
    ],
)
def test_a_list_is_as_good_as_a_tuple(scenes, path, value, form):
    # YAML, JSON and --cfg-options [a,b] have lists alone.
    cfg = scenes.copy()
    cfg.merge_from_dict({path: form(value)})
    check_settings(cfg)
    MODELS.build(cfg.model.heads.assignment)
    cfg.merge_from_dict({path: form(value[:1]) + form([0])})
    with pytest.raises(ValueError, match=path.rpartition('.')[2]):
        check_settings(cfg)


@pytest.mark.parametrize(
    ('hook', 'wrong'),
    [
        ('VerifiedCheckpointHook', dict(max_failures=-1)),
        ('StepGuardHook', dict(max_in_a_row=0)),
        ('StepGuardHook', dict(keep=-1)),
        ('PreemptionHook', dict(patience=9)),
        ('ThroughputHook', dict(window=0)),
        ('UnreadableImagesHook', dict(interval=0)),
        ('ReconstructionHook', dict(interval=0)),
        ('FeatureEvaluationHook', dict(interval=0)),
        ('DenseEvaluationHook', dict(interval=0)),
        ('CollapseHook', dict(interval=0)),
        ('CollapseHook', dict(images=1)),
        ('CollapseHook', dict(min_std=-1.0)),
        ('CollapseHook', dict(min_rank=-1.0)),
        ('LogHistoryHook', dict(keep=0)),
    ],
)
def test_a_hook_is_told_by_its_place(scenes, hook, wrong):
    cfg = scenes.copy()
    cfg.custom_hooks = [dict(type=hook, **wrong)]
    ((name, value),) = wrong.items()
    message = rf'^custom_hooks\.0 \({hook}\): {name}={value}: expected '
    with pytest.raises(ValueError, match=message):
        check_settings(cfg)


@pytest.mark.parametrize(
    ('path', 'value', 'expected'),
    [
        ('decode_head.loss_decode.0.loss_weight', math.inf, 'a number of at least 0'),
        ('test_cfg.mode', 'slid', 'whole or slide'),
    ],
)
def test_a_value_of_mmseg_out_of_range(path, value, expected):
    cfg = Config(
        dict(
            model=dict(
                type='EncoderDecoder',
                decode_head=dict(loss_decode=[dict(loss_weight=1.0)]),
                test_cfg=dict(mode='whole'),
            )
        )
    )
    check_settings(cfg)
    cfg.merge_from_dict({f'model.{path}': value})
    message = re.escape(f'model.{path}={value!r}: expected {expected}')
    with pytest.raises(ValueError, match=message):
        check_settings(cfg)


@pytest.mark.parametrize('path', ['auto_scale_lr.enable', 'randomness.deterministic'])
def test_a_switch_is_no_text(scenes, path):
    cfg = scenes.copy()
    cfg.merge_from_dict({path: 'maybe'})
    message = f"^{path}='maybe' is of type str, expected bool"
    with pytest.raises(ValueError, match=message):
        check_settings(cfg)


@pytest.mark.parametrize(
    ('path', 'nearest'),
    [
        ('auto_scale_lr.enabl', 'enable'),
        ('train_dataloader.batchsize', 'batch_size'),
        ('env_cfg.cudnn_benchmrk', 'cudnn_benchmark'),
        ('env_cfg.mp_cfg.start_method', 'mp_start_method'),
        ('randomness.sed', 'seed'),
    ],
)
def test_a_key_that_mmengine_would_leave_unseen(scenes, path, nearest):
    cfg = scenes.copy()
    cfg.merge_from_dict({path: True})
    place, _, key = path.rpartition('.')
    message = f'^{place}: unknown key {key!r}; did you mean {nearest!r}'
    with pytest.raises(ValueError, match=message):
        check_settings(cfg)


def test_a_single_scheduler_and_wrapped_data_sets(scenes):
    cfg = scenes.copy()
    cfg.param_scheduler = dict(type='LinearLR', end=0)
    with pytest.raises(ValueError, match=r'^param_scheduler\.end=0: '):
        check_settings(cfg)
    cfg.param_scheduler.end = 1
    dataset = dict(type='RepeatDataset', dataset=dict(indices=0))
    cfg.merge_from_dict({'train_dataloader.dataset': dataset})
    place = r'train_dataloader\.dataset\.dataset\.indices=0'
    with pytest.raises(ValueError, match=place):
        check_settings(cfg)
    merge_options(cfg, {'train_dataloader.dataset.dataset.indices': [3, 1]})
    check_settings(cfg)


@pytest.mark.parametrize(
    ('name', 'value'),
    [('mean', [0.485, 0.456, 0.406]), ('std', (0.229, 0.224, 0.225))],
)
def test_statistics_of_the_0_1_scale_are_refused(name, value):
    """Of stock preprocessors too, which take them unseen."""
    statistics = dict(mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4])
    cfg = Config(dict(data_preprocessor=dict(type='SelfSupDataPreprocessor')))
    for values in (statistics, dict(mean=[0.0], std=[255.0])):
        cfg.data_preprocessor.update(values)
        check_settings(cfg)
    cfg.data_preprocessor[name] = value
    message = f'data_preprocessor.{name}=.*of pixels in 0-255'
    with pytest.raises(ValueError, match=message):
        check_settings(cfg)


def test_what_is_measured_may_be_set_to_none(scenes):
    """What a config inherits cannot be left out otherwise."""
    cfg = scenes.copy()
    cfg.model.heads.reconstruction.in_channels = None
    check_settings(cfg)
    head = build_model(cfg).heads['reconstruction']
    assert head.decoder[0].in_channels == 512
    cfg.model.heads.contrastive.hidden_channels = None
    with pytest.raises(ValueError, match='contrastive.*hidden_channels=None'):
        check_settings(cfg)
