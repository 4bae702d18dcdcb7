# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Finding a backbone's weights in a checkpoint of any layout."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .families import FAMILIES, Architecture, Layout, recognize_layout
from .reading import CheckpointError

#: Where checkpoints keep a backbone: (prefix, what such a file is, how other names
#: in it begin). Of several that fit, the first one before a known layout counts.
_PREFIXES = {
    'student': (
        ('student.backbone.', 'run of cmid_mm', ''),
        ('online_encoder.model.', 'published CMID checkpoint', ''),
        ('backbone.', 'Barlow Twins checkpoint', 'bn.running_mean'),
        ('backbone.', 'OpenMMLab checkpoint', ''),
        ('encoder_q.', 'SeCo (Lightning MoCo) checkpoint', 'heads_q.'),
        ('encoder_q.', 'MoCo checkpoint', ''),
        ('base_encoder.', 'MoCo v3 checkpoint', 'momentum_encoder.'),
        ('online_network.encoder.', 'BYOL-PyTorch checkpoint', 'target_network.'),
        ('encoder.', 'SEN12MS checkpoint', 'FC.'),
        ('encoder.', 'encoder checkpoint', ''),
        ('', 'SwAV checkpoint', 'prototypes.'),
        ('', 'Scale-MAE checkpoint', 'mask_token_decoder'),
        ('', 'MAE checkpoint', 'decoder_embed.'),
        ('', 'plain state dict', ''),
    ),
    'teacher': (
        ('teacher.', 'run of cmid_mm', ''),
        ('branch_encoder.', 'published CMID checkpoint', ''),
        ('encoder_k.module.0.', 'OpenMMLab MoCo checkpoint', ''),
        ('target_net.module.0.', 'OpenMMLab BYOL checkpoint', ''),
        ('encoder_k.', 'SeCo (Lightning MoCo) checkpoint', 'heads_k.'),
        ('encoder_k.', 'MoCo checkpoint', ''),
        ('momentum_encoder.', 'MoCo v3 checkpoint', 'base_encoder.'),
        ('target_network.encoder.', 'BYOL-PyTorch checkpoint', 'online_network.'),
    ),
}

#: DINO keeps student and teacher in two state dicts.
_DINO_PREFIXES = (('backbone.', 'DINO checkpoint', ''), ('', 'DINO checkpoint', ''))

#: Where checkpoints keep their state dict.
_STATE_DICTS = ('state_dict', 'model', 'model_state_dict')


@dataclass(frozen=True)
class FoundBackbone:
    """A backbone found in a checkpoint.

    Args:
        state (dict[str, Tensor]): Its weights, by mmpretrain's names if the layout is
            known, else by their own. Heads of the same network can be among them if
            the file keeps both side by side.
        prefix (str): What stood before its names.
        origin (str): What kind of file it was.
        layout (Layout | None): The layout it had.
        architecture (Architecture | None): None if the layout is unknown.
    """

    state: dict[str, Tensor]
    prefix: str
    origin: str
    layout: Layout | None
    architecture: Architecture | None


def abbreviate(names: Sequence[str], limit: int = 5) -> str:
    """Count names and list the first ones."""
    more = f' and {len(names) - limit} more' if len(names) > limit else ''
    return f'{len(names)} ({", ".join(names[:limit])}{more})'


def state_dict_of(checkpoint: Mapping[str, Any], path: str | os.PathLike[str]) -> dict:
    """The state dict in a checkpoint.

    It may stand under ``state_dict``, ``model`` or ``model_state_dict``, and its names
    behind ``module.``.

    Args:
        checkpoint (Mapping): What the file held.
        path (str | PathLike): The file, for the message.

    Returns:
        dict[str, Any]: Tensors, and what else stood among them, by name.

    Raises:
        CheckpointError: If there are no tensors.
    """
    state = checkpoint
    for key in _STATE_DICTS:
        if isinstance(state.get(key), Mapping):
            state = state[key]
    if not any(isinstance(value, Tensor) for value in state.values()):
        keys = abbreviate([str(key) for key in state]) if state else 'nothing'
        raise CheckpointError(
            f'{path} holds no weights; expected tensors by name, alone or under '
            f'{", ".join(map(repr, _STATE_DICTS))}, found {keys}'
        )
    prefix = 'module.'
    if all(str(name).startswith(prefix) for name in state):
        state = {name[len(prefix) :]: value for name, value in state.items()}
    return dict(state)


def find_backbone(
    checkpoint: Mapping[str, Any],
    path: str | os.PathLike[str],
    source: str = 'student',
) -> FoundBackbone:
    """Find the backbone in a checkpoint and give it mmpretrain's names.

    Args:
        checkpoint (Mapping): What the file held.
        path (str | PathLike): The file, for messages.
        source (str): ``'student'`` or ``'teacher'``. Only checkpoints of
            self-supervised training have a teacher. Defaults to ``'student'``.

    Returns:
        FoundBackbone: The backbone.

    Raises:
        CheckpointError: If the file holds no weights, or not the network asked for.
        ValueError: If ``source`` is unknown.
    """
    if source not in _PREFIXES:
        raise ValueError(f"source must be 'student' or 'teacher', got {source!r}")
    prefixes = _PREFIXES[source]
    halves = [half for half in _PREFIXES if isinstance(checkpoint.get(half), Mapping)]
    if halves:
        if source not in halves:
            raise CheckpointError(
                f'{path} holds no {source}; use source={halves[0]!r}, which it holds'
            )
        checkpoint, prefixes = checkpoint[source], _DINO_PREFIXES
    state = state_dict_of(checkpoint, path)
    state = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    kinds = [
        (prefix, origin)
        for prefix, origin, beside in prefixes
        if any(name.startswith(prefix) for name in state)
        and any(name.startswith(beside) for name in state)
    ]
    if not kinds:
        raise CheckpointError(
            f'{path} holds no {source} backbone; its tensors are named '
            f"{top_level_names(state)}; use source='student'"
        )
    backbones = [
        {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
        for prefix, _ in kinds
    ]
    layouts = [recognize_layout(found) for found in backbones]
    best = next((i for i, layout in enumerate(layouts) if layout is not None), 0)
    (prefix, origin), found, layout = kinds[best], backbones[best], layouts[best]
    if layout is None:
        return FoundBackbone(found, prefix, origin, None, None)
    found = layout.to_mmpretrain(found)
    architecture = FAMILIES[layout.family].describe(found)
    return FoundBackbone(found, prefix, origin, layout, architecture)


def top_level_names(names: Iterable[str]) -> str:
    """First parts of names and how often each stands, for messages."""
    counts = Counter(name.split('.')[0] for name in names)
    return abbreviate([f'{name}: {count}' for name, count in counts.items()])
