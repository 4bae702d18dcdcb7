# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Change detection on mmseg: two dates, one backbone, the BIT head."""

from ...dependencies import SEGMENTATION_VERSIONS, check_dependencies

check_dependencies(SEGMENTATION_VERSIONS)

from .bit_head import BITHead  # noqa: E402
from .siamese_encoder_decoder import SiameseEncoderDecoder  # noqa: E402

__all__ = ['BITHead', 'SiameseEncoderDecoder']
