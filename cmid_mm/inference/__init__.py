# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Predicting images with trained models of all tasks."""

from ..checkpoints.fitting import load_weights, read_fitting_checkpoint
from . import model_index, stock_inferencers  # noqa: F401
from .inferencer import Inferencer

__all__ = ['Inferencer', 'load_weights', 'read_fitting_checkpoint']
