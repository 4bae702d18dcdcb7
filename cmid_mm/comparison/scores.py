# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Names of the scores that a test gives, known before it runs."""

import inspect
from typing import Any

from mmengine.config import Config
from mmengine.registry import METRICS

from ..configs import resolve_type, scope_of

#: Of mmseg's ``IoUMetric``, by what its ``iou_metrics`` ask for.
_AREA_SCORES = {
    'mIoU': ('mIoU', 'mAcc'),
    'mDice': ('mDice', 'mAcc'),
    'mFscore': ('mFscore', 'mPrecision', 'mRecall'),
}


def score_names(cfg: Config) -> list[str] | None:
    """Names of the scores of a config's test.

    Args:
        cfg: Has a ``test_evaluator``.

    Returns:
        list[str] | None: The names; None if an evaluator does not tell, which only
        the test itself then shows.
    """
    evaluators: Any = cfg.test_evaluator
    names: list[str] = []
    for evaluator in [evaluators] if hasattr(evaluators, 'keys') else evaluators:
        own = _names_of(cfg, evaluator)
        if own is None:
            return None
        names += own
    return names


def _names_of(cfg: Config, evaluator: Any) -> list[str] | None:
    with scope_of(cfg), METRICS.switch_scope_and_registry(None) as registry:
        metric = resolve_type(registry, evaluator.get('type'))
    options = {k: v for k, v in evaluator.items() if k not in ('type', 'prefix')}
    if hasattr(metric, 'score_names'):
        names = list(metric.score_names(**options))
    elif callable(metric) and 'iou_metrics' in inspect.signature(metric).parameters:
        asked = options.get('iou_metrics', ['mIoU'])
        names = ['aAcc', *(name for key in asked for name in _AREA_SCORES.get(key, ()))]
    else:
        return None
    prefix = evaluator.get('prefix') or metric.default_prefix
    return [f'{prefix}/{name}' if prefix else name for name in names]
