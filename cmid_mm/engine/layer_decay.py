# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Learning rates that fall with the depth of the layer, in every kind of model."""

import functools
from collections.abc import Callable
from typing import Any

from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmpretrain.engine.optimizers.layer_decay_optim_wrapper_constructor import (
    LearningRateDecayOptimWrapperConstructor,
)
from torch import nn


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class BackboneLayerDecayConstructor(LearningRateDecayOptimWrapperConstructor):
    """mmpretrain's layer-wise decay for any model with a ``backbone``.

    mmpretrain's own needs a model that knows the depths of its parameters, as its
    classifiers do; here the backbone does, and all else counts as what follows it.
    The arguments are mmpretrain's.

    Raises:
        ValueError: If the backbone has no method ``get_layer_depth``.
    """

    def add_params(
        self,
        params: list[dict],
        module: nn.Module,
        prefix: str = '',
        get_layer_depth: Callable[[str], tuple[int, int]] | None = None,
        **kwargs: Any,
    ) -> None:
        """Add the parameters of a module to ``params``, each with its own rate."""
        if get_layer_depth is None:
            backbone: Any = getattr(module, 'backbone', None)
            if not hasattr(backbone, 'get_layer_depth'):
                raise ValueError(
                    f'{type(self).__name__} asks model.backbone for the depths of its '
                    f'parameters; {type(backbone).__name__} has no get_layer_depth: '
                    'take the default constructor of optim_wrapper'
                )
            get_layer_depth = functools.partial(
                backbone.get_layer_depth, prefix='backbone.'
            )
        super().add_params(params, module, prefix, get_layer_depth, **kwargs)
