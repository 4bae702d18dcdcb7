# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Predicting images with trained models of all tasks."""

from .inferencer import Inferencer
from .weights import load_weights, read_fitting_checkpoint

__all__ = ['Inferencer', 'load_weights', 'read_fitting_checkpoint']
