# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Weight initialisers, found from every OpenMMLab scope."""

import functools
import types
from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule, initialize, update_init_info
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import nn

from ..checkpoints import load_backbone, match_backbone
from ..configs import type_name


@WEIGHT_INITIALIZERS.register_module()
class PretrainedBackbone:
    """Initialise a backbone from a checkpoint of any known layout, or fail.

    ``init_cfg=dict(type='PretrainedBackbone', checkpoint=...)`` on a backbone of
    mmpretrain, mmseg, mmdet or mmrotate. See
    :func:`cmid_mm.checkpoints.load_backbone` for what is recognised and which
    weights may stay as they are.

    Args:
        checkpoint (str): Path of the file.
        source (str): ``'student'`` or ``'teacher'``, for the checkpoints of
            self-supervised training. Defaults to ``'student'``.

    Raises:
        CheckpointError: When called, if the file cannot be read or a weight of the
            module would stay uninitialised.
    """

    def __init__(self, checkpoint: str, source: str = 'student') -> None:
        self.checkpoint = checkpoint
        self.source = source

    def __call__(self, module: nn.Module) -> None:
        """Load the checkpoint into a backbone."""
        load_backbone(module, self.checkpoint, self.source)
        if hasattr(module, '_params_init_info'):
            update_init_info(
                module, f'{type(self).__name__}: load from {self.checkpoint}'
            )


def init_weights(self: BaseModule) -> None:
    """The ``init_weights`` of a backbone whose ``init_cfg`` asks for a checkpoint.

    The file gives all weights, so the class's own method has nothing to add.
    """
    # The checkpoint comes last, for what it covers.
    initialize(self, sorted(_as_list(self.init_cfg), key=_asks_for_backbone))
    self.is_init = True


def check_backbones(model: nn.Module) -> None:
    """Refuse checkpoints that do not fit, before data is read and training begins.

    Args:
        model (nn.Module): A built model. It is not changed.

    Raises:
        CheckpointError: If a module asks for a :class:`PretrainedBackbone` that does
            not fit it; names the module.
    """
    for module in model.modules():
        for init_cfg in _as_list(getattr(module, 'init_cfg', None)):
            if _asks_for_backbone(init_cfg):
                settings = {k: v for k, v in init_cfg.items() if k != 'type'}
                asked = PretrainedBackbone(**settings)
                match_backbone(module, asked.checkpoint, asked.source)


def _as_list(init_cfg: Any) -> Sequence[Any]:
    return init_cfg if isinstance(init_cfg, (list, tuple)) else [init_cfg]


def _asks_for_backbone(init_cfg: Any) -> bool:
    if not isinstance(init_cfg, dict):
        return False
    return type_name(init_cfg) == PretrainedBackbone.__name__


# Backbones know only mmengine's own 'Pretrained': with any other initialiser,
# mmpretrain's ResNet zeroes the last norm of each block and its ViT draws the position
# embedding anew *after* loading, and the Swin of mmdet and mmseg reads the file itself
# whatever the type, loading nothing if the names are others. So a module that asks
# for PretrainedBackbone gets the method above in place of its class's.
_original_init = BaseModule.__init__


@functools.wraps(_original_init)
def _init(self: BaseModule, init_cfg: dict | list[dict] | None = None) -> None:
    _original_init(self, init_cfg)
    if any(map(_asks_for_backbone, _as_list(init_cfg))):
        self.init_weights = types.MethodType(init_weights, self)


BaseModule.__init__ = _init
