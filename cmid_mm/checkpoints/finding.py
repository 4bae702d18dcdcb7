# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Finding a backbone's weights in a checkpoint of any layout."""

import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor

from .containers import abbreviate, state_dicts
from .families import FAMILIES, LAYOUTS, Architecture, Layout
from .reading import CheckpointError

#: Known checkpoints: (what stands before the backbone's names, how other names in the
#: file begin, whose checkpoint that is). Of several backbones the first one counts.
_ORIGINS = (
    ('student.backbone.', 'student.dino_head.', 'DINOv2 checkpoint'),
    ('student.backbone.', '', 'run of cmid_mm'),
    ('teacher.backbone.', 'teacher.dino_head.', 'DINOv2 checkpoint'),
    ('teacher.', 'student.backbone.', 'run of cmid_mm'),
    ('online_encoder.model.', '', 'published CMID checkpoint'),
    ('branch_encoder.', '', 'published CMID checkpoint'),
    ('backbone.', 'bn.running_mean', 'Barlow Twins checkpoint'),
    ('backbone.', 'momentum_backbone.', 'solo-learn checkpoint'),
    ('momentum_backbone.', '', 'solo-learn checkpoint'),
    ('backbone.', 'backbone_momentum.', 'TorchGeo MoCo checkpoint'),
    ('backbone_momentum.', '', 'TorchGeo MoCo checkpoint'),
    ('backbone.', '', 'OpenMMLab checkpoint'),
    ('encoder_k.module.0.', '', 'OpenMMLab MoCo checkpoint'),
    ('target_net.module.0.', '', 'OpenMMLab BYOL checkpoint'),
    ('encoder_q.', 'heads_q.', 'SeCo (Lightning MoCo) checkpoint'),
    ('encoder_k.', 'heads_k.', 'SeCo (Lightning MoCo) checkpoint'),
    ('encoder_q.', '', 'MoCo checkpoint'),
    ('encoder_k.', '', 'MoCo checkpoint'),
    ('base_encoder.', 'momentum_encoder.', 'MoCo v3 checkpoint'),
    ('momentum_encoder.', 'base_encoder.', 'MoCo v3 checkpoint'),
    ('online_network.encoder.', 'target_network.', 'BYOL-PyTorch checkpoint'),
    ('target_network.encoder.', 'online_network.', 'BYOL-PyTorch checkpoint'),
    ('model.encoder.model.', 'model.predictor.', 'TorchGeo BYOL checkpoint'),
    ('_feature_blocks.', '', 'VISSL checkpoint'),
    ('encoder.', 'FC.', 'SEN12MS checkpoint'),
    ('encoder.', '', 'encoder checkpoint'),
    ('', 'prototypes.', 'SwAV checkpoint'),
    ('', 'mask_token_decoder', 'Scale-MAE checkpoint'),
    ('', 'decoder_embed.', 'MAE checkpoint'),
    ('', '', 'plain state dict'),
)
#: What moving averages of a network are called. mmengine keeps the average itself in
#: ``state_dict``, and in ``ema_state_dict`` the network that was trained.
_AVERAGED = re.compile(
    r'(^|[._])(teacher|momentum|target|ema(?!_state_dict)|averaged|encoder_k'
    r'|branch_encoder)([._]|$)'
)


@dataclass(frozen=True)
class FoundBackbone:
    """A backbone found in a checkpoint.

    Args:
        state: Its weights, by mmpretrain's names if the layout is known, else by their
            own. Heads of the same network can be among them if the file keeps both
            side by side.
        prefix: What stood before its names.
        origin: What kind of file it was.
        layout: The layout it had.
        architecture: None if the layout is unknown.
        place: The keys that lead to the state dict, and the prefix, joined by dots.
        others: Places of the other backbones in the file, by what ``source`` takes.
    """

    state: dict[str, Tensor]
    prefix: str
    origin: str
    layout: Layout | None
    architecture: Architecture | None
    place: str = ''
    others: Mapping[str, str] = field(default_factory=dict)

    def warn_of_choice(self, source: str, path: str | os.PathLike[str]) -> None:
        """Say which network was taken if the file has several and nobody chose one.

        That of a student and its moving average the student is taken, is the rule.

        Args:
            source: What was asked for.
            path: The file.
        """
        if source == 'student' and set(self.others) - {'teacher'}:
            print_log(
                f'{path} holds several networks; taken: {self.place}, other choices: '
                f'{_choices(self.others)}',
                'current',
                level=logging.WARNING,
            )

    @property
    def description(self) -> str:
        """What kind of file it was, whose names it had, and what else is there."""
        text = self.origin
        if self.layout is not None:
            text += f', {self.layout.family} names of {self.layout.name}'
        if self.others:
            text += f'; taken: {self.place}, other choices: {_choices(self.others)}'
        return text


