# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Errors of runs in the words of their configs."""

import importlib
import inspect
import logging
import shutil
import sys
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS, HOOKS, MODELS, OPTIMIZERS
from mmengine.runner import Runner
from torch import nn

from cmid_mm.building import WrongSettingError, has_type, setting_types
from cmid_mm.configs import load_config
from cmid_mm.engine.initializers import check_backbones
from cmid_mm.engine.run_length import set_run_length
from cmid_mm.explaining import place_of
from cmid_mm_cli import user_errors
from tests.end_to_end.pretraining import write_images
from tests.toy import toy_config


def message_of(action, cfg: Config) -> str:
    """What a command says that does something with a config."""

    @user_errors
    def main():
        action(cfg)

    with pytest.raises(SystemExit) as caught:
        main()
    return str(caught.value.code)


def build_model(cfg):
    MODELS.build(cfg.model)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        # A part deep within, of another package and of this one.
        (
            {'encoder.backbone.dept': 18},
            "model.encoder.backbone (ResNet): unknown key 'dept'; did you mean "
            "'depth'?",
        ),
        (
            {'heads.contrastive.temprature': 0.1},
            "model.heads.contrastive (MoCoHead): unknown key 'temprature'; did you "
            "mean 'temperature'?",
        ),
        (
            {'momentum': 'high'},
            "model (CMID): momentum='high' is of type str, expected float",
        ),
        (
            {'heads.assignment.num_matches': 2.5},
            'model.heads.assignment (AssignmentHead): num_matches=2.5: expected a '
            'whole number of at least 1',
        ),
        (
            {'momentum': 1.5},
            'model (CMID): momentum=1.5: expected a number in 0-1',
        ),
        (
            {'heads.contrastive.queue_size': 0},
            'model.heads.contrastive (MoCoHead): queue_size=0 and in_batch=False leave',
        ),
        # Other packages assert, or stumble over what they are given.
        ({'encoder.backbone.depth': 19}, 'model.encoder.backbone (ResNet): '),
        (
            {'encoder.backbone.out_indices': (1, 7)},
            'model.encoder.backbone (ResNet): assert max(out_indices)',
        ),
        ({'encoder.backbone.stem_channels': 'x'}, 'model.encoder.backbone (ResNet): '),
        (
            {'heads.contrastive.type': 'MocoHead'},
            "model.heads.contrastive (MocoHead): there is no type 'MocoHead'; did you "
            "mean 'MoCoHead'?",
        ),
        ({'data_preprocessor.mean': [1.0]}, 'model.data_preprocessor (ViewPairP'),
        (
            {'data_preprocessor.mean': [0.485, 0.456, 0.406]},
            'model.data_preprocessor (ViewPairPreprocessor): mean=[0.485, 0.456, 0.40'
            '6]: expected numbers, one for each band, of pixels in 0-255',
        ),
    ],
)
def test_what_is_wrong_in_a_model_is_told_by_its_key(changes, message):
    cfg = Config(dict(model=toy_config()))
    build_model(cfg)
    cfg.merge_from_dict({f'model.{key}': value for key, value in changes.items()})
    text = message_of(build_model, cfg)
    assert text.startswith(f'error: {message}')
    assert '\n' not in text


@pytest.mark.parametrize(
    ('hook', 'changes', 'message'),
    [
        ('checkpoint', dict(intervall=2), "unknown key 'intervall'; did you mean 'int"),
        ('checkpoint', dict(meta={}), "unknown key 'meta'"),
        ('checkpoint', dict(interval='abc'), "interval='abc' is of type str, expected"),
        ('logger', dict(interval=True), 'interval=True is of type bool, expected int'),
    ],
)
def test_settings_of_stock_hooks_are_refused_before_training(hook, changes, message):
    """mmengine's CheckpointHook itself takes any, until the first save."""
    cfg = load_config('cmid_mm::cmid/cmid_r18_demo.py')

    def build_hook(cfg):
        HOOKS.build(cfg.default_hooks[hook])

    build_hook(cfg)
    cfg.default_hooks[hook].update(changes)
    set_run_length(cfg, max_epochs=1)
    kind = cfg.default_hooks[hook].type
    expected = f'error: default_hooks.{hook} ({kind}): {message}'
    assert message_of(build_hook, cfg).startswith(expected)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({}, "missing 1 required positional argument: 'checkpoint'"),
        ({'checkpoint': 5}, 'checkpoint=5 is of type int, expected str'),
        ({'checkpoint': 'x.pth', 'stem': 5}, 'stem=5 is of type int, expected '),
    ],
)
def test_a_wrong_init_cfg_is_told_by_its_key(settings, message):
    init_cfg = {'type': 'PretrainedBackbone', **settings}
    cfg = Config(dict(model=toy_config()))
    cfg.merge_from_dict({'model.encoder.backbone.init_cfg': init_cfg})

    def start(cfg):
        model = MODELS.build(cfg.model)
        check_backbones(model)
        model.init_weights()

    text = message_of(start, cfg)
    assert text.startswith('error: model.encoder.backbone.init_cfg')
    assert message in text


