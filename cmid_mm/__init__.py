# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Remote-sensing self-supervised pre-training for OpenMMLab."""

__version__ = '0.1.0'

from . import (  # noqa: F401, E402
    checkpoints,
    datasets,
    engine,
    evaluation,
    models,
    visualization,
)
