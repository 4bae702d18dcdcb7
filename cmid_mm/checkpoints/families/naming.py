# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""How a library names the weights of a family of backbones, and translations.

mmpretrain's names are the common language: every other layout is a table of name
pairs between its own names and those. One table serves both directions.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

#: Pairs of (name in a layout, name in mmpretrain). A name stands for itself and for
#: all names that continue it behind a dot; ``#`` stands for a number, and ``*`` for
#: one that is dropped in the other layout, where 0 takes its place. Of several pairs
#: that fit, the first counts.
Names = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Step:
    """In what else than names a layout differs from mmpretrain's.

    Args:
        to_mmpretrain: From a state dict with mmpretrain's names to mmpretrain's.
        from_mmpretrain: The way back.
    """

    to_mmpretrain: Callable[[dict[str, Tensor]], dict[str, Tensor]]
    from_mmpretrain: Callable[[dict[str, Tensor]], dict[str, Tensor]]


@dataclass(frozen=True)
class Layout:
    """How one library names the weights of one family of backbones.

    Args:
        name: Whose names these are.
        family: The name of the family.
        signature: Two names that only this layout has together.
        unlike: Pattern of names by which another network is known that has them, too.
        names: Where it differs from mmpretrain's names.
        steps: In what else.
    """

    name: str
    family: str
    signature: tuple[str, str]
    names: Names = ()
    steps: tuple[Step, ...] = ()
    unlike: str = r'$.'

    def fits(self, names: Iterable[str]) -> bool:
        """Whether a backbone of these names has this layout."""
        names = set(names)
        is_unlike = re.compile(self.unlike).match
        return names.issuperset(self.signature) and not any(map(is_unlike, names))

    def to_mmpretrain(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Give a state dict of this layout mmpretrain's names and order."""
        state = rename(state, self.names)
        for step in self.steps:
            state = step.to_mmpretrain(state)
        return state

    def from_mmpretrain(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Give a state dict of mmpretrain's layout this one's names and order."""
        state = dict(state)
        for step in reversed(self.steps):
            state = step.from_mmpretrain(state)
        return rename(state, tuple((new, old) for old, new in self.names))


def rename(state: Mapping[str, Tensor], names: Names) -> dict[str, Tensor]:
    """Rename tensors.

    Args:
        state (Mapping[str, Tensor]): Tensors by name.
        names (Names): Pairs of old and new names. Names without a pair stay.

    Returns:
        dict[str, Tensor]: The same tensors by their new names.
    """
    patterns = []
    for old, new in names:
        pattern = re.escape(old).replace(r'\#', r'(\d+)').replace(r'\*', r'\d+')
        template = new.replace('#', '{}').replace('*', '0')
        patterns.append((re.compile(pattern + r'(?=\.|$)'), template))

    def translate(name: str) -> str:
        for pattern, template in patterns:
            if match := pattern.match(name):
                return template.format(*match.groups()) + name[match.end() :]
        return name

    return {translate(name): tensor for name, tensor in state.items()}


def _join_qkv(state: dict[str, Tensor]) -> dict[str, Tensor]:
    joined: dict[str, Tensor] = {}
    for name, value in state.items():
        found = _QKV.fullmatch(name)
        parts = [f'{found[1]}.{part}.{found[2]}' for part in 'qkv'] if found else []
        if found and all(part in state for part in parts):
            joined[f'{found[1]}.{found[2]}'] = torch.cat([state[p] for p in parts])
        else:
            joined[name] = value
    return joined


def _split_qkv(state: dict[str, Tensor]) -> dict[str, Tensor]:
    split: dict[str, Tensor] = {}
    for name, value in state.items():
        before, _, kind = name.rpartition('.')
        if before.endswith('.qkv'):
            parts = zip('qkv', value.chunk(3), strict=True)
            split.update((f'{before}.{part}.{kind}', third) for part, third in parts)
        else:
            split[name] = value
    return split


_QKV = re.compile(r'(.*\.qkv)\.[qkv]\.(weight|bias)')
#: Queries, keys and values of attention in layers of their own, which the names of the
#: layout call ``qkv.q``, ``qkv.k`` and ``qkv.v``.
SEPARATE_QKV = Step(_join_qkv, _split_qkv)
