# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import argparse
import runpy
from pathlib import Path

import pytest
import torch
import torchvision
from mmpretrain.models import ResNet
from torch import nn

from cmid_mm.checkpoints import inspect_checkpoint, write_checkpoint

ROOT = Path(__file__).parents[2]


def saved(tmp_path, content) -> list[str]:
    torch.save(content, tmp_path / 'a.pth')
    return inspect_checkpoint(tmp_path / 'a.pth')


def test_whole_module(tmp_path):
    network = torchvision.models.resnet18()
    lines = saved(tmp_path, network)
    count = sum(value.numel() for value in network.state_dict().values())
    assert lines[1] == (
        f'  state_dict: 122 tensors, {count:,} numbers, float32, int64, of a whole '
        'module of torchvision.models.resnet.ResNet'
    )
    assert any(
        line.startswith("backbone, source='student': ResNet-18 (width 64, 3 input band")
        and 'ResNet names of torchvision and OpenMMLab' in line
        for line in lines
    )
    assert lines[-1].startswith('left inert, none of it was run: ')
    assert 'torch.nn.modules.conv.Conv2d (20)' in lines[-1]


def test_containers_and_networks(tmp_path):
    state = {f'backbone.{k}': v for k, v in ResNet(18).state_dict().items()}
    state |= {'cls_head.weight': torch.ones(7, 512), 'cls_head.bias': torch.ones(7)}
    content = dict(
        epoch=200,
        model=state,
        optimizer=dict(state={}, param_groups=[]),
        args=argparse.Namespace(lr=1.0),
        meta=dict(
            CLASSES=('river', 'harbour'),
            mean=[1.0],
            std=[2.0],
            reading=dict(bands=[4, 3]),
        ),
    )
    lines = saved(tmp_path, content)
    assert '  epoch: 200' in lines
    assert '  optimizer: dict of 2 (state, param_groups)' in lines
    assert '  args: object of argparse.Namespace, inert' in lines
    assert 'network: scene classifier, 7 classes' in lines
    assert 'classes: 2 (river, harbour)' in lines
    assert 'mean: [1.0]' in lines
    assert 'images: num_bands=2, bands=[4, 3]' in lines
    assert lines[-1] == 'left inert, none of it was run: 1 (argparse.Namespace (1))'


def test_student_and_teacher(tmp_path):
    state = ResNet(18).state_dict()
    halves = {'student.backbone.': state, 'teacher.': state}
    content = {p + k: v for p, half in halves.items() for k, v in half.items()}
    lines = saved(tmp_path, dict(state_dict=content))
    assert sum('run of cmid_mm' in line for line in lines) == 2
    assert any(
        line.startswith("backbone, source='teacher': ResNet-18") for line in lines
    )


def test_several_candidates(tmp_path):
    state = ResNet(18).state_dict()
    lines = saved(tmp_path, dict(state_dict=state, state_dict_ema=state))
    sources = [line.partition(': ')[0] for line in lines if line[:8] == 'backbone']
    assert sources == ["backbone, source='student'", "backbone, source='teacher'"]
    assert any(line.endswith("tensors at 'state_dict_ema'") for line in lines)


def test_safetensors(tmp_path):
    path = tmp_path / 'a.safetensors'
    classes = dict(classes=['a', 'b'])
    meta = dict(bands=3, dataset_meta=classes)
    write_checkpoint(dict(state_dict=nn.Linear(2, 1).state_dict(), meta=meta), path)
    lines = inspect_checkpoint(path)
    assert '  state_dict: 2 tensors, 3 numbers, float32' in lines
    assert 'classes: 2 (a, b)' in lines


def test_files_without_weights(tmp_path):
    lines = saved(tmp_path, dict(note='x' * 200, sizes=[1, 2]))
    assert "  note: '" + 'x' * 76 + '...' in lines
    assert '  sizes: list of 2' in lines
    assert any(line.startswith('backbone: none (') for line in lines)


def test_compiled_module(tmp_path):
    compiled = torch.compile(nn.Linear(2, 1), backend='eager')
    lines = saved(tmp_path, compiled)
    assert lines[1].startswith(
        '  state_dict: 2 tensors, 3 numbers, float32, of a whole'
    )


def test_reason_of_unusable_weights(tmp_path):
    lines = saved(tmp_path, ResNet(18, base_channels=4).to('meta').state_dict())
    assert any(
        line.startswith('backbone: none (') and 'meta device' in line for line in lines
    )


def run(monkeypatch, *arguments):
    script = ROOT / 'tools/convert_checkpoint.py'
    monkeypatch.setattr('sys.argv', [str(script), *map(str, arguments)])
    runpy.run_path(str(script), run_name='__main__')


def test_command(tmp_path, capsys, monkeypatch):
    torch.save(nn.Linear(2, 1), tmp_path / 'a.pth')
    run(monkeypatch, '--inspect', tmp_path / 'a.pth')
    assert 'of a whole module of torch.nn.modules.linear.Linear' in (
        capsys.readouterr().out
    )
    with pytest.raises(SystemExit, match='error: SRC and DST are required'):
        run(monkeypatch, tmp_path / 'a.pth')
    with pytest.raises(SystemExit, match='error: --inspect F converts nothing'):
        run(monkeypatch, '--inspect', tmp_path / 'a.pth', 'b', 'c')
    with pytest.raises(SystemExit, match='error: .*absent does not exist'):
        run(monkeypatch, '--inspect', tmp_path / 'absent')
