# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Segmentation on mmseg."""

from ...dependencies import SEGMENTATION_VERSIONS, check_dependencies

check_dependencies(SEGMENTATION_VERSIONS)

from .seg_data_preprocessor import (  # noqa: E402
    BitemporalPreprocessor,
    MultiBandSegPreprocessor,
)

__all__ = ['BitemporalPreprocessor', 'MultiBandSegPreprocessor']
