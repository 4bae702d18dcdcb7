# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
from . import openmmlab  # noqa: F401
from .exporting import EXPORT_LAYOUTS, export_backbone
from .finding import FoundBackbone, find_backbone
from .fitting import load_weights
from .inspection import inspect_checkpoint
from .loading import LoadReport, load_backbone, match_backbone
from .published import convert_checkpoint
from .reading import CheckpointError, read_checkpoint, write_checkpoint
from .stored_images import normalization, stored_reading

__all__ = [
    'EXPORT_LAYOUTS',
    'CheckpointError',
    'FoundBackbone',
    'LoadReport',
    'convert_checkpoint',
    'export_backbone',
    'find_backbone',
    'inspect_checkpoint',
    'load_backbone',
    'load_weights',
    'match_backbone',
    'normalization',
    'read_checkpoint',
    'stored_reading',
    'write_checkpoint',
]
