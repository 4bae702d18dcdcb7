# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Backbones for use outside cmid_mm."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..dependencies import __version__
from .finding import FoundBackbone, find_backbone
from .layouts import mmdet_layout, timm_layout
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
        source (str): ``'student'`` or ``'teacher'``. Defaults to ``'student'``.

    Returns:
        dict[str, Any]: The ``meta`` that was written.

    Raises:
        CheckpointError: If the file holds no backbone, or one that the other library
            has no names for.
        ValueError: If ``layout`` or ``source`` is unknown.
    """
    if layout not in EXPORT_LAYOUTS:
        raise ValueError(f'layout must be one of {EXPORT_LAYOUTS}, got {layout!r}')
    content = read_checkpoint(checkpoint, mmap=True, skip_objects=True)
    found = find_backbone(content, checkpoint, source)
    state = backbone_only(found, checkpoint)
    if layout == 'timm':
        state = _timm_state(state, checkpoint)
    elif layout == 'mmdet':
        state = _mmdet_state(state, found, checkpoint)
    # mmdet's Swin reads only names with this prefix, its ResNet only those without.
    is_swin = found.architecture is not None and found.architecture.family == 'Swin'
    if layout == 'mmpretrain' or (layout == 'mmdet' and is_swin):
        state = {f'backbone.{name}': tensor for name, tensor in state.items()}

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
    parts = re.compile(_PARTS[found.layout.family])
    return {name: value for name, value in found.state.items() if parts.match(name)}


_PARTS = {
    'ResNet': r'(conv1|bn1|stem|layer\d)\.',
    'Swin': r'(patch_embed|stages|norm\d)\.|absolute_pos_embed$',
    'ViT': r'(patch_embed|pre_norm|layers|ln1|ln2)\.|(cls_token|pos_embed)$',
    'ConvNeXt': r'(downsample_layers|stages|norm\d)\.',
    'RVSAViT': r'(patch_embed|blocks|norm|fpn\d)\.|pos_embed$',
    'RVSAViTAE': r'(patch_embed|blocks|norm|fpn\d)\.|pos_embed$',
}


#: What mmseg's ViT has, by mmpretrain's names.
_MMSEG_VIT = re.compile(
    r'(patch_embed\.projection|ln1'
    r'|layers\.\d+\.(ln1|ln2|attn\.qkv|attn\.proj|ffn\.layers))\.'
    r'|(cls_token|pos_embed)$'
)


def _mmdet_state(
    state: Mapping[str, Tensor], found: FoundBackbone, path: str | os.PathLike[str]
) -> dict[str, Tensor]:
    if found.layout is not None and found.layout.family == 'ViT':
        # The norm of averaged patches, which a dense network does not have.
        state = {k: v for k, v in state.items() if not k.startswith('ln2.')}
        foreign = [name for name in state if not _MMSEG_VIT.match(name)]
        lacking = {'cls_token', 'pos_embed'}.difference(state)
        if foreign or lacking:
            what = foreign[0] if foreign else f'no {" and no ".join(sorted(lacking))}'
            raise CheckpointError(
                f"{path}: mmseg's ViT is another network than that of the file, which "
                f'has {what}; use --layout mmpretrain and '
                "type='mmpretrain.VisionTransformer' there"
            )
    layout = mmdet_layout(state)
    return layout.from_mmpretrain(state) if layout else dict(state)


def _timm_state(
    state: Mapping[str, Tensor], path: str | os.PathLike[str]
) -> dict[str, Tensor]:
    layout = timm_layout(state)
    if layout is None:
        raise CheckpointError(
            f'{path}: timm names are known for ResNet, Swin, ViT and ConvNeXt only; '
            'use --layout mmpretrain'
        )
    foreign = [name for name in state if not re.match(_PARTS[layout.family], name)]
    if foreign:
        raise CheckpointError(
            f'{path}: looks like a {layout.family}, but timm has no name for '
            f'{len(foreign)} of its weights, such as {foreign[0]}; '
            'use --layout mmpretrain'
        )
    # timm computes the index itself and knows the last norm only.
    not_in_timm = re.compile(r'.*relative_position_index$|norm[0-2]\.')
    state = {
        name: value for name, value in state.items() if not not_in_timm.match(name)
    }
    return layout.from_mmpretrain(state)
