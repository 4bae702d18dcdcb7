# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
from .rvsa import RVSAViT, RVSAViTAE
from .visible import VisibleConvNeXt, VisibleHiera, VisibleResNet

__all__ = [
    'RVSAViT',
    'RVSAViTAE',
    'VisibleConvNeXt',
    'VisibleHiera',
    'VisibleResNet',
]
