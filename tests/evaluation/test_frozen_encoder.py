# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import importlib.util
import json
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmpretrain.models import ResNet
from mmpretrain.registry import MODELS
from torch import nn

import cmid_mm_cli
from cmid_mm.checkpoints import stored_images
from cmid_mm.checkpoints.reading import CheckpointError
from cmid_mm.evaluation.features import LabelledFolder, extract_features, knn_accuracy
from cmid_mm.evaluation.frozen_encoder import (
    evaluate_frozen_encoder,
    load_frozen_encoder,
)

TOOL = Path(__file__).parents[2] / 'tools/evaluate_features.py'


@MODELS.register_module(force=True)
class PlainPreprocessor(BaseDataPreprocessor):
    def __init__(self):
        super().__init__()
        self.register_buffer('mean', torch.full((1, 3, 1, 1), 128.0), False)


@MODELS.register_module(force=True)
class TinyPretraining(BaseModel):
    def __init__(self, data_preprocessor=None, classes=2):
        super().__init__(data_preprocessor)
        self.student = nn.Module()
        self.student.backbone = ResNet(18, stem_channels=4, base_channels=4)
        self.head = nn.Linear(32, classes)

    def forward(self, inputs):
        raise NotImplementedError

    def extract_feats(self, images):
        images = (images.float() - self.data_preprocessor.mean) / 64
        return self.student.backbone(images)[-1].mean((2, 3))


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'tiny.py'
    path.write_text(
        "model = dict(type='TinyPretraining')\n"
        "data_preprocessor = dict(type='PlainPreprocessor')\n"
    )
    return path


@pytest.fixture
def scenes(tmp_path):
    """Ten scenes of each of two colours; four fifths of them to learn from."""
    rng = np.random.default_rng(0)
    root = tmp_path / 'scenes'
    lists = {'train': [], 'test': []}
    for name, bgr in {'forest': (30, 160, 30), 'water': (160, 60, 30)}.items():
        (root / name).mkdir(parents=True)
        for i in range(10):
            image = (np.array(bgr) + rng.integers(0, 60, (32, 32, 3))).astype(np.uint8)
            cv2.imwrite(str(root / name / f'{i}.png'), image)
            lists['test' if i < 2 else 'train'].append(f'{name}/{i}.png')
    for name, lines in lists.items():
        (root / f'{name}.txt').write_text('\n'.join(lines))
    return root


@pytest.fixture
def said(monkeypatch):
    """What is said of readings."""
    messages = []
    monkeypatch.setattr(
        stored_images, 'print_log', lambda message, *_, **__: messages.append(message)
    )
    return messages


@pytest.mark.parametrize('backbone_only', [False, True])
def test_images_read_otherwise_than_in_training_are_said(
    tmp_path, config, said, backbone_only
):
    run = (
        'train_dataloader = dict(dataset=dict(pipeline=[dict('
        "type='LoadImagery', bands=[4, 3, 2], value_range=(0, 3000), nodata=0)]))"
    )
    model = load_frozen_encoder(config, 'random')
    path = tmp_path / 'run.pth'
    torch.save(dict(meta=dict(cfg=run), state_dict=model.state_dict()), path)
    if backbone_only:
        state = model.student.backbone.state_dict()
        state = {f'backbone.{name}': value for name, value in state.items()}
        torch.save(dict(meta=dict(cfg=run), state_dict=state), path)

    def load(**loading):
        load_frozen_encoder(config, path, backbone_only, loading=loading)

    load(bands=[4, 3, 2], value_range=(0, 3000), nodata=0)
    assert not said
    load(bands=None, value_range=(0, 3000), nodata=None)
    (message,) = said
    assert f'{path} learnt from images read with num_bands=3, bands=[4, 3' in message
    assert 'value_range=[0, 3000], nodata=0; here' in message
    assert 'read with num_bands=3, bands=None, value_range=[0, 3000], nod' in message


def equal(first, second):
    return all(
        torch.equal(value, second.state_dict()[name])
        for name, value in first.state_dict().items()
    )


def test_random_encoder_is_determined_by_its_seed(config):
    first = load_frozen_encoder(config, 'random', seed=1)
    assert not first.training
    assert equal(first, load_frozen_encoder(config, 'random', seed=1))
    other = load_frozen_encoder(config, 'random', seed=2)
    assert not equal(first.student.backbone, other.student.backbone)


def test_checkpoint_of_a_run(config, tmp_path):
    trained = load_frozen_encoder(config, 'random', seed=1)
    torch.save(dict(state_dict=trained.state_dict(), meta={}), tmp_path / 'run.pth')
    assert equal(trained, load_frozen_encoder(config, tmp_path / 'run.pth', seed=2))


def test_every_weight_must_fit(config, tmp_path):
    state = load_frozen_encoder(config, 'random').state_dict()
    state['other.weight'] = state.pop('student.backbone.conv1.weight')
    state['head.weight'] = torch.zeros(3, 32)
    torch.save(dict(state_dict=state), tmp_path / 'run.pth')
    with pytest.raises(CheckpointError) as error:
        load_frozen_encoder(config, tmp_path / 'run.pth')
    message = str(error.value)
    assert 'missing in the file: 1 (student.backbone.conv1.weight)' in message
    assert 'unknown to the model: 1 (other.weight)' in message
    assert 'of another shape: 1 (head.weight 3x32 instead of 2x32)' in message


