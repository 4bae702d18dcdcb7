# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Scores of the change class by hand and against scikit-learn."""

import math

import numpy as np
import pytest
import torch
from sklearn import metrics

from cmid_mm.evaluation.metrics.change_metric import ChangeDetectionMetric, confusion


def samples(predictions, labels):
    return [
        dict(
            pred_sem_seg=dict(data=torch.as_tensor(p)[None]),
            gt_sem_seg=dict(data=torch.as_tensor(g)[None]),
        )
        for p, g in zip(predictions, labels, strict=True)
    ]


def evaluate(predictions, labels, batch_size=1, **settings):
    metric = ChangeDetectionMetric(**settings)
    every = samples(predictions, labels)
    for start in range(0, len(every), batch_size):
        metric.process(None, every[start : start + batch_size])
    return metric.evaluate(len(every))


def random_maps(count=19):
    generator = np.random.default_rng(0)
    labels = generator.random((count, 6, 7)) < 0.3
    wrong = generator.random(labels.shape) < 0.2
    return (labels ^ wrong).astype(np.int64), labels.astype(np.int64)


def test_by_hand():
    predicted = np.array([[[1, 1, 1, 0], [0, 0, 0, 0]]])
    label = np.array([[[1, 1, 0, 1], [1, 0, 0, 255]]])
    # 2 found, 1 false alarm, 2 missed, 2 unchanged found; the last pixel not scored.
    assert confusion(predicted[0], label[0]).tolist() == [2, 1, 2, 2]
    scores = evaluate(predicted, label)
    assert scores['precision'] == pytest.approx(200 / 3)
    assert scores['recall'] == pytest.approx(50)
    assert scores['F1'] == scores['mF1_batch8'] == pytest.approx(400 / 7)
    assert scores['IoU'] == pytest.approx(40)
    assert scores['OA'] == pytest.approx(400 / 7)


def test_pooled_scores_are_those_of_scikit_learn():
    predicted, labels = random_maps()
    scores = evaluate(predicted, labels)
    flat = labels.ravel(), predicted.ravel()
    assert scores['F1'] == pytest.approx(100 * metrics.f1_score(*flat))
    assert scores['IoU'] == pytest.approx(100 * metrics.jaccard_score(*flat))
    assert scores['precision'] == pytest.approx(100 * metrics.precision_score(*flat))
    assert scores['recall'] == pytest.approx(100 * metrics.recall_score(*flat))
    assert scores['OA'] == pytest.approx(100 * metrics.accuracy_score(*flat))


def test_published_figure_is_the_mean_over_batches_of_8():
    predicted, labels = random_maps(19)
    parts = [slice(0, 8), slice(8, 16), slice(16, 19)]
    expected = np.mean(
        [metrics.f1_score(labels[p].ravel(), predicted[p].ravel()) for p in parts]
    )
    scores = evaluate(predicted, labels)
    assert scores['mF1_batch8'] == pytest.approx(100 * expected)
    assert scores['mF1_batch8'] != pytest.approx(scores['F1'], abs=1e-3)


def test_batch_size_of_the_test_does_not_matter():
    predicted, labels = random_maps()
    assert evaluate(predicted, labels, 1) == evaluate(predicted, labels, 5)


def test_batches_without_change_are_left_out_of_the_mean():
    labels = np.zeros((24, 2, 2), dtype=np.int64)
    predicted = labels.copy()
    labels[0] = predicted[0] = 1  # first batch: F1 of 100
    predicted[8] = 1  # second: false alarms only, F1 of 0; third: 0/0
    scores = evaluate(predicted, labels)
    assert scores['mF1_batch8'] == pytest.approx(50)
    assert scores['F1'] == pytest.approx(200 / 3)


def test_nothing_to_find_and_nothing_found_is_not_a_score():
    empty = np.zeros((3, 2, 2), dtype=np.int64)
    scores = evaluate(empty, empty)
    assert scores['OA'] == 100
    for name in ('F1', 'IoU', 'precision', 'recall', 'mF1_batch8'):
        assert math.isnan(scores[name])


def test_missing_every_change_is_zero():
    labels = np.ones((1, 2, 2), dtype=np.int64)
    scores = evaluate(np.zeros_like(labels), labels)
    assert scores['F1'] == scores['IoU'] == scores['recall'] == 0
    assert math.isnan(scores['precision'])


def test_order_of_samples_survives_two_processes(monkeypatch):
    """mmengine deals samples out in turn and collects them in turn."""
    predicted, labels = random_maps(19)
    alone = evaluate(predicted, labels)
    ranks = []
    for rank in range(2):
        metric = ChangeDetectionMetric()
        indices = [*range(rank, 19, 2)]
        if len(indices) < 10:
            indices.append(0)  # the sampler pads to equal shares
        metric.process(None, samples(predicted[indices], labels[indices]))
        ranks.append(metric.results)
    dealt = [result for pair in zip(*ranks, strict=True) for result in pair][:19]
    assert ChangeDetectionMetric().compute_metrics(dealt) == alone
