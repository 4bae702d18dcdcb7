# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
from . import hooks, settings
from .atomic_backend import AtomicLocalBackend
from .initializers import PretrainedBackbone
from .layer_decay import BackboneLayerDecayConstructor
from .optimizers import (
    BFloat16OptimWrapper,
    BlockwiseAdan,
    MatrixDecayConstructor,
)
from .resumable_train_loop import ResumableTrainLoop

__all__ = [
    'AtomicLocalBackend',
    'BFloat16OptimWrapper',
    'BackboneLayerDecayConstructor',
    'BlockwiseAdan',
    'MatrixDecayConstructor',
    'PretrainedBackbone',
    'ResumableTrainLoop',
    'hooks',
    'settings',
]
