# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Building the parts of models."""

from typing import Any

from mmengine.registry import MODELS

from ..configs import resolve_type


def build_part(config: dict[str, Any]) -> Any:
    """Build a part of a model: a type of mmpretrain or of this package.

    Names mean the same whatever the default scope of the run is; a type of another
    package is given as ``'mmdet.ResNet'``.

    Args:
        config: Config of the part.

    Returns:
        The module.
    """
    return MODELS.build({'_scope_': 'mmpretrain', **config})


def part_class(config: dict[str, Any]) -> Any:
    """The class that :func:`build_part` makes an instance of."""
    with MODELS.switch_scope_and_registry(
        config.get('_scope_', 'mmpretrain')
    ) as registry:
        return resolve_type(registry, config.get('type'))
