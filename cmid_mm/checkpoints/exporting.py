# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Backbones for use outside cmid_mm."""

import logging
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from torch import Tensor

from ..dependencies import __version__
from .containers import abbreviate
from .families import FAMILIES, recognize_layout
from .finding import FoundBackbone, find_backbone
from .fitting import refuse_unusable, without_computed
from .networks import network_config
from .reading import (
    CheckpointError,
    read_checkpoint,
    refuse_same_file,
    write_checkpoint,
)
from .stored_images import as_stored, normalization, stored_reading

EXPORT_LAYOUTS = ('mmpretrain', 'mmdet', 'timm')


def export_backbone(
    checkpoint: str | os.PathLike[str],
    target: str | os.PathLike[str],
    layout: str = 'mmpretrain',
    source: str = 'student',
) -> dict[str, Any]:
    """Write the backbone of a checkpoint alone, with the names another library uses.

    Args:
        checkpoint (str | PathLike): Any file that
            :func:`cmid_mm.checkpoints.find_backbone` knows.
        target (str | PathLike): The file to write; safetensors if its name ends so.
        layout (str): ``'mmpretrain'``: names behind ``backbone.``, for
            ``init_cfg=dict(type='Pretrained', checkpoint=..., prefix='backbone.')``
            there; ``'mmdet'``: as ``init_cfg=dict(type='Pretrained',
            checkpoint=...)`` of mmdet and mmseg expects them, of a ViT as mmseg's
            own with ``patch_bias=True, final_norm=True``; ``'timm'``: timm's names,
            for ResNets also torchvision's. Defaults to ``'mmpretrain'``.
        source (str): Which network, as in :func:`cmid_mm.checkpoints.find_backbone`.
            Defaults to ``'student'``.

    Returns:
        dict[str, Any]: The ``meta`` that was written.

    Raises:
        CheckpointError: If the file holds no backbone, or one that the other library
            has no names for, or is itself the file to write.
        ValueError: If ``layout`` is unknown.
    """
    if layout not in EXPORT_LAYOUTS:
        raise ValueError(f'layout must be one of {EXPORT_LAYOUTS}, got {layout!r}')
    refuse_same_file(checkpoint, target)
    content = read_checkpoint(checkpoint, mmap=True, skip_objects=True)
    found = find_backbone(content, checkpoint, source)
    found.warn_of_choice(source, checkpoint)
    state = backbone_only(found, checkpoint)
    floating = [name for name in state if name.endswith(('weight', 'bias'))]
    refuse_unusable(state, floating, checkpoint)
    if layout == 'mmpretrain':
        wrapper = FAMILIES[found.layout.family].wrapper if found.layout else ''
        prefix = f'backbone.{wrapper}'
        state = {prefix + name: tensor for name, tensor in state.items()}
    else:
        state = _state_for(layout, state, checkpoint)

    meta: dict[str, Any] = dict(
        source=Path(checkpoint).name,
        origin=found.origin,
        network=source,
        layout=layout,
        cmid_mm_version=__version__,
    )
    if found.architecture is not None:
        with suppress(CheckpointError):  # of a family that others build
            meta['backbone'] = network_config(found, content, checkpoint)
        meta.update(
            architecture=str(found.architecture), bands=found.architecture.bands
        )
    meta.update(normalization(content))
    reading = stored_reading(content)
    if reading is not None:
        meta['reading'] = as_stored(reading)
    write_checkpoint(dict(meta=meta, state_dict=state), target)
    return meta


def backbone_only(
    found: FoundBackbone, path: str | os.PathLike[str]
) -> dict[str, Tensor]:
    """The backbone's own weights, without heads that stood beside it.

    Raises:
        CheckpointError: If no backbone was recognised.
    """
    if found.layout is None and not found.prefix:
        raise CheckpointError(
            f'{path} holds no backbone of a known family, nor one under a known '
            "prefix such as 'student.backbone.' or 'backbone.'"
        )
    if found.layout is None or found.prefix.endswith('backbone.'):
        return found.state
    parts = re.compile(FAMILIES[found.layout.family].parts)
    return {name: value for name, value in found.state.items() if parts.match(name)}


def _state_for(
    library: str, state: dict[str, Tensor], path: str | os.PathLike[str]
) -> dict[str, Tensor]:
    """A backbone by the names of mmdet and mmseg, or of timm."""
    own = recognize_layout(state)
    family = FAMILIES[own.family] if own else None
    export = family.export(library, state) if family else None
    if library == 'timm' and export is None:
        with_timm_names = [f.name for f in FAMILIES.values() if 'timm' in f.exports]
        raise CheckpointError(
            f'{path}: timm names are known for {", ".join(with_timm_names)} only; '
            'use --layout mmpretrain'
        )
    if family and export:
        left_out = re.compile(export.left_out or r'$.')
        lost = [name for name in without_computed(state) if left_out.match(name)]
        if lost:
            print_log(
                f'{path}: left out, as {library} has no place for them: '
                f'{abbreviate(lost)}',
                'current',
                level=logging.WARNING,
            )
        state = {k: v for k, v in state.items() if not left_out.match(k)}
        parts = re.compile(export.parts or family.parts)
        foreign = [name for name in state if not parts.match(name)]
        lacking = [name for name in export.needs if name not in state]
        if foreign or lacking:
            others = 'timm has' if library == 'timm' else 'mmdet and mmseg have'
            raise CheckpointError(
                f'{path}: looks like a {family.name}, but '
                + (
                    f'{others} no name for {len(foreign)} of its weights, such as '
                    f'{foreign[0]}'
                    if foreign
                    else f'has no {" and no ".join(lacking)}, which {others}'
                )
                + '; use --layout mmpretrain'
            )
        state = export.layout.from_mmpretrain(state)
    prefix = ''
    if family and library == 'mmdet':
        prefix = family.mmdet_prefix + family.wrapper
    return {prefix + name: tensor for name, tensor in state.items()}
