# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The families of backbones that are known. A new one is one entry here."""

from collections.abc import Iterable

from .convnext import CONVNEXT
from .dinov3 import DINOV3
from .family import Architecture, Export, Family
from .hiera import HIERA
from .naming import Layout, rename
from .resnet import RESNET
from .rvsa import RVSA_VIT, RVSA_VITAE
from .swin import SWIN
from .vit import VIT

__all__ = [
    'FAMILIES',
    'LAYOUTS',
    'Architecture',
    'Export',
    'Family',
    'Layout',
    'recognize_layout',
    'rename',
]

#: By name, in the order in which their layouts are tried: special cases first.
FAMILIES = {
    family.name: family
    for family in (RESNET, SWIN, RVSA_VITAE, RVSA_VIT, DINOV3, VIT, CONVNEXT, HIERA)
}
#: All layouts, in the order in which they are tried.
LAYOUTS = tuple(layout for family in FAMILIES.values() for layout in family.layouts)


def recognize_layout(names: Iterable[str]) -> Layout | None:
    """The layout of a state dict's names; None if it is none of :data:`LAYOUTS`."""
    names = set(names)
    for layout in LAYOUTS:
        if layout.fits(names):
            return layout
    return None
