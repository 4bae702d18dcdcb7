# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Files whose unpickling makes a folder, given to OpenMMLab by every kind of address.

Each test fails where mmengine's own loaders open the file.
"""

import argparse
import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.fileio import BaseStorageBackend
from mmengine.fileio.backends import registry_utils
from mmengine.infer import BaseInferencer
from mmengine.model import BaseModule, Sequential
from mmengine.runner import (
    CheckpointLoader,
    Runner,
    get_deprecated_model_names,
    get_external_models,
    get_mmcls_models,
    get_torchvision_models,
    load_checkpoint,
)
from mmengine.runner.checkpoint import _load_checkpoint_with_prefix
from mmpretrain import get_model
from torch import nn

from cmid_mm.checkpoints import CheckpointError
from cmid_mm.checkpoints.openmmlab import register_loaders
from tests.hostile import Regression, save_hostile, serving


@pytest.fixture
def marker(tmp_path) -> Path:
    return tmp_path / 'ran'


@pytest.fixture(params=['zip', 'legacy', 'pickle'])
def hostile(request, tmp_path, marker) -> Path:
    """A file whose weights fit :class:`Regression`, with a payload beside them."""
    return save_hostile(tmp_path / 'hostile' / 'a.pth', marker, request.param)


@pytest.fixture(scope='module')
def server():
    with serving() as server:
        yield server


class Storage(BaseStorageBackend):
    """Gives one file under every name."""

    path: Path

    def get(self, filepath):
        return self.path.read_bytes()

    def get_text(self, filepath):
        raise NotImplementedError


@pytest.fixture(autouse=True)
def homes(tmp_path, monkeypatch):
    """Caches of PyTorch and mmengine that are empty; loaders as they were."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.setenv('MMENGINE_HOME', str(tmp_path / 'mmengine'))
    monkeypatch.setattr(torch.hub, '_hub_dir', None)
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))


@pytest.fixture
def address(tmp_path, monkeypatch, server):
    """An address of a kind that leads to a file."""

    def cached(url: str, file: Path) -> None:
        cache = tmp_path / 'torch' / 'hub' / 'checkpoints'
        cache.mkdir(parents=True)
        (cache / Path(url).name).write_bytes(file.read_bytes())

    def get(kind: str, file: Path) -> str:
        server.path = file
        if kind == 'path':
            return str(file)
        if kind == 'file':
            return file.as_uri()
        if kind == 'http':
            return f'{server.url}/a.pth?download=1'
        if kind == 'redirect':
            return f'{server.url}/moved/a.pth'
        if kind == 'cached':
            cached('a.pth', file)
            return 'https://nowhere.invalid/a.pth'
        if kind in ('s3', 'cluster:s3', 'petrel'):
            storage = type('FileStorage', (Storage,), dict(path=file))
            monkeypatch.setitem(registry_utils.backends, 'petrel', storage)
            for prefix in ('s3', 'petrel'):
                backends = registry_utils.prefix_to_backends
                monkeypatch.setitem(backends, prefix, storage)
            return f'{kind}://bucket/a.pth'
        if kind == 'home':
            home = tmp_path / 'mmengine'
            home.mkdir()
            (home / 'open_mmlab.json').write_text(json.dumps(dict(mine=str(file))))
            return 'open-mmlab://mine'
        names, model = {
            'torchvision': (get_torchvision_models, 'resnet18'),
            'modelzoo': (get_torchvision_models, 'resnet18'),
            'open-mmlab': (get_external_models, 'resnet50_caffe'),  # an old name
            'openmmlab': (get_external_models, 'vgg16_caffe'),
            'mmcls': (get_mmcls_models, 'vgg11'),
        }[kind]
        current = get_deprecated_model_names().get(model, model)
        cached(names()[current], file)
        return f'{kind}://{model}'

    return get


ADDRESSES = [
    'path', 'file', 'http', 'redirect', 'cached', 's3', 'cluster:s3', 'petrel', 'home',
    'torchvision', 'modelzoo', 'open-mmlab', 'openmmlab', 'mmcls',
]  # fmt: skip


def refusal(opener: Callable[[str], Any], path: str, marker: Path) -> str:
    with pytest.raises(Exception, match='') as error:
        opener(path)
    assert not marker.exists()
    assert isinstance(error.value, CheckpointError)
    return str(error.value)


@pytest.mark.parametrize('kind', ADDRESSES)
def test_no_address_runs_a_file(address, kind, hostile, marker):
    place = address(kind, hostile)
    message = refusal(CheckpointLoader.load_checkpoint, place, marker)
    assert '\n' not in message
    if kind in ('http', 's3'):
        assert place in message


# mmengine does not know those of files either.
@pytest.mark.parametrize('kind', sorted({*ADDRESSES} - {'file'}))
def test_weights_are_read_from_every_address(address, kind, tmp_path):
    state = {f'backbone.{k}': v for k, v in Regression().state_dict().items()}
    torch.save(dict(state_dict=state, meta=dict(iter=3)), tmp_path / 'a.pth')
    read = CheckpointLoader.load_checkpoint(address(kind, tmp_path / 'a.pth'))
    prefix = '' if kind == 'mmcls' else 'backbone.'
    expected = state['backbone.layer.weight']
    assert torch.equal(read['state_dict'][f'{prefix}layer.weight'], expected)


def resume(path: str) -> None:
    runner(path).resume(path)


