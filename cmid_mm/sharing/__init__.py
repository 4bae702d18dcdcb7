# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Weights for others: backbones in one call, published folders, exported networks."""

from .backbone import Preprocess, StageFeatures, load_backbone

__all__ = ['Preprocess', 'StageFeatures', 'load_backbone']
