# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import inspect
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import Runner

import cmid_mm
from cmid_mm.configs import build_model, load_config
from cmid_mm.overrides import merge_options, resolve_path

from .wrong_settings import CONFIGS


def config(**changes):
    return Config(
        dict(
            model=dict(encoder=dict(backbone=dict(type='ResNet', depth=18))),
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=1)),
            train_dataloader=dict(batch_size=2, dataset=dict(type='D')),
            param_scheduler=[dict(type='LinearLR')],
            tta_pipeline=[
                dict(type='mmdet.Resize', scale=8),
                dict(type='RandomFlip', prob=0.5),
                dict(type='RandomFlip', prob=0.5, direction='vertical'),
            ],
            **changes,
        )
    )


def test_options_override_and_may_add_a_last_name():
    cfg = config()
    options = {
        'train_dataloader.batch_size': 8,
        'optim_wrapper.clip_grad': dict(max_norm=1.0),
        'param_scheduler.0.end': 3,
        'resume': True,
    }
    merge_options(cfg, options)
    assert cfg.train_dataloader.batch_size == 8
    assert cfg.optim_wrapper.clip_grad.max_norm == 1.0
    assert cfg.param_scheduler[0].end == 3
    assert cfg.resume is True


def test_parts_of_lists_are_named_by_type():
    cfg = config()
    merge_options(
        cfg, {'tta_pipeline.Resize.scale': 16, 'param_scheduler.LinearLR.end': 3}
    )
    assert [step.get('scale') for step in cfg.tta_pipeline] == [16, None, None]
    assert cfg.param_scheduler == [dict(type='LinearLR', end=3)]
    merge_options(cfg, {'tta_pipeline.Resize': dict(keep_ratio=True)})
    assert cfg.tta_pipeline[0] == dict(type='mmdet.Resize', scale=16, keep_ratio=True)
    merge_options(cfg, {'tta_pipeline.2.prob': 0.25})
    assert [step.get('prob') for step in cfg.tta_pipeline] == [None, 0.5, 0.25]


def test_none_takes_parts_out_of_lists():
    cfg = config()
    options = {
        'tta_pipeline.Resize': None,
        'tta_pipeline.1': None,
        'tta_pipeline.2.prob': 0.1,
        'param_scheduler': None,
    }
    merge_options(cfg, options)
    assert [step.direction for step in cfg.tta_pipeline] == ['vertical']
    assert cfg.tta_pipeline[0].prob == 0.1
    assert cfg.param_scheduler is None


@pytest.mark.parametrize(
    ('path', 'message'),
    [
        (
            'tta_pipeline.RandomFlip.prob',
            'several parts there are .* of 1, 2',
        ),
        ('tta_pipeline.Risize.scale', "no 'Risize' there; did you mean 'Resize'"),
        ('modle.momentum', "no 'modle' there; did you mean 'model'"),
        ('model.encodr.stride', "no 'encodr' there; did you mean 'encoder'"),
        ('batch_size', "no 'batch_size' there"),
        ('param_scheduler.4.end', "no '4' there"),
        ('train_dataloader.batch_size.x', "no 'x' there"),
    ],
)
def test_option_that_leads_nowhere_is_named(path, message):
    with pytest.raises(KeyError, match=message):
        merge_options(config(), {path: 1})


def test_options_that_would_not_be_used_are_refused():
    cfg = config()
    merge_options(cfg, {'data_preprocessor.mean': [1]})
    cfg.model.data_preprocessor = dict(mean=[2])
    with pytest.raises(KeyError, match=r'set model\.data_preprocessor\.mean'):
        merge_options(cfg, {'data_preprocessor.mean': [3]})
    merge_options(cfg, {'model.data_preprocessor.mean': [3]})
    assert cfg.model.data_preprocessor.mean == [3]
    with pytest.raises(KeyError, match='options launcher: give it as --launcher'):
        merge_options(cfg, {'launcher': 'pytorch'})


def test_variables_of_a_config_are_refused():
    """They were used when the file was read: overriding one would do nothing."""
    cfg = load_config('configs/cmid/cmid_r18_demo.py')
    with pytest.raises(KeyError, match=r'train_cfg\.max_epochs, or use --max-epochs'):
        merge_options(cfg, {'max_epochs': 3})
    pipeline = r'from it: train_dataloader\.dataset\.pipeline\b'
    with pytest.raises(KeyError, match=pipeline):
        merge_options(cfg, {'train_pipeline.MaskPair.ratio': 0.3})


