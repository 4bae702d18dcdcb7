# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What is known about a family of backbones, and the shape of one backbone."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from .naming import Layout

#: Position tables of a file made to fit a module: from the table's name, the file's
#: weights, those of the module and the module itself to the table. It comes back as it
#: was if it cannot be made to fit.
Resize = Callable[[str, Mapping[str, Tensor], Mapping[str, Tensor], nn.Module], Tensor]


#: What to build a network of, with the outputs of all stages: from its shape, its
#: weights and what the file says of its settings.
Network = Callable[
    ['Architecture', Mapping[str, Tensor], Mapping[str, Any]], dict[str, Any]
]


@dataclass(frozen=True)
class Architecture:
    """Shape of a backbone, as far as its weights tell.

    Args:
        family: Name of its family, such as ``'ResNet'``.
        depths: Number of blocks of each stage.
        width: Channels behind the stem.
        bands: Input channels.
        kernel: Side of the stem's first kernel in pixels; the patch size of
            transformers.
        block: ResNet's kind of block, ``'basic'`` or ``'bottleneck'``.
        deep_stem: Whether a ResNet has the three convolutions of the V1c and V1d
            variants as its stem.
        resnet_depth: Number by which a ResNet is known, such as 50; None if it is none
            of them.
        heads: Attention heads of each stage, where the weights tell (Swin).
    """

    family: str
    depths: tuple[int, ...]
    width: int
    bands: int
    kernel: int
    block: str = ''
    deep_stem: bool = False
    resnet_depth: int | None = None
    heads: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Family and depth, such as ``'ResNet-50'`` or ``'Swin 2-2-18-2'``."""
        if self.resnet_depth is not None:
            return f'ResNet-{self.resnet_depth}'
        kind = f'{self.family} {self.block}'.rstrip()
        return f'{kind} {"-".join(map(str, self.depths))}'

    def __str__(self) -> str:
        """Name, width and bands."""
        stem = ', deep stem' if self.deep_stem else ''
        return f'{self.name} (width {self.width}, {self.bands} input bands{stem})'


@dataclass(frozen=True)
class Export:
    """A layout to export to, and when.

    Args:
        layout: The layout.
        marks: The names of mmpretrain that a backbone must have for it to be chosen.
        parts: Pattern of the weights that the other library's network has; None if
            those of the family. A backbone with others is another network.
        needs: Weights without which a backbone is another network.
        left_out: Pattern of weights that the other library computes itself or can do
            without.
    """

    layout: Layout
    marks: tuple[str, ...] = ()
    parts: str | None = None
    needs: tuple[str, ...] = ()
    left_out: str | None = None


@dataclass(frozen=True)
class Family:
    """Everything that is known about one family of backbones, in one place.

    Patterns are regular expressions that a weight's name must begin with. Names are
    mmpretrain's, or those of the only library that has the family.

    Args:
        name: As layouts and messages call it.
        type: What to write as ``type`` in a config.
        layouts: How libraries name its weights, in the order in which they are tried.
        stem: Possible names of the first convolution.
        block: Pattern of the weights of blocks, with the stage and the block as groups.
        parts: Pattern of the backbone's own weights, as against heads beside it.
        settings: What to write in a config to get a network.
        measure: Details of :class:`Architecture` that other families do not have, from
            the weights and the depths.
        may_be_new: Pattern of weights that may keep their initial value.
        indispensable: Patterns of weights without which a network computes something
            else, and what to say if the file has them and the module does not. Of
            several the first is said.
        position_tables: Patterns of tables that may have another size than the
            module's, and what resizes them.
        exports: Layouts to export to by library, of which the first counts whose marks
            are there.
        mmdet_prefix: What mmdet and mmseg expect before the names.
        wrapper: What the network of ``type`` has before the names.
        network: The config of the network that weights belong to; None if they do not
            tell enough.
    """

    name: str
    type: str
    layouts: tuple[Layout, ...]
    stem: tuple[str, ...]
    block: str
    parts: str
    settings: Callable[[Architecture], str]
    measure: Callable[[Mapping[str, Tensor], tuple[int, ...]], dict[str, Any]] = (
        lambda state, depths: {}
    )
    may_be_new: str | None = None
    indispensable: tuple[tuple[str, str], ...] = ()
    position_tables: tuple[tuple[str, Resize], ...] = ()
    exports: Mapping[str, tuple[Export, ...]] = field(default_factory=dict)
    mmdet_prefix: str = ''
    wrapper: str = ''
    network: Network | None = None

    def describe(self, state: Mapping[str, Tensor]) -> Architecture | None:
        """Describe the backbone that a state dict belongs to.

        Args:
            state: Weights by mmpretrain's names.

        Returns:
            None if the stem or the blocks are missing.
        """
        stem = self.stem_name(state)
        blocks = {m.groups() for name in state if (m := re.match(self.block, name))}
        if stem is None or not blocks:
            return None
        stages = sorted({stage for stage, _ in blocks})
        depths = tuple(sum(s == stage for s, _ in blocks) for stage in stages)
        width, bands, _, kernel = state[stem].shape
        details = dict(width=width, bands=bands, kernel=kernel, depths=depths)
        return Architecture(self.name, **{**details, **self.measure(state, depths)})

    def allows_new(self, name: str) -> bool:
        """Whether a weight of the module may keep its initial value."""
        return self.may_be_new is not None and bool(re.match(self.may_be_new, name))

    def export(self, library: str, state: Mapping[str, Tensor]) -> Export | None:
        """How to export a backbone; None if by mmpretrain's names or not known."""
        for export in self.exports.get(library, ()):
            if all(mark in state for mark in export.marks):
                return export
        return None

    def stem_name(self, state: Mapping[str, Tensor]) -> str | None:
        """Name of the first kernel; None if there is none."""
        return next((name for name in self.stem if name in state), None)


def channels_of_stages(width: int) -> str:
    """What to set besides where the necks and heads are told widths of the stages."""
    channels = [width * 2**stage for stage in range(4)]
    return f'in_channels of the neck or heads for {channels}'


def arch_setting(archs: Mapping[Any, str], network: Architecture) -> str:
    """The ``arch`` of mmpretrain with a network's width and depths."""
    arch = archs.get((network.width, network.depths))
    return f'arch={arch!r}' if arch else f'an arch of {network.name}'


def quarters(depth: int) -> list[int]:
    """The last block of each quarter of the blocks of a network of one stage."""
    return sorted({-(-depth * quarter // 4) - 1 for quarter in range(1, 5)})
