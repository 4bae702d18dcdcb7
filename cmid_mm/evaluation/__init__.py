# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Measures of what a frozen encoder knows."""

from ..isolation import buffers_unchanged, modes_unchanged, rng_unchanged
from .features import (
    LabelledFolder,
    accuracy,
    accuracy_per_class,
    extract_features,
    knn_accuracy,
    knn_predict,
    linear_probe_accuracy,
    linear_probe_predict,
)
from .frozen_encoder import evaluate_frozen_encoder, load_frozen_encoder
from .metrics.scene_metric import SceneClassificationMetric

__all__ = [
    'LabelledFolder',
    'SceneClassificationMetric',
    'accuracy',
    'accuracy_per_class',
    'buffers_unchanged',
    'evaluate_frozen_encoder',
    'extract_features',
    'knn_accuracy',
    'knn_predict',
    'linear_probe_accuracy',
    'linear_probe_predict',
    'load_frozen_encoder',
    'modes_unchanged',
    'rng_unchanged',
]
