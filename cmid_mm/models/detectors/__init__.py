# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Oriented detection on mmrotate."""

from ...dependencies import DETECTION_VERSIONS, check_dependencies, check_operators

check_dependencies(DETECTION_VERSIONS)
check_operators()

from .rotated_tta import RotatedTTAModel  # noqa: E402

__all__ = ['RotatedTTAModel']
