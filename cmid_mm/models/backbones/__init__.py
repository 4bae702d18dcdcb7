# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
from .rvsa import RVSAViT, RVSAViTAE

__all__ = ['RVSAViT', 'RVSAViTAE']
