# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import math

import mmengine.runner.runner
import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import EarlyStoppingHook
from mmengine.model import BaseModel
from torch import nn

from cmid_mm.checkpoints import read_checkpoint
from cmid_mm.engine.hooks import SickTrainingError, StepGuardHook
from tests.engine.hooks.short_runs import train


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    monkeypatch.setattr(mmengine.runner.runner, 'collect_env', dict)


class Sick(BaseModel):
    """Gives a loss that is not finite at some iterations, counted from 0."""

    def __init__(self, at=()) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.register_buffer('seen', torch.zeros(1))
        self.at, self.calls = at, 0

    def forward(self, inputs, mode='loss'):
        if mode == 'predict':
            return inputs
        self.calls += 1
        self.seen += 1
        fault = math.nan if self.calls - 1 in self.at else 0
        return {'loss': self.weight.sum() + fault, 'loss_part': self.weight.sum()}


def test_sick_iteration_is_counted_saved_and_forgotten(tmp_path):
    runner = train(Sick(at=[4]), tmp_path, StepGuardHook(), max_epochs=3)
    assert runner.iter == 9
    assert float(runner.model.seen) == 8
    assert float(runner.model.weight) == pytest.approx(1 - 8 * 2 * 0.1)
    hub = runner.message_hub
    assert hub.get_scalar('train/skipped_steps').current() == 1
    assert hub.get_info('skipped_in_a_row') == 0
    logged = hub.get_scalar('train/loss').data[0]
    assert len(logged) == 8 and all(map(math.isfinite, logged))
    assert [p.name for p in (tmp_path / 'sick_batches').iterdir()] == [
        'iter_5_rank_0.pth'
    ]
    content = read_checkpoint(tmp_path / 'sick_batches' / 'iter_5_rank_0.pth')
    assert content['sick'] == ['loss']
    assert math.isnan(content['losses']['loss'])
    assert content['batch']['inputs'].shape == (2, 3, 8, 8)
    assert float(content['state_dict']['weight']) == pytest.approx(1 - 4 * 2 * 0.1)
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert 'Iteration 5 was skipped: not finite were loss (loss nan)' in log
    assert '1 of 9 iterations were skipped' in log


def test_too_many_in_a_row_stop_the_run_with_the_state_before(tmp_path):
    model = Sick(at=[1, 3, 4, 5])
    with pytest.raises(SickTrainingError, match='3 iterations in a row.*iter_6.pth'):
        train(
            model,
            tmp_path,
            StepGuardHook(max_in_a_row=3, keep=2),
            default_hooks=dict(checkpoint=dict(type='VerifiedCheckpointHook')),
        )
    checkpoint = read_checkpoint(tmp_path / 'iter_6.pth')
    assert float(checkpoint['state_dict']['weight']) == pytest.approx(1 - 2 * 2 * 0.1)
    assert float(checkpoint['state_dict']['seen']) == 2
    assert checkpoint['meta']['iter'] == 6
    assert checkpoint['message_hub']['runtime_info']['skipped_steps'] == 4
    assert len(list((tmp_path / 'sick_batches').iterdir())) == 2


def test_a_run_that_trained_nothing_stops_before_it_is_saved(tmp_path):
    """Nor is it validated, which would make it the best there is."""
    hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1))
    sick = 'All 3 iterations had .*: nothing was trained'
    with pytest.raises(SickTrainingError, match=sick):
        train(
            Sick(at=[0, 1, 2]),
            tmp_path,
            StepGuardHook(),
            max_epochs=1,
            default_hooks=hooks,
        )
    assert not list(tmp_path.glob('*.pth'))


def test_a_run_says_that_its_end_was_skipped(tmp_path):
    train(Sick(at=[0, 7, 8]), tmp_path, StepGuardHook(), max_epochs=3)
    log = next(tmp_path.glob('*/*.log')).read_text()
    end = 'the last 2 among them: the model is that of iteration 7'
    assert (
        f'3 of 9 iterations were skipped, because numbers were not finite, {end}' in log
    )


def test_lost_weights_are_not_saved_and_stop_the_run(tmp_path):
    model = Sick()
    model.weight.register_hook(lambda grad: grad * 1e30)
    with pytest.raises(SickTrainingError, match='first weight, .* is far too high'):
        train(
            model,
            tmp_path,
            StepGuardHook(),
            max_epochs=1,
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
            lr=1e30,
        )
    assert not list(tmp_path.glob('*.pth'))


class Scores(BaseMetric):
    """Gives a score for each validation, whatever the model does."""

    def __init__(self, scores) -> None:
        super().__init__()
        self.scores = list(scores)

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return {'score': self.scores.pop(0)}


@pytest.mark.parametrize(
    ('rule', 'scores', 'best'),
    [
        ('greater', [0.5, math.nan, 0.4], 'epoch_1'),
        ('less', [0.5, math.nan, 0.6], 'epoch_1'),
        ('greater', [math.nan, 0.5, math.inf], 'epoch_2'),
        ('less', [math.nan, 0.5, -math.inf], 'epoch_2'),
    ],
)
def test_metric_that_is_not_finite_is_never_the_best(tmp_path, rule, scores, best):
    stopping = EarlyStoppingHook(
        'score', rule=rule, min_delta=0, patience=9, check_finite=False
    )
    train(
        Sick(),
        tmp_path,
        StepGuardHook(),
        stopping,
        val_dataloader=dict(
            dataset=[dict(inputs=torch.zeros(1))],
            batch_size=1,
            sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
        ),
        val_evaluator=[Scores(scores)],
        val_cfg=dict(),
        default_hooks=dict(
            checkpoint=dict(
                type='CheckpointHook', interval=1, save_best='score', rule=rule
            )
        ),
    )
    assert [p.stem for p in tmp_path.glob('best*')] == [f'best_score_{best}']
    assert stopping.best_score == 0.5