def test_checkpoint_of_a_backbone(config, tmp_path):
    backbone = load_frozen_encoder(config, 'random', seed=1).student.backbone
    torch.save(backbone.state_dict(), tmp_path / 'backbone.pth')
    model = load_frozen_encoder(config, tmp_path / 'backbone.pth', True, seed=2)
    assert equal(backbone, model.student.backbone)
    with pytest.raises(CheckpointError, match='--backbone-only'):
        load_frozen_encoder(config, tmp_path / 'backbone.pth')


def test_unusable_configs(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'gone\.py does not exist'):
        load_frozen_encoder('gone.py', 'random')
    (tmp_path / 'schedule.py').write_text('train_cfg = dict(max_epochs=3)')
    with pytest.raises(ValueError, match='has no model'):
        load_frozen_encoder(tmp_path / 'schedule.py', 'random')


def test_results(config, scenes):
    model = load_frozen_encoder(config, 'random')
    train_set = LabelledFolder(scenes, 'train.txt', size=32)
    test_set = LabelledFolder(scenes, 'test.txt', train_set.class_names, size=32)
    results = evaluate_frozen_encoder(model, train_set, test_set, k=3, num_workers=0)
    train = extract_features(model, train_set, num_workers=0)
    test = extract_features(model, test_set, num_workers=0)
    assert results['knn_top1'] == knn_accuracy(*train, *test, k=3)
    # Colour survives a random network.
    assert results['linear_top1'] == 100
    assert results['linear_per_class'] == {'forest': 100, 'water': 100}
    assert (results['train_images'], results['test_images']) == (16, 4)
    assert results['feature_dim'] == 32


@pytest.fixture
def run_tool(monkeypatch):
    spec = importlib.util.spec_from_file_location('evaluate_features', TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    def run(*args):
        monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, args)])
        cmid_mm_cli.run_tool(tool.COMMAND)

    return run


def test_tool_prints_and_writes(run_tool, config, scenes, tmp_path, capsys):
    out = tmp_path / 'out.json'
    run_tool(
        *(config, 'random', '--train', scenes, '--train-list', 'train.txt'),
        *('--test-list', 'test.txt', '--size', 32, '--num-workers', 0, '--k', 5),
        *('--json', out, '--device', 'cpu', '--per-class'),
    )
    printed = capsys.readouterr().out
    assert '32 features of 16 training and 4 test images' in printed
    assert re.search(r'k-NN \(k=5, T=0.07\) +\d+\.\d\d %\n', printed)
    assert re.search(r'linear probe +100\.00 %\n', printed)
    assert 'forest' in printed
    written = json.loads(out.read_text())
    assert written['linear_top1'] == 100
    assert written['settings']['k'] == 5


@pytest.mark.parametrize('workers', [0, 1])
def test_tool_ends_with_one_line(run_tool, config, scenes, workers):
    (scenes / 'water/1.png').write_bytes(b'not an image')
    with pytest.raises(SystemExit) as end:
        run_tool(
            *(config, 'random', '--train', scenes, '--train-list', 'train.txt'),
            *('--test-list', 'test.txt', '--num-workers', workers, '--device', 'cpu'),
            *('--size', 32),
        )
    message = end.value.code
    assert message.startswith('error: ')
    assert 'water/1.png' in message
    assert '\n' not in message


def test_tool_wants_a_test_set(run_tool, config, scenes):
    with pytest.raises(SystemExit) as end:
        run_tool(config, 'random', '--train', scenes)
    assert end.value.code.startswith('error: give --test DIR or --test-list FILE')


def test_options_of_the_run(config, tmp_path):
    options = {'model.classes': 3}
    model = load_frozen_encoder(config, 'random', options=options)
    file = tmp_path / 'run.pth'
    torch.save(dict(state_dict=model.state_dict()), file)
    with pytest.raises(
        CheckpointError, match='is no checkpoint of the model in this config'
    ):
        load_frozen_encoder(config, file)
    loaded = load_frozen_encoder(config, file, options=options)
    assert torch.equal(loaded.head.weight, model.head.weight)
    with pytest.raises(KeyError, match="did you mean 'model'"):
        load_frozen_encoder(config, file, options={'modle.classes': 3})


def test_a_test_on_what_was_learnt_is_refused(run_tool, config, scenes):
    """As when the list of training images is forgotten."""
    with pytest.raises(SystemExit, match='error: 4 of the 4 test images are learnt'):
        run_tool(
            *(config, 'random', '--train', scenes, '--test-list', 'test.txt'),
            *('--size', 32, '--num-workers', 0, '--device', 'cpu'),
        )


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--stages', 1, 2], '--stages is about pixels: add --dense'),
        (['--normalization', 'target'], '--normalization is about pixels: add'),
        (['--labels', 'l.png'], '--labels is about pixels: add --dense'),
        (['--classes', 'a', 'b'], '--classes is about pixels: add --dense'),
        (['--dense', '--labels', 'l', '--size', 96], '--size is about whole images'),
        (
            ['--dense', '--labels', 'l', '--train-list', 'a.txt'],
            '--train-list is about whole images: .* --train or --test LIST.txt',
        ),
        (['--dense'], '--dense needs the labels'),
    ],
)
def test_options_of_the_other_measure_are_refused(run_tool, config, options, message):
    with pytest.raises(SystemExit, match=f'error: {message}'):
        run_tool(config, 'random', '--train', 'x', '--test', 'y', *options)
