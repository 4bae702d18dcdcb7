# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from mmengine.registry import METRICS
from mmpretrain.structures import DataSample
from sklearn import metrics as sklearn_metrics

from cmid_mm.evaluation import SceneClassificationMetric


def evaluate(labels, predicted, classes):
    metric = METRICS.build(dict(type='SceneClassificationMetric'))
    metric.dataset_meta = dict(classes=classes)
    for start in range(0, len(labels), 4):  # the last batch is smaller
        samples = [
            DataSample().set_gt_label(label).set_pred_label(guess).to_dict()
            for label, guess in zip(
                labels[start : start + 4], predicted[start : start + 4], strict=True
            )
        ]
        metric.process(None, samples)
    return metric, metric.evaluate(len(labels))


def test_equals_sklearn():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 5, (87,), generator=generator)
    noise = torch.randint(0, 5, (87,), generator=generator)
    predicted = torch.where(noise > 1, labels, noise)
    metric, values = evaluate(labels.tolist(), predicted.tolist(), list('abcde'))
    assert isinstance(metric, SceneClassificationMetric)
    expected = sklearn_metrics.confusion_matrix(labels, predicted)
    assert metric.matrix.tolist() == expected.tolist()
    accuracy = 100 * sklearn_metrics.accuracy_score(labels, predicted)
    recall = 100 * sklearn_metrics.recall_score(labels, predicted, average='macro')
    assert values == {
        'accuracy/OA': pytest.approx(accuracy),
        'accuracy/mean_class': pytest.approx(recall),
    }
    assert 20 < values['accuracy/OA'] < 95


def test_rows_are_true_classes():
    metric, values = evaluate([0, 0, 0, 1], [0, 1, 1, 1], ['a', 'b'])
    assert metric.matrix.tolist() == [[1, 2], [0, 1]]
    assert values['accuracy/OA'] == 50
    assert values['accuracy/mean_class'] == pytest.approx((100 / 3 + 100) / 2)


def test_class_without_images_does_not_count():
    _, values = evaluate([0, 0, 2], [0, 1, 2], ['a', 'b', 'c'])
    assert values['accuracy/mean_class'] == 75
