# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Contradictions between settings: each told by its keys; none in what is shipped."""

import copy
import re

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from cmid_mm.configs import load_config
from cmid_mm.engine.settings import check_settings, faults_of_settings
from tests.end_to_end.pretraining import toy_run
from tests.test_wrong_settings import SAMPLE
from tests.wrong_settings import CONFIGS, ROOT

VIEWS = 'train_dataloader.dataset.pipeline.1'
MASKS = 'train_dataloader.dataset.pipeline.3'
SLIDE = dict(mode='slide', crop_size=(64, 64), stride=(65, 64))


#: Changes of a run of the tests, and how the error begins.
FAULTS = [
    # Settings of this package's classes, each by itself.
    (
        {'model.heads.contrastive.temprature': 0.1},
        "model.heads.contrastive (MoCoHead): unknown key 'temprature'; did you mean"
        " 'temperature'?",
    ),
    (
        {'model.encoder.token_stdd': 0.1},
        "model.encoder (MaskedEncoder): unknown key 'token_stdd'; did you mean ",
    ),
    (
        {'train_dataloader.sampler.shufle': True},
        "train_dataloader.sampler (ResumableSampler): unknown key 'shufle'; did you"
        " mean 'shuffle'?",
    ),
    (
        {'train_cfg.max_epoch': 3},
        "train_cfg (ResumableTrainLoop): unknown key 'max_epoch'; did you mean "
        "'max_epochs'?",
    ),
    (
        {'model.heads.assignment.student_temperature': 0},
        'model.heads.assignment (AssignmentHead): student_temperature=0: expected '
        'a number above 0',
    ),
    (
        {'model.heads.assignment.teacher_temperature': (0.04, -1)},
        'model.heads.assignment (AssignmentHead): teacher_temperature=(0.04, -1): '
        'expected a number above 0, for each of the two',
    ),
    (
        {'model.heads.assignment.center_momentum': 2},
        'model.heads.assignment (AssignmentHead): center_momentum=2: expected a '
        'number in 0-1',
    ),
    (
        {'model.heads.assignment.num_prototypes': 1},
        'model.heads.assignment (AssignmentHead): num_prototypes=1: expected a '
        'whole number of at least 2',
    ),
    (
        {'model.heads.assignment.num_matches': 0},
        'model.heads.assignment (AssignmentHead): num_matches=0: expected ',
    ),
    (
        {'model.momentum': float('nan')},
        'model (CMID): momentum=nan is of type float, expected float',
    ),
    (
        {f'{VIEWS}.area': (0.9, 0.5)},
        f'{VIEWS} (ViewPair): area=(0.9, 0.5): expected two numbers above 0, the '
        'lower one first',
    ),
    # Contradictions.
    (
        {'train_dataloader.persistent_workers': True},
        'train_dataloader.persistent_workers=True, but train_dataloader.num_workers'
        '=0: ',
    ),
    (
        {'optim_wrapper.optimizer.lr': 1e6},
        'optim_wrapper.optimizer.lr=1000000.0: expected at most 1 of BlockwiseAdan',
    ),
    (
        {'optim_wrapper.optimizer.lr': None},
        'optim_wrapper.optimizer.lr=None: BlockwiseAdan expects a number; ',
    ),
    (
        {'optim_wrapper.optimizer.betas': (0.9, 0.99)},
        'optim_wrapper.optimizer.betas=(0.9, 0.99): BlockwiseAdan expects 3 numbers, '
        'such as its default (',
    ),
    (
        {'optim_wrapper.optimizer': dict(_delete_=True, type='AdamW', betas=(0, 0, 0))},
        'optim_wrapper.optimizer.betas=(0, 0, 0): AdamW expects 2 numbers, ',
    ),
    (
        {'default_hooks.checkpoint.save_best': 'auto'},
        "default_hooks.checkpoint.save_best='auto', but the config has no val_data",
    ),
    (
        {'custom_hooks': [dict(type='EarlyStoppingHook', monitor='a')]},
        "custom_hooks.0.monitor='a', but the config has no val_dataloader and ",
    ),
    (
        {'default_hooks.checkpoint.save_best': 'auto', 'train_cfg.val_begin': 4}
        | {'val_dataloader': dict(batch_size=1), 'val_evaluator': dict(type='F')},
        "default_hooks.checkpoint.save_best='auto', but train_cfg.val_begin=4 is ",
    ),
    (
        {'train_cfg': dict(_delete_=True, by_epoch=False, max_iters=9)}
        | {'param_scheduler': None, 'default_hooks.checkpoint.by_epoch': True},
        'default_hooks.checkpoint (CheckpointHook) counts epochs, but train_cfg.max_',
    ),
    (
        {'train_cfg': dict(_delete_=True, by_epoch=False, max_iters=9)}
        | {'param_scheduler': None}
        | {'custom_hooks': [dict(type='ReconstructionHook')]},
        'custom_hooks.0 (ReconstructionHook) counts epochs, but train_cfg.max_iters=9',
    ),
    (
        {'param_scheduler.0.end': 4},
        'param_scheduler.0 (LinearLR): end=4, but train_cfg.max_epochs=3: the '
        'warm-up is longer than the run; ',
    ),
    (
        {'param_scheduler.1.begin': 3},
        'param_scheduler.1 (CosineAnnealingLR): begin=3 and end=3: ',
    ),
    (
        {'train_cfg': dict(_delete_=True, by_epoch=False, max_iters=9)}
        | {'param_scheduler.0.convert_to_iter_based': False},
        'param_scheduler.0 (LinearLR) counts epochs, but train_cfg.max_iters=9',
    ),
    (
        {'model.heads.contrastive.start_epoch': 3},
        'model.heads.contrastive.start_epoch=3, but train_cfg.max_epochs=3: ',
    ),
    (
        {'train_cfg': dict(_delete_=True, by_epoch=False, max_iters=9)}
        | {'model.heads.contrastive.start_epoch': 1},
        'model.heads.contrastive.start_epoch=1, but train_cfg.max_iters=9: ',
    ),
    (
        {f'{MASKS}.size': 32},
        f'{MASKS} (MaskPair): size=32, but {VIEWS} (ViewPair) has size=64: ',
    ),
    (
        {f'{MASKS}.patch_size': 2},
        f'{MASKS} (MaskPair): patch_size=2, but model.encoder.stride=4: ',
    ),
    (
        {f'{MASKS}.ratio': 0.0},
        f'{MASKS} (MaskPair): ratio=0.0 and share=1.0 hide nothing, ',
    ),
    (
        {f'{VIEWS}.size': 72, f'{MASKS}.size': 72, f'{MASKS}.patch_size': 8}
        | {'model.heads.reconstruction.stride': 32},
        f'{VIEWS} (ViewPair): size=72, but model.heads.reconstruction.stride=32: ',
    ),
    (
        {f'{VIEWS}.num_crops': 2, 'model.heads.contrastive': None},
        f'{VIEWS} (ViewPair): num_crops=2, but no head of model.heads reads ',
    ),
    (
        {'model.heads.assignment.stage': -2},
        'model.heads.assignment.stage=-2, but the backbone gives 1 feature map(s) ',
    ),
    (
        {'data_preprocessor.std': [50.0] * 4},
        'data_preprocessor.mean has 3 values and data_preprocessor.std 4: ',
    ),
    (
        {'train_dataloader.dataset.pipeline.0.num_bands': 4},
        'data_preprocessor.mean has 3 values, but train_dataloader.dataset.pipeline'
        '.0 (LoadImagery) loads 4 bands',
    ),
    (
        {'model.encoder.backbone.in_channels': 4},
        'model.encoder.backbone.in_channels=4, but data_preprocessor.mean has 3 ',
    ),
    (
        {'train_dataloader.batch_size': 1}
        | {'model.heads.contrastive': dict(_delete_=True, type='BYOLHead')},
        'train_dataloader.batch_size=1, but the BatchNorm of model.heads.contrasti',
    ),
    (
        {'train_dataloader.batch_size': 1}
        | {'model.heads.contrastive': dict(queue_size=0, in_batch=True)},
        'train_dataloader.batch_size=1, but model.heads.contrastive (MoCoHead) has',
    ),
    (
        {'model': dict(_delete_=True, type='MoCo', queue_len=3)},
        'model.queue_len=3, but the batch of all processes is 2 ',
    ),
    (
        {'model': dict(_delete_=True, type='FlexibleMoCo', queue_len=0)},
        'model.queue_len=0: expected a whole number of at least 1',
    ),
    (
        {'train_cfg': dict(_delete_=True, by_epoch=False, max_iters=9)}
        | {'optim_wrapper.accumulative_counts': 10},
        'optim_wrapper.accumulative_counts=10, but train_cfg.max_iters=9: ',
    ),
    (
        {'train_dataloader.drop_last': False},
        'train_dataloader.drop_last is not True, but train_cfg.type=Resu',
    ),
    (
        {'train_dataloader.sampler.type': 'DefaultSampler'},
        'train_dataloader.sampler.type=DefaultSampler, but train_cfg.type=Resu',
    ),
    (
        {'model': dict(_delete_=True, type='EncoderDecoder', test_cfg=SLIDE)},
        'model.test_cfg.stride=(65, 64), but model.test_cfg.crop_size=(64, 64): ',
    ),
    (
        {
            'model': dict(
                _delete_=True,
                type='EncoderDecoder',
                decode_head=dict(num_classes=4),
                auxiliary_head=[dict(num_classes=5)],
            )
        },
        'model.decode_head.num_classes=4, model.auxiliary_head.0.num_classes=5: ',
    ),
    (
        {
            'model': dict(
                _delete_=True,
                type='EncoderDecoder',
                auxiliary_head=[
                    dict(num_classes=3, loss_decode=dict(class_weight=[1.0, 2.0]))
                ],
            )
        },
        'model.auxiliary_head.0.loss_decode.class_weight has 2 values, but ',
    ),
    (
        {'optim_wrapper.optimizer': dict(_delete_=True, type='AdmW', lr=0.1)},
        "optim_wrapper.optimizer: there is no type 'AdmW'; did you mean 'AdamW'?",
    ),
    (
        {
            'model': dict(
                _delete_=True,
                type='ImageClassifier',
                head=dict(topk=(1, 5), num_classes=4),
            )
        },
        'model.head.topk=(1, 5), but model.head.num_classes=4: ',
    ),
    (
        {
            'model.encoder': dict(
                _delete_=True,
                type='VisibleEncoder',
                backbone=dict(type='VisibleResNet', depth=18),
            )
        },
        'model.heads.reconstruction.hidden_channels=None, but ',
    ),
    (
        {
            'model.heads.spread': dict(type='SpreadHead'),
            'train_dataloader.batch_size': 1,
        },
        'train_dataloader.batch_size=1, but model.heads.spread (SpreadHead) ',
    ),
]


