# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Backbones for use outside cmid_mm."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..dependencies import __version__
from .families import FAMILIES, Family, recognize_layout
from .finding import FoundBackbone, find_backbone
from .reading import CheckpointError, read_checkpoint, write_checkpoint
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
            has no names for.
        ValueError: If ``layout`` is unknown.
    """
    if layout not in EXPORT_LAYOUTS:
        raise ValueError(f'layout must be one of {EXPORT_LAYOUTS}, got {layout!r}')
    content = read_checkpoint(checkpoint, mmap=True, skip_objects=True)
    found = find_backbone(content, checkpoint, source)
    state = backbone_only(found, checkpoint)
    if layout == 'timm':
        state = _timm_state(state, checkpoint)
    elif layout == 'mmdet' and found.layout is not None:
        state = _mmdet_state(state, FAMILIES[found.layout.family], checkpoint)
    elif layout == 'mmpretrain':
        wrapper = FAMILIES[found.layout.family].wrapper if found.layout else ''
        prefix = f'backbone.{wrapper}'
        state = {prefix + name: tensor for name, tensor in state.items()}

    meta: dict[str, Any] = dict(
        source=Path(checkpoint).name,
        origin=found.origin,
        network=source,
        layout=layout,
        cmid_mm_version=__version__,
    )
    if found.architecture is not None:
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


def _mmdet_state(
    state: Mapping[str, Tensor], family: Family, path: str | os.PathLike[str]
) -> dict[str, Tensor]:
    export = family.export('mmdet', state)
    if export is None:
        exported = dict(state)
    else:
        exported = {
            name: tensor
            for name, tensor in state.items()
            if not (export.leaves and re.match(export.leaves, name))
        }
        foreign = [n for n in exported if export.has and not re.match(export.has, n)]
        lacking = set(export.needs).difference(exported)
        if foreign or lacking:
            what = foreign[0] if foreign else f'no {" and no ".join(sorted(lacking))}'
            raise CheckpointError(
                f"{path}: {export.layout.name}'s {family.name} is another network "
                f'than that of the file, which has {what}; use --layout mmpretrain '
                f'and type={family.type!r} there'
            )
        exported = export.layout.from_mmpretrain(exported)
    prefix = family.mmdet_prefix + family.wrapper
    return {prefix + name: tensor for name, tensor in exported.items()}


def _timm_state(
    state: Mapping[str, Tensor], path: str | os.PathLike[str]
) -> dict[str, Tensor]:
    own = recognize_layout(state)
    family = FAMILIES[own.family] if own else None
    export = family.export('timm', state) if family else None
    if family is None or export is None:
        with_timm_names = [f.name for f in FAMILIES.values() if 'timm' in f.exports]
        raise CheckpointError(
            f'{path}: timm names are known for {", ".join(with_timm_names)} only; '
            'use --layout mmpretrain'
        )
    foreign = [name for name in state if not re.match(family.parts, name)]
    if foreign:
        raise CheckpointError(
            f'{path}: looks like a {family.name}, but timm has no name for '
            f'{len(foreign)} of its weights, such as {foreign[0]}; '
            'use --layout mmpretrain'
        )
    # timm computes the index itself and knows the last norm only.
    not_in_timm = re.compile(r'.*relative_position_index$|norm[0-2]\.')
    state = {
        name: value for name, value in state.items() if not not_in_timm.match(name)
    }
    return export.layout.from_mmpretrain(state)
