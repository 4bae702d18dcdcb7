# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import mmengine.runner.runner
import pytest
import torch
from mmengine.model import BaseModel
from torch import nn

from cmid_mm.engine.hooks import CollapseHook
from tests.engine.hooks.short_runs import train


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    monkeypatch.setattr(mmengine.runner.runner, 'collect_env', dict)


class Encoder(BaseModel):
    """Each row of an image is one to it: features are weighted pixels."""

    def __init__(self, *weights: float, used: float = 0.5) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights))
        self.dropout = nn.Dropout()
        self.used = used
        self.looked_at: list[int] = []

    def extract_feats(self, images):
        assert not self.training
        self.looked_at.append(len(images))
        torch.rand(1)
        pixels = images[:, 0, :, : len(self.weights)].flatten(0, 1)
        return 1 + pixels * self.weights

    def forward(self, inputs, mode='loss'):
        assert self.training
        loss = self.dropout(inputs).mean() * self.weights.mean()
        return {'loss': loss, 'prototypes_used': torch.tensor(self.used)}


def run(model, folder):
    """Three epochs of three iterations of two images; messages of the hook."""
    runner = train(model, folder, CollapseHook(interval=4, images=3), lr=0)
    log = next(folder.glob('*/*.log')).read_text()
    warnings = [line for line in log.splitlines() if 'nearly the same' in line]
    return runner, warnings


def test_healthy_features_are_logged_and_nothing_is_said(tmp_path):
    model = Encoder(*[1.0] * 8)
    runner, warnings = run(model, tmp_path)
    assert warnings == []
    assert model.looked_at == [2, 2, 2, 2]  # two batches for three images, twice
    hub = runner.message_hub
    assert 4 < hub.get_scalar('train/effective_rank').current() <= 8
    assert hub.get_scalar('train/feature_std').current() > 0.05


@pytest.mark.parametrize(
    ('weights', 'used', 'sign'),
    [
        ([1e-4] * 8, 0.5, 'standard deviation 0.0'),
        ([1.0, *[0.0] * 7], 0.5, 'effective rank 1.0'),
        ([1.0] * 8, 0.001, 'share of prototypes in use 0.0010'),
    ],
)
def test_each_sign_is_warned_of_once_an_interval(tmp_path, weights, used, sign):
    _, warnings = run(Encoder(*weights, used=used), tmp_path)
    assert len(warnings) == 2
    assert all(sign in line for line in warnings)


def test_looking_changes_nothing(tmp_path):
    weights = []
    for name, hooks in (('with', [CollapseHook(interval=2)]), ('without', [])):
        runner = train(Encoder(1.0, 2.0, 3.0), tmp_path / name, *hooks)
        weights.append(runner.model.weights.detach().clone())
    assert torch.equal(*weights)
