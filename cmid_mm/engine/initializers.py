# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Weight initialisers, found from every OpenMMLab scope."""

import functools
import types
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from mmengine.logging import print_log
from mmengine.model import (
    BaseAveragedModel,
    BaseModule,
    initialize,
    update_init_info,
)
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import Tensor, nn

from ..checkpoints import LoadReport, match_backbone
from ..checkpoints.stems import Stem
from ..configs import type_name

#: What :func:`check_backbones` found for a module, until it is loaded.
_matched: WeakKeyDictionary[nn.Module, tuple[dict[str, Tensor], LoadReport]] = (
    WeakKeyDictionary()
)


@WEIGHT_INITIALIZERS.register_module()
class PretrainedBackbone:
    """Initialise a backbone from a checkpoint of any known layout, or fail.

    ``init_cfg=dict(type='PretrainedBackbone', checkpoint=...)`` on a backbone of
    mmpretrain, mmseg, mmdet or mmrotate. See
    :func:`cmid_mm.checkpoints.load_backbone` for what is recognised and which
    weights may stay as they are.

    Args:
        checkpoint (str): Path of the file.
        source (str): Which network of a file that holds several, as in
            :func:`cmid_mm.checkpoints.find_backbone`: ``'student'``, ``'teacher'`` or
            a name that the report tells. Defaults to ``'student'``.
        stem: How the first kernel is made for other bands than the file's, as in
            :func:`cmid_mm.checkpoints.load_backbone`. Defaults to None: other bands
            are refused.

    Raises:
        CheckpointError: When called, if the file cannot be read or a weight of the
            module would stay uninitialised.
    """

    def __init__(
        self, checkpoint: str, source: str = 'student', stem: Stem | None = None
    ) -> None:
        self.checkpoint = checkpoint
        self.source = source
        self.stem = stem

    def match(self, module: nn.Module) -> tuple[dict[str, Tensor], LoadReport]:
        """The weights for a module and what loading them does; changes nothing."""
        return match_backbone(module, self.checkpoint, self.source, self.stem)

    def __call__(self, module: nn.Module) -> None:
        """Load the checkpoint into a backbone."""
        known = module in _matched
        state, report = _matched.pop(module) if known else self.match(module)
        module.load_state_dict(state, strict=False)
        print_log(str(report), logger='current')
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


def check_backbones(model: nn.Module) -> list[LoadReport]:
    """Refuse checkpoints that do not fit, before data is read and training begins.

    What fits is kept for the initialisation, so that no file is read twice.

    Args:
        model (nn.Module): A built model. It is not changed.

    Returns:
        What will be loaded, a report for each module that asks for a
        :class:`PretrainedBackbone`.

    Raises:
        CheckpointError: If a checkpoint does not fit such a module; names it.
    """
    # Averages and copies of a network take its weights, not those of the file.
    averaged = {
        inner
        for module in model.modules()
        if isinstance(module, BaseAveragedModel)
        for inner in module.modules()
    }
    reports = []
    for module in model.modules():
        if module in averaged or getattr(module, 'is_init', False):
            continue
        for init_cfg in _as_list(getattr(module, 'init_cfg', None)):
            if _asks_for_backbone(init_cfg):
                initializer: Any = WEIGHT_INITIALIZERS.build(init_cfg)
                state, report = initializer.match(module)
                # Own tensors: the file may change until they are loaded.
                state = {name: value.clone() for name, value in state.items()}
                _matched[module] = state, report
                reports.append(report)
    return reports


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
