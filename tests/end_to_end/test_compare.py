# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""A comparison by the command, with the real tools."""

import json
import re
import runpy
from pathlib import Path

import pytest
import torch
import yaml

from cmid_mm.checkpoints import read_checkpoint
from tests.end_to_end.pretraining import toy_run, write_images

CONFIGS = Path(__file__).parents[2] / 'configs'


@pytest.fixture
def spec(tmp_path):
    """CMID, a baseline, random and foreign weights; frozen features and fine-tuning."""
    scenes = tmp_path / 'scenes'
    for label in ('field', 'town'):
        write_images(scenes / label, count=8)
    images = sorted(str(p.relative_to(scenes)) for p in scenes.rglob('*') if p.suffix)
    for name, part in dict(train=images[::2], test=images[1::2]).items():
        (scenes / f'{name}.txt').write_text('\n'.join(part))
    cfg = toy_run('somewhere', tmp_path / 'unused')
    cfg.pop('work_dir')
    cfg.custom_imports = dict(imports=['cmid_mm'])
    cfg.dump(tmp_path / 'cmid.py')
    cfg.custom_hooks = []
    cfg.data_preprocessor.type = 'SelfSupViewPreprocessor'
    cfg.model = dict(
        type='SimCLR',
        backbone=cfg.model.encoder.backbone,
        neck=dict(
            type='NonLinearNeck',
            in_channels=cfg.model.heads.contrastive.in_channels,
            hid_channels=8,
            out_channels=8,
            norm_cfg=dict(type='BN1d'),
        ),
        head=dict(type='ContrastiveHead', loss=dict(type='CrossEntropyLoss')),
    )
    cfg.dump(tmp_path / 'simclr.py')
    task = dict(
        data='scenes',
        metrics={'accuracy/OA': 'OA'},
        config=str(CONFIGS / 'classification' / 'resnet18_demo.py'),
        epochs=2,
        options={
            'train_dataloader.dataset.data_prefix': '',
            'train_dataloader.dataset.fraction': 1.0,
            'train_dataloader.batch_size': 8,
            'val_dataloader.dataset.data_prefix': '',
            'test_dataloader.dataset.data_prefix': '',
            'model.backbone.stem_channels': 8,
            'model.backbone.base_channels': 8,
            'model.head.in_channels': 64,
            'model.head.num_classes': 2,
            'data_preprocessor.num_classes': 2,
        },
    )
    content = dict(
        output=str(tmp_path / 'out'),
        data=dict(scenes=str(scenes)),
        seeds=[0, 1],
        backbones=dict(toy=str(tmp_path / 'cmid.py')),
        pretraining=dict(data=dict(scenes={}), epochs=2),
        methods=dict(
            random={},
            cmid=dict(config=str(tmp_path / 'cmid.py')),
            simclr=dict(config=str(tmp_path / 'simclr.py')),
            one_branch=dict(
                config=str(tmp_path / 'cmid.py'),
                options={
                    'model.heads.reconstruction': None,
                    'model.heads.assignment': None,
                },
            ),
        ),
        tasks=dict(
            features=dict(
                data='scenes',
                options=dict(
                    train_list='train.txt',
                    test_list='test.txt',
                    size=64,
                    num_workers=0,
                ),
                metrics=dict(knn_top1='20-NN'),
            ),
            scenes=task,
        ),
        reference='cmid',
    )
    file = tmp_path / 'spec.yaml'
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


def test_dry_run_and_faults(run, spec, tmp_path, capsys):
    assert run('compare.py', spec, '--dry-run', '--only', 'cmid') is None
    text = capsys.readouterr().out
    assert len(re.findall(r'tools/train\.py', text)) == 4
    assert re.search(
        r'# .*/pretraining\.py: .*/cmid\.py with {"randomness.seed": 1', text
    )
    assert not (tmp_path / 'out').exists()
    for options in ((), ('--dry-run',)):
        gone = run('compare.py', spec, '--data', f'scenes={tmp_path}/gone', *options)
        assert 'data.scenes: folder' in gone and '--data scenes=FOLDER' in gone
    assert 'is no folder' in run('compare.py', spec, '--dry-run', '--output', spec)
    assert "did you mean 'simclr'" in run('compare.py', spec, '--only', 'simclar')
    assert not (tmp_path / 'out').exists()


def test_sigterm_says_how_to_go_on(capfd):
    tool = runpy.run_path(str(CONFIGS.parent / 'tools' / 'compare.py'))
    with pytest.raises(SystemExit) as end:
        tool['stop']()
    assert end.value.code == 143
    assert 'the same command goes on from here' in capfd.readouterr().err


@pytest.mark.slow
def test_from_images_to_the_table(run, spec, tmp_path, capsys):
    assert run('compare.py', spec, '--seeds', '0', '--jobs', '2') is None
    assert '0 of 4 cells are done' in capsys.readouterr().out
    out = tmp_path / 'out'
    report = (out / 'report.md').read_text()
    assert '4 of 8 cells are done' in report
    values = r'[^|]*\| [\d.]+ \[1] \| [\d.]+ \[1] \|'
    for row in ('random | toy | -', 'cmid | toy | scenes', 'simclr | toy | scenes'):
        assert re.search(rf'\| {re.escape(row)} \|{values}', report)
    cell = out / 'scenes' / 'toy' / 'simclr' / 'seed-0'
    record = json.loads((cell / 'record.json').read_text())
    assert record['pretraining']['seconds_per_iteration'] > 0
    # The fine-tuned network began with the backbone that was pre-trained.
    log = (cell / 'scenes.log').read_text()
    assert 'backbone tensors from' in log and 'pretraining/' in log

    seed_1 = out / 'scenes' / 'toy' / 'cmid' / 'seed-1'
    (cell / 'features.json').unlink()
    assert run('compare.py', spec) is None
    assert not (cell / 'features.json').exists()
    assert '8 of 8 cells are done' in (out / 'report.md').read_text()
    whole = read_checkpoint(next((seed_1 / 'pretraining').glob('iter_*.pth')))
    assert any(torch.is_tensor(value) for value in whole['state_dict'].values())
    assert (out / 'results.png').is_file()