def test_a_folder_that_is_not_there_points_to_the_option():
    cfg = Config(
        dict(
            default_scope='mmpretrain',
            train_dataloader=dict(
                dataset=dict(type='mmpretrain.CustomDataset', data_prefix='nowhere')
            ),
        )
    )
    text = message_of(lambda cfg: DATASETS.build(cfg.train_dataloader.dataset), cfg)
    assert text.startswith('error: train_dataloader.dataset (CustomDataset): ')
    assert 'nowhere' in text and '--data-root' in text


def test_keys_of_parts_that_are_not_registered(tmp_path):
    images = write_images(tmp_path, count=2)
    cfg = Config(
        dict(
            train_dataloader=dict(
                batch_sise=2,
                dataset=dict(type='ImageryDataset', data_root=str(images)),
                sampler=dict(type='ResumableSampler'),
            )
        )
    )

    def build(cfg):
        Runner.build_dataloader(cfg.train_dataloader)

    text = message_of(build, cfg)
    assert text.startswith("error: train_dataloader: unknown key 'batch_sise'")


def test_an_error_of_no_setting_says_where_it_is():
    def run(cfg):
        raise AssertionError('two are not three')

    text = message_of(run, Config())
    assert text.startswith(f'error: AssertionError in {__file__}, line ')
    assert ': two are not three (' in text
    assert message_of(lambda cfg: {}['img'], Config()).startswith('error: KeyError in ')


def test_a_batch_norm_without_values_says_what_to_do():
    def run(cfg):
        nn.BatchNorm1d(2)(torch.zeros(1, 2))

    assert 'set train_dataloader.batch_size higher' in message_of(run, Config())


def test_an_optimiser_of_another_package():
    cfg = Config(dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr='fast'))))

    def build(cfg):
        parameters = list(nn.Linear(1, 1).parameters())
        OPTIMIZERS.build({**cfg.optim_wrapper.optimizer, 'params': parameters})

    text = message_of(build, cfg)
    assert text.startswith('error: optim_wrapper.optimizer (SGD): ')


def test_types_are_taken_strictly_and_sequences_freely():
    types = setting_types(MODELS.get('ViewPairPreprocessor'))
    assert has_type((1, 2.0), types['mean']) and has_type([1], types['mean'])
    assert not has_type('12', types['mean']) and not has_type(3, types['mean'])
    assert has_type(True, types['channels_last'])
    assert not has_type(1, types['channels_last'])


def test_subclasses_are_checked_for_what_they_inherit():
    class Mine(MODELS.get('MoCoHead')):
        def __init__(self, own, **kwargs):
            super().__init__(**kwargs)

    message = "queue_size='big': expected a whole number of at least 0"
    with pytest.raises(WrongSettingError, match=message):
        MODELS.build(dict(type=Mine, own=1, in_channels=8, queue_size='big'))


def test_every_type_of_this_package_is_understood():
    """Signatures whose hints cannot be resolved would stop every run."""
    known = 0
    for registry in (DATASETS, HOOKS, MODELS, OPTIMIZERS):
        for cls in registry.module_dict.values():
            if inspect.isclass(cls) and cls.__module__.startswith('cmid_mm.'):
                known += bool(setting_types(cls))
    assert known > 30


def test_the_place_is_that_with_most_in_common():
    cfg = Config(
        dict(
            a=dict(type='A'),
            b=[dict(type='A', x=1), dict(type='A', x=2)],
        )
    )
    assert place_of(cfg, dict(type='A', x=2, shared=[1])) == 'b.1'
    assert place_of(cfg, dict(type='A', x=3)) == 'a'
    assert place_of(cfg, dict(type='B')) is None
    assert place_of(None, dict(type='A')) is None


def test_an_error_is_told_though_the_log_is_gone(tmp_path, monkeypatch):
    """As the disk that is full, or away, is the cause of many."""
    folder = tmp_path / 'run'
    folder.mkdir()
    handler = logging.FileHandler(folder / 'run.log')
    handler.close()
    shutil.rmtree(folder)
    logger = SimpleNamespace(handlers=[handler])
    monkeypatch.setattr(MMLogger, 'get_current_instance', lambda: logger)

    def fail():
        raise ValueError('told all the same')

    with pytest.raises(SystemExit, match=r'^error: told all the same \('):
        user_errors(fail)()


def test_what_is_done_for_compiled_operators(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmcv._ext', None)

    def action(cfg):
        importlib.import_module('mmcv._ext')

    message = message_of(action, Config())
    assert 'needs mmcv with compiled operators for detection; reinstall it' in message
    assert 'mmcv._ext' in message
