# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Data sets straight from scenes and a layer of labels, window by window."""

from .change import WindowedChangeDetection

__all__ = ['WindowedChangeDetection']
