# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Why the network of a file does not fit a module, for error messages."""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from .families import FAMILIES, Architecture


def explain_lack(
    family: str, file: Mapping[str, Tensor], module: Iterable[str]
) -> str | None:
    """Say which part of a file's network a module lacks that it cannot do without.

    Args:
        family: The family of both.
        file: Weights of the file by mmpretrain's names.
        module: The module's names, likewise.

    Returns:
        None if no such part is missing.
    """
    module = list(module)
    for part, reason in FAMILIES[family].indispensable:
        is_part = re.compile(part).match
        if any(map(is_part, file)) and not any(map(is_part, module)):
            return reason
    widths = [
        file[name].shape[-1] for name in ('pos_embed', 'cls_token') if name in file
    ]
    if len(set(widths)) == 2:
        return (
            f'the position embedding of the file has {widths[0]} of the {widths[1]} '
            'channels, as in temporal SatMAE, which keeps the others for the times of '
            "its images; take the non-temporal release, or run it in the authors' code"
        )
    return None


def explain_differences(file: Architecture, module: Architecture) -> list[str]:
    """Say why a file's backbone does not fit a module, one phrase a reason.

    Returns:
        list[str]: Empty if nothing that is described here differs.
    """
    family = FAMILIES[file.family]
    settings = family.settings(file)
    if file.family != module.family:
        return [
            f'the file holds a {file}, the module is a {module}; take a config with '
            f"such a backbone, or write type='{family.type}', {settings}"
        ]
    reasons = []
    common = min(len(file.depths), len(module.depths))
    depths = (file.depths[:common], file.block), (module.depths[:common], module.block)
    if depths[0] != depths[1]:
        reasons.append(
            f'depth: the file holds a {file.name}, the module is a {module.name}'
        )
    elif len(file.depths) < len(module.depths):
        reasons.append(
            f'depth: the file has {len(file.depths)} stages, the module '
            f'{len(module.depths)}'
        )
    if file.deep_stem and not module.deep_stem:
        reasons.append(
            'stem: the file has the deep stem (three convolutions) of ResNetV1c and '
            'V1d, the module the plain 7x7 one; ' + set_backbone('type', 'ResNetV1c')
        )
    if module.deep_stem and not file.deep_stem:
        reasons.append(
            'stem: the file has the plain 7x7 convolution, the module the deep stem of '
            'ResNetV1c and V1d; ' + set_backbone('type', 'ResNet')
        )
    if file.bands != module.bands:
        reasons.append(
            f'input bands: the file has {file.bands}, the module {module.bands}; '
            f'{set_backbone("in_channels", file.bands)} and feed it those bands, take '
            f'weights of {module.bands}, or say how the first kernel is made for '
            "other bands: stem='repeat', 'mean', 'first' or a list of bands (--stem)"
        )
    if file.width != module.width:
        reasons.append(f'width: the file has {file.width}, the module {module.width}')
    if depths[0] != depths[1] or file.width != module.width:
        reasons.append(f'for the network of the file set {settings}')
    if file.kernel != module.kernel and file.deep_stem == module.deep_stem:
        reasons.append(
            f'patch size: the file has {file.kernel}, the module {module.kernel}'
        )
    return reasons


def set_backbone(key: str, value: str | int) -> str:
    """Advice to change a setting of the backbone, whose place is not known here."""
    if key == 'in_channels':
        for_cmid = 'as many values of mean and std in data_preprocessor'
    else:
        for_cmid = f'model.encoder.backbone.{key}={value}'
    return (
        f"set the backbone's {key}={value!r} (--cfg-options "
        f'model.backbone.{key}={value}; for CMID {for_cmid})'
    )
