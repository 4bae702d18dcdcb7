# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""How a library names the weights of a family of backbones, and translations.

mmpretrain's names are the common language: every other layout is a table of name
pairs between its own names and those. One table serves both directions.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

#: Pairs of (name in a layout, name in mmpretrain). A name stands for itself and for
#: all names that continue it behind a dot; ``#`` stands for a number. Of several
#: pairs that fit, the first counts.
Names = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Layout:
    """How one library names the weights of one family of backbones.

    Args:
        name (str): Whose names these are.
        family (str): The name of the family.
        signature (tuple[str, str]): Two names that only this layout has together.
        names (Names): Where it differs from mmpretrain's names.
        concatenated_merging (bool): Whether Swin's patch merging orders the four
            neighbours before the channels. Defaults to False: channels first, as
            ``nn.Unfold``.
        spatial_gamma (bool): Whether ConvNeXt's layer scale is (C, 1, 1). Defaults to
            False: (C,).
    """

    name: str
    family: str
    signature: tuple[str, str]
    names: Names = ()
    concatenated_merging: bool = False
    spatial_gamma: bool = False

    def to_mmpretrain(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Give a state dict of this layout mmpretrain's names and order."""
        state = rename(state, self.names)
        if self.concatenated_merging:
            state = {k: _reorder_merging(k, v, 'unfold') for k, v in state.items()}
        if self.spatial_gamma:
            state = {k: v.flatten() if _is_gamma(k) else v for k, v in state.items()}
        return state

    def from_mmpretrain(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Give a state dict of mmpretrain's layout this one's names and order."""
        state = dict(state)
        if self.concatenated_merging:
            state = {k: _reorder_merging(k, v, 'concatenate') for k, v in state.items()}
        if self.spatial_gamma:
            state = {
                k: v[:, None, None] if _is_gamma(k) else v for k, v in state.items()
            }
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
        pattern = r'(\d+)'.join(map(re.escape, old.split('#'))) + r'(?=\.|$)'
        patterns.append((re.compile(pattern), new.replace('#', '{}')))

    def translate(name: str) -> str:
        for pattern, template in patterns:
            if match := pattern.match(name):
                return template.format(*match.groups()) + name[match.end() :]
        return name

    return {translate(name): tensor for name, tensor in state.items()}


def _is_gamma(name: str) -> bool:
    return name.endswith('.gamma')


def _reorder_merging(name: str, tensor: Tensor, to: str) -> Tensor:
    """Reorder the input channels of Swin's patch merging, (..., 4 C).

    Concatenation stacks the neighbours in the order upper left, lower left, upper
    right, lower right, with all channels of each; ``nn.Unfold`` goes through the
    channels, with the neighbours of each row by row.
    """
    if not re.fullmatch(r'stages\.\d+\.downsample\.(norm|reduction)\..*', name):
        return tensor
    swap_middle = torch.tensor([0, 2, 1, 3])
    if to == 'unfold':
        neighbours = tensor.unflatten(-1, (4, -1))[..., swap_middle, :]  # ... 4 C
        return neighbours.transpose(-1, -2).flatten(-2)
    neighbours = tensor.unflatten(-1, (-1, 4)).transpose(-1, -2)  # ... 4 C
    return neighbours[..., swap_middle, :].flatten(-2)