def test_what_may_be_overridden_is_read_by_a_run():
    """Of every config, the names that are accepted are those that the code reads."""
    files = [
        Path(inspect.getfile(Runner)),
        *Path(cmid_mm.__file__).parent.rglob('*.py'),
    ]
    code = '\n'.join(file.read_text() for file in files)
    read = {*re.findall(r"\bcfg(?:\.get\(')?\.?(\w+)", code)}
    read |= {*inspect.signature(Runner.__init__).parameters}
    accepted, refused = set(), set()
    for name in CONFIGS:
        cfg = load_config(f'cmid_mm::{name}')
        for key in cfg:
            try:
                assert resolve_path(cfg, key) == key
                accepted.add(key)
            except KeyError as error:
                assert f'{key!r} is a variable' in str(error)
                refused.add(key)
    assert {'model', 'tta_model', 'prepared_by'} <= accepted <= read
    assert {'max_epochs', 'data_root', 'train_pipeline'} <= refused
    assert not refused & read


def test_packaged_configs_are_found():
    cfg = load_config('mmpretrain::resnet/resnet50_8xb32_in1k.py')
    assert cfg.model.backbone.depth == 50
    assert load_config('cmid_mm::cmid/cmid_r18_demo.py').model.type == 'CMID'


def test_shipped_configs_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = 'configs/cmid/cmid_r18_demo.py'
    assert load_config(name).model.type == 'CMID'
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text("model = dict(type='Mine')")  # the nearer one
    assert load_config(name).model.type == 'Mine'


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('no_such_config.py', 'no_such_config.py does not exist'),
        ('configs/cmid/cmid_r18_demos.py', 'did you mean cmid_r18_demo.py'),
        ('nopackage::a.py', 'package nopackage is not installed'),
        ('mmpretrain::resnet/nothing.py', 'mmpretrain has no resnet/nothing.py'),
    ],
)
def test_missing_configs_are_named(name, message):
    with pytest.raises(FileNotFoundError, match=message):
        load_config(name)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('model = dict(', 'mine.py cannot be read: .*SyntaxError'),
        ('model = 1 / 0', 'mine.py cannot be read: ZeroDivisionError'),
        ("_base_ = './gone.py'", 'mine.py: .*gone.py'),
        ('import os\n', 'mine.py is no config: it sets none of model'),
    ],
)
def test_a_config_that_cannot_be_read_is_named(tmp_path, text, message):
    file = tmp_path / 'mine.py'
    file.write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_config(str(file))
    with pytest.raises(ValueError, match='is a folder; name a file'):
        load_config(str(tmp_path))


def test_bases_of_packages_are_found(tmp_path):
    file = tmp_path / 'mine.py'
    file.write_text(
        "_base_ = 'mmseg::upernet/upernet_r50_4xb4-80k_ade20k-512x512.py'\n"
        'model = dict(backbone=dict(depth=18))\n'
        'copied = _base_.model\n'
    )
    cfg = load_config(str(file))
    assert cfg.model.backbone.depth == 18 and cfg.model.decode_head.type == 'UPerHead'
    assert cfg.copied['_scope_'] == 'mmseg'  # as mmengine marks what was copied
    assert cfg.default_scope == 'mmseg'
    file.write_text(
        "_base_ = 'cmid_mm::_base_/models/cmid_r18.py'\ncopied = _base_.model\n"
    )
    cfg = load_config(str(file))
    assert cfg.model.type == 'CMID' and '_scope_' not in cfg.copied
    assert Config.fromfile(file).copied == cfg.copied
    for base in ('mmseg::upernet/upernet_r51.py', 'nopackage::a.py'):
        file.write_text(f'_base_ = {base!r}\n')
        with pytest.raises(FileNotFoundError, match=f'config {base}'):
            load_config(str(file))


def test_close_names_of_packaged_configs_are_suggested():
    with pytest.raises(FileNotFoundError, match='mean resnet50_8xb32_in1k.py'):
        load_config('mmpretrain::resnet/resnet50_8xb32_in1.py')


def test_built_models_take_maps_smaller_than_their_windows():
    """mmpretrain's Swin refuses them; of other maps nothing changes."""
    swin = dict(
        type='SwinTransformer',
        arch=dict(embed_dims=8, depths=[2], num_heads=[2]),
        window_size=7,
        out_indices=(0,),
    )
    plain = MODELS.build(dict(swin, _scope_='mmpretrain'))
    built = build_model(Config(dict(model=swin, default_scope='mmpretrain')))
    built.load_state_dict(plain.state_dict())
    plain.eval()
    built.eval()
    small, fitting, large = (torch.randn(1, 3, side, side) for side in (24, 28, 44))
    with pytest.raises(AssertionError, match='smaller than the window'):
        plain(small)
    for images in (large, small, fitting):
        (made,) = built(images)
        assert made.shape[-1] == images.shape[-1] // 4 and made.isfinite().all()
        if images is not small:
            assert torch.equal(made, plain(images)[0])