def find_backbone(
    checkpoint: Mapping[str, Any],
    path: str | os.PathLike[str],
    source: str = 'student',
    own_names: bool = False,
) -> FoundBackbone:
    """Find the backbone in a checkpoint and give it mmpretrain's names.

    Args:
        checkpoint: What the file held.
        path: The file, for messages.
        source: Which one, if there are several: ``'student'`` for the network that was
            trained, ``'teacher'`` for its moving average, or the place of another as
            :attr:`FoundBackbone.others` tells it, whole or in part, such as
            ``'state_dict_ema'`` or ``'model.encoder'``.
        own_names: Leave the names as they are, for a module of no known family, and
            look at the places only where backbones usually stand.

    Returns:
        The backbone.

    Raises:
        CheckpointError: If the file holds no weights, or not the network asked for.
    """
    containers = {
        keys: {
            name: value for name, value in state.items() if isinstance(value, Tensor)
        }
        for keys, state in state_dicts(checkpoint, path).items()
    }
    candidates = [] if own_names else _of_known_families(containers)
    candidates = candidates or _at_usual_places(containers)
    sources: dict[str, _Candidate] = {}
    for candidate in candidates:
        role = 'teacher' if candidate.is_average else 'student'
        sources[candidate.place if role in sources else role] = candidate
    chosen = sources.get(source) or next(
        (c for c in candidates if f'.{source}.' in f'.{c.place}.'), None
    )
    places = {name: candidate.place for name, candidate in sources.items()}
    if chosen is None:
        names = next(iter(containers.values()))
        raise CheckpointError(
            f'{path} holds no {source} backbone; its tensors are named '
            f'{top_level_names(names)}; use {_choices(places)}'
        )
    others = {n: place for n, place in places.items() if sources[n] is not chosen}
    state, architecture = chosen.state, None
    _refuse_without_numbers(state, path)
    if chosen.layout is not None:
        state = chosen.layout.to_mmpretrain(state)
        architecture = FAMILIES[chosen.layout.family].describe(state)
    return FoundBackbone(
        state,
        chosen.prefix,
        chosen.origin,
        chosen.layout,
        architecture,
        chosen.place,
        others,
    )


def _refuse_without_numbers(
    state: Mapping[str, Tensor], path: str | os.PathLike[str]
) -> None:
    """Refuse tensors of which the file does not tell every number in its place."""
    for name, value in state.items():
        if value.is_meta:
            kind = 'tensor of the meta device'
        elif value.layout is not torch.strided:
            kind = f'tensor of {value.layout}'
        elif value.is_quantized:
            kind = 'quantized tensor'
        else:
            continue
        raise CheckpointError(
            f'{path}: {name} is a {kind}, expected a dense one with its numbers; save '
            'the state dict of the network with its weights on a device and dense'
        )


@dataclass(frozen=True)
class _Candidate:
    """Tensors behind a prefix in a state dict, which may be a backbone."""

    keys: str
    prefix: str
    layout: Layout | None
    tensors: dict[str, Tensor]

    @property
    def place(self) -> str:
        return '.'.join(filter(None, (self.keys, self.prefix[:-1])))

    @property
    def is_average(self) -> bool:
        return _AVERAGED.search(self.place) is not None

    @property
    def rank(self) -> int:
        """Position in :data:`_ORIGINS`; its length if none fits."""
        for rank, (prefix, beside, _) in enumerate(_ORIGINS):
            if prefix == self.prefix and _begins(self.tensors, beside):
                return rank
        return len(_ORIGINS)

    @property
    def origin(self) -> str:
        if self.keys in ('student', 'teacher'):
            return 'DINO checkpoint'
        if self.rank == len(_ORIGINS):
            return f'{self.prefix[:-1]!r} of a checkpoint'
        return _ORIGINS[self.rank][-1]

    @property
    def state(self) -> dict[str, Tensor]:
        return {
            name[len(self.prefix) :]: value
            for name, value in self.tensors.items()
            if name.startswith(self.prefix)
        }


def _of_known_families(containers: Mapping[str, dict[str, Tensor]]) -> list[_Candidate]:
    """What has the names of a known layout, behind any prefix; most likely first."""
    candidates: list[_Candidate] = []
    for keys, tensors in containers.items():
        layouts: dict[str, Layout] = {}
        for layout in LAYOUTS:
            first, second = layout.signature
            for name in tensors:
                prefix = name.removesuffix(first)
                is_whole = name != prefix and prefix[-1:] in ('', '.')
                if is_whole and prefix + second in tensors:
                    begun = (n for n in tensors if n.startswith(prefix))
                    if layout.fits(n[len(prefix) :] for n in begun):
                        layouts.setdefault(prefix, layout)
        here = [_Candidate(keys, *found, tensors) for found in layouts.items()]
        candidates += sorted(here, key=lambda candidate: candidate.rank)
    return candidates


def _at_usual_places(containers: Mapping[str, dict[str, Tensor]]) -> list[_Candidate]:
    """What stands behind a usual prefix in the first state dict."""
    keys, tensors = next(iter(containers.items()))
    prefixes = dict.fromkeys(prefix for prefix, _, _ in _ORIGINS)
    here = [_Candidate(keys, p, None, tensors) for p in prefixes if _begins(tensors, p)]
    return sorted(here, key=lambda candidate: candidate.rank)


def _begins(names: Iterable[str], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in names)


def _choices(places: Mapping[str, str]) -> str:
    """What ``source`` takes, and where that stands if it does not say so."""
    return ' or '.join(
        f'source={source!r}' + (f' ({place})' if place not in ('', source) else '')
        for source, place in places.items()
    )


def top_level_names(names: Iterable[str]) -> str:
    """First parts of names and how often each stands, for messages."""
    counts = Counter(name.split('.')[0] for name in names)
    return abbreviate([f'{name}: {count}' for name, count in counts.items()])
