# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
from .assignment_head import AssignmentHead, location_grid, match_cells
from .branch_head import BranchHead, PairedViews
from .contrastive_head import BYOLHead, MoCoHead, info_nce
from .cross_correlation_head import CrossCorrelationHead
from .distillation_head import FeatureDistillationHead
from .reconstruction_head import ReconstructionHead
from .similarity_head import PatchSimilarityHead
from .spread_head import SpreadHead, koleo

__all__ = [
    'AssignmentHead',
    'BYOLHead',
    'BranchHead',
    'CrossCorrelationHead',
    'FeatureDistillationHead',
    'MoCoHead',
    'ReconstructionHead',
    'PairedViews',
    'PatchSimilarityHead',
    'SpreadHead',
    'info_nce',
    'koleo',
    'location_grid',
    'match_cells',
]
