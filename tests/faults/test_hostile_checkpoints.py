# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""A checkpoint that makes a folder when it is unpickled, given to whole programs."""

import re
import subprocess
import sys
from pathlib import Path

import mmpretrain
import pytest
import torch
from mmengine.config import Config

from tests.end_to_end.conftest import data, run, trained  # noqa: F401
from tests.end_to_end.pretraining import toy_run, write_images
from tests.faults.rows import fault
from tests.hostile import save_hostile, serving

PART = 'Hostile files'
FAULT = 'a checkpoint that runs code when it is unpickled, '
REFUSED = 'refused by name; nothing ran'


@pytest.fixture(scope='module')
def server():
    with serving() as server:
        yield server


@pytest.fixture
def marker(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.setattr(torch.hub, '_hub_dir', None)
    return tmp_path / 'ran'


@pytest.fixture(params=['path', 'http'])
def address(request, server, tmp_path, marker) -> str:
    server.path = save_hostile(tmp_path / 'hostile.pth', marker)
    if request.param == 'path':
        return str(server.path)
    return f'{server.url}/hostile.pth'


def toy_file(folder: Path, **options) -> Path:
    """A config of a pre-training on images of two classes, in a file."""
    for label in ('field', 'town'):
        write_images(folder / 'images' / label, 5)
    cfg = toy_run(folder / 'images', folder / 'work', **options)
    cfg.custom_imports = dict(imports=['cmid_mm'])
    file = folder / f'toy_{len(options)}.py'
    cfg.dump(file)
    return file


EVALUATE = ('--train', 'DATA', '--test', 'DATA', '--num-workers', '0')
PRETRAINING_TOOLS = {
    'train, resuming': ('train.py', 'CONFIG', '--resume', 'FILE'),
    'train, load_from': ('train.py', 'CONFIG', '--cfg-options', 'load_from=FILE'),
    'train, backbone': ('train.py', 'CONFIG', '--backbone-checkpoint', 'FILE'),
    'train, Pretrained': ('train.py', 'PRETRAINED'),
    'evaluate features': ('evaluate_features.py', 'CONFIG', 'FILE', *EVALUATE),
    'evaluate features, Pretrained': (
        *('evaluate_features.py', 'PRETRAINED', 'random', *EVALUATE),
    ),
    'export': ('export_backbone.py', 'FILE', 'OUT'),
    'convert': ('convert_checkpoint.py', 'FILE', 'OUT'),
}
#: What they say in place of a refusal.
SAID = {
    'train, backbone': 'no weight of ResNet is in the file',
    'export': 'holds no backbone',
    'convert': 'is no published CMID checkpoint',
}


@fault(PART, FAULT + 'given to our tools, as a file and by http', REFUSED)
@pytest.mark.parametrize('tool', PRETRAINING_TOOLS)
def test_no_tool_runs_it(run, address, marker, tmp_path, tool):  # noqa: F811
    backbone = 'model.encoder.backbone.init_cfg'
    init_cfg = {backbone: dict(type='Pretrained', checkpoint=address)}
    names = dict(
        FILE=address,
        CONFIG=toy_file(tmp_path),
        PRETRAINED=toy_file(tmp_path, **init_cfg),
        DATA=tmp_path / 'images',
        OUT=tmp_path / 'out.pth',
    )
    name, *args = PRETRAINING_TOOLS[tool]
    error = run(name, *(names.get(arg, arg.replace('FILE', address)) for arg in args))
    assert not marker.exists()
    expected = SAID.get(tool, 'was refused')
    if address.startswith('http') and not tool.endswith(('Pretrained', 'load_from')):
        expected = 'does not exist|is an address'
    assert re.search(expected, str(error))


@fault(PART, FAULT + 'looked into', 'what it holds is told; nothing ran')
def test_inspection_runs_nothing(run, tmp_path, marker, capsys):  # noqa: F811
    path = save_hostile(tmp_path / 'hostile.pth', marker)
    assert run('convert_checkpoint.py', '--inspect', path) is None
    assert 'mkdir' in capsys.readouterr().out
    assert not marker.exists()


@fault(PART, FAULT + 'given to tools for trained models', REFUSED)
@pytest.mark.parametrize('tool', ['test.py', 'predict.py'])
def test_no_tool_of_a_task_runs_it(
    run,  # noqa: F811
    trained,  # noqa: F811
    tmp_path,
    marker,
    tool,
):
    cfg, _ = trained('scene')
    cfg.dump(tmp_path / 'scene.py')
    path = save_hostile(tmp_path / 'hostile.pth', marker)
    more = [tmp_path, '--out', tmp_path / 'out'] if tool == 'predict.py' else []
    write_images(tmp_path, 1)
    assert run(tool, tmp_path / 'scene.py', path, *more) is not None
    assert not marker.exists()


def init_detector(cfg: Config, path: str) -> None:
    from mmdet.apis import init_detector

    init_detector(cfg, path, device='cpu')


def detection_inferencer(cfg: Config, path: str) -> None:
    from mmdet.apis import DetInferencer

    DetInferencer(cfg, path, device='cpu')


def init_segmentor(cfg: Config, path: str) -> None:
    from mmseg.apis import init_model

    init_model(cfg, path, device='cpu')


def segmentation_inferencer(cfg: Config, path: str) -> None:
    from mmseg.apis import MMSegInferencer

    MMSegInferencer(cfg, path, device='cpu')


def classification_inferencer(cfg: Config, path: str) -> None:
    from mmpretrain import ImageClassificationInferencer

    ImageClassificationInferencer(cfg, pretrained=path, device='cpu')


STOCK = {
    init_detector: 'detection',
    detection_inferencer: 'detection',
    init_segmentor: 'segmentation',
    segmentation_inferencer: 'segmentation',
    classification_inferencer: 'scene',
}


@fault(
    PART,
    FAULT + 'given to `init_model` and inferencers of mmpretrain, mmseg and mmdet',
    REFUSED,
)
@pytest.mark.parametrize('opener', STOCK, ids=lambda opener: opener.__name__)
def test_no_function_of_openmmlab_runs_it(opener, trained, address, marker):  # noqa: F811
    cfg, _ = trained(STOCK[opener])
    with pytest.raises(Exception, match='was refused'):
        opener(cfg, address)
    assert not marker.exists()


@fault(
    PART,
    FAULT + "given to mmpretrain's own tools whose config imports `cmid_mm`",
    REFUSED,
)
def test_no_tool_of_openmmlab_runs_it(server, tmp_path, marker):
    server.path = save_hostile(tmp_path / 'hostile.pth', marker)
    tool = Path(mmpretrain.__path__[0], '.mim', 'tools', 'train.py')
    load = f'load_from={server.url}/hostile.pth'
    options = ('--cfg-options', load, 'train_dataloader.num_workers=1')
    done = subprocess.run(
        [sys.executable, tool, toy_file(tmp_path), *options],
        capture_output=True,
        text=True,
    )
    assert done.returncode and 'was refused' in done.stderr
    assert not marker.exists()