@pytest.mark.parametrize(
    'name',
    [
        name
        if name in SAMPLE or name.startswith('cmid/')
        else pytest.param(name, marks=pytest.mark.slow)
        for name in CONFIGS
    ],
)
def test_shipped_configs_have_no_fault(name):
    assert list(faults_of_settings(load_config(str(ROOT / name)))) == []


@pytest.fixture
def cfg(tmp_path):
    cfg = toy_run(tmp_path / 'images', tmp_path / 'work')
    assert list(faults_of_settings(cfg)) == []
    return cfg


@pytest.mark.parametrize(('changes', 'message'), FAULTS)
def test_a_fault_is_told_by_its_keys(cfg, changes, message):
    cfg.merge_from_dict(copy.deepcopy(changes))  # merging empties _delete_
    found = list(faults_of_settings(cfg))
    assert any(fault.startswith(message) for fault in found), found
    with pytest.raises(ValueError, match='^' + re.escape(found[0])):
        check_settings(cfg)


def test_a_runner_refuses_what_the_commands_refuse(cfg):
    """What only a training reads, when it trains: the same runner may test."""
    cfg.train_dataloader.drop_last = False
    runner = Runner.from_cfg(cfg)
    with pytest.raises(ValueError, match='^train_dataloader.drop_last is not True'):
        runner.train()
    cfg.model.momentum = 2
    with pytest.raises(ValueError, match='^model.*momentum=2'):
        Runner.from_cfg(cfg)


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('param_scheduler', [dict(type='LinearLR', start_factor=0.1, end=1000)]),
        ('param_scheduler', [dict(type='LinearLR', start_factor='a')]),
        ('train_cfg.max_epochs', 0),
        ('optim_wrapper.optimizer.lr', 1e6),
        ('train_dataloader.dataset.max_unredable', 0.1),
    ],
)
def test_settings_of_a_training_do_not_refuse_a_test(cfg, key, value):
    cfg.merge_from_dict({key: value})
    with pytest.raises(ValueError, match=key.rpartition('.')[0]):
        check_settings(cfg)
    check_settings(cfg, trains=False)


def test_classes_and_variables():
    """A class itself as a type; what nothing reads may be anything."""
    head = dict(type='MoCoHead', in_channels=8, temperature=-1)
    assert list(faults_of_settings(Config(dict(mine=head)))) == []
    (fault,) = faults_of_settings(Config(dict(model=dict(neck=head))))
    assert fault.startswith('model.neck (MoCoHead): temperature=-1: expected a number')
