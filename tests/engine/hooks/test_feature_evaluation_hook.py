# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import re

import cv2
import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from torch import nn

from cmid_mm.engine.hooks import feature_evaluation_hook as module
from cmid_mm.engine.hooks.evaluation_hook import INITIAL_KEY
from cmid_mm.engine.hooks.feature_evaluation_hook import FeatureEvaluationHook
from cmid_mm.evaluation.features import extract_features
from tests.engine.hooks import short_runs
from tests.engine.hooks.short_runs import logged


@pytest.fixture
def scenes(tmp_path):
    """Twelve noisy scenes of two colours; two thirds of them to learn from."""
    rng = np.random.default_rng(0)
    root = tmp_path / 'scenes'
    lists = {'train': [], 'test': []}
    for name, bgr in {'forest': (40, 160, 40), 'water': (160, 60, 40)}.items():
        (root / name).mkdir(parents=True)
        for i in range(6):
            image = (np.array(bgr) + rng.integers(0, 90, (8, 8, 3))).astype(np.uint8)
            cv2.imwrite(str(root / name / f'{i}.png'), image)
            lists['test' if i < 2 else 'train'].append(f'{name}/{i}.png')
    for name, lines in lists.items():
        (root / f'{name}.txt').write_text('\n'.join(lines))
    return root


class ToyModel(BaseModel):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout(0.3)

    def extract_feats(self, images):
        return self.dropout(self.norm(self.stem(images.float()))).mean((2, 3))

    def forward(self, inputs, mode='tensor'):
        return dict(loss=self.extract_feats(inputs).square().mean())


def train(work_dir, *hooks, **kwargs):
    return short_runs.train(ToyModel(), work_dir, *hooks, **kwargs)


def make_hook(scenes, **kwargs):
    return FeatureEvaluationHook(
        train=dict(root=str(scenes), list_file='train.txt'),
        test=dict(root=str(scenes), list_file='test.txt'),
        size=8,
        num_workers=0,
        **kwargs,
    )


def test_training_ends_bit_identical(tmp_path, scenes):
    plain = train(tmp_path / 'plain').model.state_dict()
    watched = train(tmp_path / 'watched', make_hook(scenes, interval=1))
    for name, value in watched.model.state_dict().items():
        assert torch.equal(value, plain[name]), name
    assert watched.model.training
    assert plain['norm.num_batches_tracked'] == 9


def test_scalars_and_log_lines(tmp_path, scenes):
    runner = train(tmp_path / 'run', make_hook(scenes, interval=2))
    points = logged(runner, 'knn_top1', 'linear_top1')
    # Before training, after epoch 2 and, not a multiple of 2, after the last.
    assert [step for step, *_ in points] == [0, 6, 9]
    assert all(0 <= value <= 100 for _, *values in points for value in values)
    assert len(runner.message_hub.get_scalar('features/knn_top1').data[0]) == 3

    log = next(tmp_path.glob('run/*/*.log')).read_text()
    lines = re.findall(r'Frozen features, (.*?):  (.*)', log)
    assert [when for when, _ in lines] == ['before training', 'epoch 2', 'epoch 3']
    initial_knn, initial_linear = points[0][1:]
    assert f'knn_top1: {points[2][1]:.2f} (initial {initial_knn:.2f})' in lines[2][1]
    assert f'(initial {initial_linear:.2f})' in lines[2][1]
    assert 'initial' not in lines[0][1]


def test_values_are_those_of_the_features(tmp_path, scenes):
    hook = make_hook(scenes, interval=1, linear_probe=False, k=3)
    runner = train(tmp_path / 'run', hook, max_epochs=1)
    model = runner.model.eval()
    with torch.no_grad():
        features, labels = [], []
        for dataset in (hook.train_set, hook.test_set):
            features.append(model.extract_feats(torch.stack([x for x, _ in dataset])))
            labels.append(torch.tensor([y for _, y in dataset]))
    expected = module.knn_accuracy(features[0], labels[0], features[1], labels[1], k=3)
    assert logged(runner, 'knn_top1')[-1] == (3, expected)
    assert logged(runner, 'linear_top1') == []


def test_iterations(tmp_path, scenes):
    hook = make_hook(scenes, interval=2, by_epoch=False, evaluate_before_training=False)
    runner = train(tmp_path / 'run', hook, max_epochs=3, by_epoch=False)
    assert [step for step, _ in logged(runner, 'knn_top1')] == [2, 3]


def test_not_at_end(tmp_path, scenes):
    hook = make_hook(scenes, interval=2, at_end=False)
    runner = train(tmp_path / 'run', hook)
    assert [step for step, _ in logged(runner, 'knn_top1')] == [0, 6]


def test_resumed_run_keeps_the_initial_value(tmp_path, scenes):
    first = train(tmp_path / 'run', make_hook(scenes, interval=1), max_epochs=1)
    initial = logged(first, 'knn_top1')[0][1]
    resumed = train(
        tmp_path / 'run',
        make_hook(scenes, interval=1),
        max_epochs=2,
        resume=True,
        load_from=str(tmp_path / 'run/epoch_1.pth'),
    )
    assert resumed.message_hub.get_info(INITIAL_KEY)['knn_top1'] == initial
    # Before training and after epoch 1, from the checkpoint, and after epoch 2.
    assert len(resumed.message_hub.get_scalar('features/knn_top1').data[0]) == 3
    assert logged(resumed, 'knn_top1')[-1][0] == 6


def test_processes_share_the_images(monkeypatch, scenes):
    hook = make_hook(scenes, batch_size=3)
    model = ToyModel()
    alone = hook._gather_features(model, hook.train_set)
    # What each of three processes extracts; exchanged afterwards.
    shards = []

    def record(*args):
        shards.append(extract_features(*args))
        return shards[-1]

    monkeypatch.setattr(module, 'extract_features', record)
    monkeypatch.setattr(module, 'all_gather_object', lambda own: [alone])
    for rank in range(3):
        monkeypatch.setattr(module, 'get_dist_info', lambda rank=rank: (rank, 3))
        hook._gather_features(model, hook.train_set)
    assert [len(labels) for _, labels in shards] == [3, 3, 2]
    exchanged = list(shards)
    monkeypatch.setattr(module, 'all_gather_object', lambda own: exchanged)
    together = hook._gather_features(model, hook.train_set)
    torch.testing.assert_close(together[0], alone[0])
    assert torch.equal(together[1], alone[1])


def test_diverged_model_stops_with_a_message(tmp_path, scenes):
    hook = make_hook(scenes)
    model = ToyModel()
    nn.init.constant_(model.stem.weight, torch.nan)
    with pytest.raises(ValueError, match='training has diverged'):
        hook._gather_features(model, hook.train_set)


def test_nothing_to_evaluate(scenes):
    with pytest.raises(ValueError, match='both False'):
        make_hook(scenes, knn=False, linear_probe=False)


def test_missing_images_stop_the_run_before_it_begins(tmp_path, scenes):
    with pytest.raises(FileNotFoundError, match='nowhere is not a folder'):
        FeatureEvaluationHook(
            train=dict(root=str(scenes)), test=dict(root=str(tmp_path / 'nowhere'))
        )


def test_a_test_on_what_was_learnt_stops_the_run_before_it_begins(scenes):
    with pytest.raises(ValueError, match='test images are learnt from, too'):
        FeatureEvaluationHook(
            train=dict(root=str(scenes)),
            test=dict(root=str(scenes), list_file='test.txt'),
        )
