# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Change detection on mmseg: two dates, one backbone, the BIT head."""

from cmid_mm.dependencies import check_dependencies

check_dependencies({'mmseg': '1.0.0'})

from ..segmentors.bitemporal_preprocessor import BitemporalPreprocessor  # noqa: E402
from .bit_head import BITHead  # noqa: E402
from .siamese_encoder_decoder import SiameseEncoderDecoder  # noqa: E402

__all__ = ['BITHead', 'BitemporalPreprocessor', 'SiameseEncoderDecoder']
