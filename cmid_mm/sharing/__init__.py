# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Weights for others: backbones in one call, published folders, exported networks."""

from .backbone import Preprocess, StageFeatures, load_backbone
from .model_card import Facts
from .publishing import publish

__all__ = ['Facts', 'Preprocess', 'StageFeatures', 'load_backbone', 'publish']
