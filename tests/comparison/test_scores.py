# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import METRICS

import cmid_mm  # noqa: F401
from cmid_mm.comparison.scores import score_names

EVALUATORS = [
    (
        'mmengine',
        dict(type='ChangeDetectionMetric', group=4),
        ['F1', 'IoU', 'precision', 'recall', 'OA', 'mF1_batch4'],
    ),
    (
        'mmpretrain',
        [dict(type='SceneClassificationMetric', prefix='a')],
        ['a/OA', 'a/mean_class'],
    ),
    (
        'mmseg',
        dict(type='IoUMetric', iou_metrics=['mIoU', 'mFscore']),
        ['aAcc', 'mIoU', 'mAcc', 'mFscore', 'mPrecision', 'mRecall'],
    ),
    (
        'mmrotate',
        dict(type='InProcessDOTAMetric', iou_thrs=[0.3, 0.5]),
        ['dota/AP30', 'dota/AP50', 'dota/mAP'],
    ),
    ('mmrotate', dict(type='DOTASubmission', outfile_prefix='x'), []),
    ('mmpretrain', dict(type='Accuracy'), None),
    ('mmpretrain', dict(type='NobodysMetric'), None),
]


@pytest.mark.parametrize(('scope', 'evaluator', 'names'), EVALUATORS)
def test_names_of_scores(scope, evaluator, names):
    pytest.importorskip(scope)
    cfg = Config(dict(default_scope=scope, test_evaluator=evaluator))
    assert score_names(cfg) == names


def test_the_metrics_give_what_they_promise():
    change = METRICS.build(dict(type='ChangeDetectionMetric', group=2))
    scores = change.compute_metrics([np.array([1, 2, 3, 4])])
    assert set(scores) == set(change.score_names(group=2))
    scene = METRICS.build(dict(type='SceneClassificationMetric'))
    scene.dataset_meta = dict(classes=['a', 'b'])
    scores = scene.compute_metrics([(0, 0), (1, 0)])
    assert set(scores) == set(scene.score_names())
    assert torch.equal(scene.matrix, torch.tensor([[1, 0], [1, 0]]))
