# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Remote-sensing self-supervised pre-training for OpenMMLab.

Importing this package registers its models, data sets, hooks and the rest with
OpenMMLab's registries: ``custom_imports = dict(imports=['cmid_mm'])``.
"""

from .dependencies import (
    MINIMUM_VERSIONS,
    __version__,
    check_dependencies,
    without_notices,
)

with without_notices():
    check_dependencies(MINIMUM_VERSIONS)

    from . import (
        building,
        checkpoints,
        datasets,
        engine,
        evaluation,
        inference,
        models,
        visualization,
    )
    from .sharing import load_backbone

__all__ = [
    'MINIMUM_VERSIONS',
    '__version__',
    'building',
    'check_dependencies',
    'checkpoints',
    'datasets',
    'engine',
    'evaluation',
    'inference',
    'load_backbone',
    'models',
    'visualization',
]