def runner(folder: str) -> Runner:
    return Runner(
        Regression(),
        work_dir=str(Path(os.environ['TORCH_HOME'], 'run')),
        train_dataloader=dict(
            dataset=[torch.ones(3)] * 4,
            batch_size=2,
            sampler=dict(type='DefaultSampler', shuffle=False),
        ),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        default_scope='mmengine',
        experiment_name='hostile',
        log_level='ERROR',
    )


def initialise(init_cfg: dict) -> None:
    class Part(BaseModule):
        def __init__(self, init_cfg=None):
            super().__init__(init_cfg)
            self.layer = nn.Linear(3, 1)

    Sequential(Sequential(Part(init_cfg))).init_weights()


OPENERS = {
    'load_checkpoint': lambda path: load_checkpoint(Regression(), path),
    'load_checkpoint with a prefix': lambda path: _load_checkpoint_with_prefix(
        'layer', path
    ),
    'Runner.load_checkpoint': lambda path: runner(path).load_checkpoint(path),
    'Runner.resume': resume,
    'Pretrained': lambda path: initialise(dict(type='Pretrained', checkpoint=path)),
    'Pretrained with a prefix': lambda path: initialise(
        dict(type='Pretrained', checkpoint=path, prefix='layer')
    ),
    'get_model': lambda path: get_model('resnet18_8xb32_in1k', pretrained=path),
}


@pytest.mark.parametrize('kind', ['path', 'http'])
@pytest.mark.parametrize('opener', OPENERS)
def test_nothing_that_opens_a_file_runs_it(address, opener, kind, tmp_path, marker):
    path = address(kind, save_hostile(tmp_path / 'a.pth', marker))
    assert 'was refused' in refusal(OPENERS[opener], path, marker)


@pytest.mark.parametrize('from_file', [True, False])
def test_config_in_a_checkpoint_is_not_run_on_resuming(tmp_path, marker, from_file):
    first = runner('')
    first.train()
    path = tmp_path / 'a.pth'
    content = torch.load(
        Path(first.work_dir, 'epoch_2.pth'), weights_only=False
    )  # our own
    content['meta']['config'] = f'import os\nos.mkdir({str(marker)!r})'
    torch.save(content, path)
    if not from_file:
        register_loaders({str(path): content})
    second = runner('')
    second.resume(str(path))
    assert second.iter == 4
    assert not marker.exists()


def test_config_in_a_checkpoint_is_not_run_by_inferencers(tmp_path, marker):
    class Stock(BaseInferencer):
        def visualize(self, *args, **kwargs): ...
        def postprocess(self, *args, **kwargs): ...
        def _init_pipeline(self, cfg): ...

    source = f'import os\nos.mkdir({str(marker)!r})\nmodel = dict(type="None")'
    torch.save(dict(state_dict={}, meta=dict(cfg=source)), tmp_path / 'a.pth')
    path = str(tmp_path / 'a.pth')
    message = refusal(lambda path: Stock(weights=path, scope='mmengine'), path, marker)
    assert 'Stock(model=CONFIG' in message


def test_objects_beside_weights_are_left_alone(tmp_path):
    """Files of other trainers keep their arguments."""
    weights = nn.Linear(3, 1).state_dict()
    content = dict(model=weights, args=argparse.Namespace(lr=1.0), folder=Path('a'))
    torch.save(content, tmp_path / 'a.pth')
    read = CheckpointLoader.load_checkpoint(str(tmp_path / 'a.pth'))
    assert torch.equal(read['model']['weight'], weights['weight'])
    assert not isinstance(read['args'], argparse.Namespace)


def test_configs_in_the_metadata_of_a_run_are_dicts(tmp_path):
    meta = dict(dataset_meta=ConfigDict(palette=Config(dict(a=[1]))._cfg_dict))
    hub = dict(log_scalars={}, runtime_info={})
    torch.save(dict(state_dict={}, meta=meta, message_hub=hub), tmp_path / 'a.pth')
    read = CheckpointLoader.load_checkpoint(str(tmp_path / 'a.pth'))
    assert read['meta'] == dict(dataset_meta=dict(palette=dict(a=[1])))
    assert type(read['meta']['dataset_meta']) is dict


def test_versions_of_the_layers_of_a_bare_state_dict_are_kept(tmp_path):
    state = nn.BatchNorm2d(2).state_dict()
    torch.save(state, tmp_path / 'a.pth')
    read = CheckpointLoader.load_checkpoint(str(tmp_path / 'a.pth'))
    assert read._metadata == state._metadata
    assert read._metadata[''] == dict(version=2)


def test_failed_downloads_name_the_address(server):
    with pytest.raises(CheckpointError, match=rf'{server.url}/absent.pth cannot .*404'):
        CheckpointLoader.load_checkpoint(f'{server.url}/absent.pth')
    with pytest.raises(CheckpointError, match='names no file'):
        CheckpointLoader.load_checkpoint(f'{server.url}/')


@pytest.mark.parametrize(
    'name', ['torchvision://resnet0', 'open-mmlab://a', 'mmcls://b', 'pavi://c']
)
def test_unknown_names_are_said(name):
    with pytest.raises(CheckpointError, match=name):
        CheckpointLoader.load_checkpoint(name)


@pytest.mark.parametrize('guarded', [True, False])
def test_payload_is_hostile(tmp_path, marker, guarded):
    path = save_hostile(tmp_path / 'a.pth', marker)
    with contextlib.suppress(Exception):
        torch.load(path, weights_only=guarded)
    assert marker.exists() != guarded
