# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
from mmengine.registry import METRICS

from ...dependencies import registered_or_explained
from .change_metric import ChangeDetectionMetric
from .scene_metric import SceneClassificationMetric

with registered_or_explained(METRICS, 'InProcessDOTAMetric', 'DOTASubmission'):
    from . import dota_metrics  # noqa: F401

__all__ = ['ChangeDetectionMetric', 'SceneClassificationMetric']
