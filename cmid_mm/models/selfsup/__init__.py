# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
from .cmid import CMID
from .masked_encoder import MaskedEncoder

__all__ = ['CMID', 'MaskedEncoder']
