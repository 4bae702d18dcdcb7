# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Vectors of images and windows of them: made, searched, and classified."""

from .encoder import Encoder, load_encoder
from .index import Index
from .task import Embedding

__all__ = ['Embedding', 'Encoder', 'Index', 'load_encoder']
