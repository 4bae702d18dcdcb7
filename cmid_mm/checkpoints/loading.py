# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Finding the backbone in any checkpoint and loading it, all or nothing."""

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmengine.logging import print_log
from torch import Tensor, nn

from ..images import Reading
from .architecture import explain_differences, explain_lack, set_backbone
from .containers import abbreviate
from .families import FAMILIES, Family, recognize_layout
from .finding import FoundBackbone, find_backbone, top_level_names
from .fitting import compare_weights, refuse_unusable, shape_of, without_computed
from .reading import CheckpointError, read_checkpoint
from .stems import Stem, spread_stem, stem_bands
from .stored_images import normalization, stored_reading

#: What mmpretrain's wrapper of timm's networks puts before their names, and timm's own
#: for the feature maps of transformers.
_TIMM_WRAPPERS = ('timm_model.model.', 'timm_model.')


@dataclass(frozen=True)
class LoadReport:
    """What :func:`load_backbone` did.

    Args:
        path (str): The file.
        origin (str): What kind of file it was, and whose names it had.
        loaded (int): Number of tensors loaded.
        resized (list[str]): Position tables interpolated to another size.
        new (list[str]): Weights of the module that keep their initial value.
        unused (list[str]): Tensors of the file without a place in the module.
        normalization: ``mean`` and ``std`` of the file's images; empty if unknown.
        reading: How the file's images became numbers; None if unknown.
        stem: What was done to the first kernel for other bands; empty if nothing.
    """

    path: str
    origin: str
    loaded: int
    resized: list[str]
    new: list[str]
    unused: list[str]
    normalization: dict[str, list[float]] = field(default_factory=dict)
    reading: Reading | None = None
    stem: str = ''

    def __str__(self) -> str:
        """The report in one line."""
        text = f'Loaded {self.loaded} backbone tensors from {self.path} ({self.origin})'
        for verb, names in (
            ('interpolated', self.resized),
            ('kept at their initial value', self.new),
            ('left in the file', self.unused),
        ):
            if names:
                text += f'; {verb}: {abbreviate(names)}'
        return text + (self.stem and f'; {self.stem}')


def match_backbone(
    module: nn.Module,
    path: str | os.PathLike[str],
    source: str = 'student',
    stem: Stem | None = None,
) -> tuple[dict[str, Tensor], LoadReport]:
    """Find what of a checkpoint belongs where in a backbone, changing nothing.

    Args:
        module (nn.Module): The backbone, as in :func:`load_backbone`.
        path (str | PathLike): The checkpoint.
        source (str): Which network, as in :func:`find_backbone`. Defaults to
            ``'student'``.
        stem: As in :func:`load_backbone`. Defaults to None.

    Returns:
        tuple[dict[str, Tensor], LoadReport]: The weights by the module's own names,
        and what loading them does.

    Raises:
        CheckpointError: As :func:`load_backbone`.
    """
    content = read_checkpoint(path, mmap=True, skip_objects=True)
    target = dict(module.state_dict())
    wrapper = _wrapper_of(target)
    target = _without(wrapper, target)
    target_layout = recognize_layout(target)
    file = find_backbone(content, path, source, own_names=target_layout is None)
    file.warn_of_choice(source, path)
    family = FAMILIES[target_layout.family] if target_layout else None
    if target_layout is not None:
        target = target_layout.to_mmpretrain(target)
    target_architecture = family.describe(target) if family else None
    _refuse_caffe_strides(module, content, file, path)
    weights = without_computed(file.state)
    # A run of this package keeps the names of its backbone's wrapper.
    weights = _without(_wrapper_of(weights), weights)
    resized = _resize_position_tables(weights, target, module, family)
    spread = '' if stem is None else _spread(weights, target, family, stem, path)

    differences = compare_weights(weights, target)
    new = [name for name in differences.missing if family and family.allows_new(name)]
    missing = [name for name in differences.missing if name not in new]
    loaded = {name: value for name, value in weights.items() if name in target}
    differing = [
        f'{name} {shape_of(weights[name])} in the file, '
        f'{shape_of(target[name])} in the module'
        for name in differences.reshaped
    ]
    unused = [name for name in weights if name not in target]
    homeless = _without_place(differences.surplus, target)
    families = {layout.family for layout in (file.layout, target_layout) if layout}
    lack = None
    if len(families) == 1:
        lack = explain_lack(families.pop(), file.state, target)
    if missing or differing or homeless or lack:
        reasons = []
        if lack:
            reasons.append(lack)
        elif file.architecture and target_architecture:
            reasons = explain_differences(file.architecture, target_architecture)
        elif not loaded:
            reasons.append(
                f'no weight of {type(module).__name__} is in the file, whose tensors '
                f'are named {top_level_names(file.state)}; give a checkpoint of a '
                "backbone, and set init_cfg on the model's backbone"
            )
        if 'patch_embed.projection.bias' in homeless:
            reasons.append("mmseg's ViT takes this file with patch_bias=True")
        explained = bool(reasons)
        for what, names in (
            ('not in the file', missing),
            ('of another shape', differing),
            ('in the file but not in the module', homeless),
        ):
            if names:
                # A reason that is known needs no long list.
                reasons.append(f'{what}: {abbreviate(names, 1 if explained else 5)}')
        raise CheckpointError(
            f'{path} does not fit {type(module).__name__}, nothing was loaded: '
            + '; '.join(reasons)
        )

    floating = [name for name in loaded if target[name].is_floating_point()]
    refuse_unusable(loaded, floating, path)
    state = loaded if target_layout is None else target_layout.from_mmpretrain(loaded)
    state = {wrapper + name: value for name, value in state.items()}
    return state, LoadReport(
        str(path),
        file.description,
        len(state),
        resized,
        new,
        unused,
        normalization(content),
        stored_reading(content),
        spread,
    )


def _wrapper_of(state: Mapping[str, Any]) -> str:
    """What a wrapper of timm's networks has put before all names."""
    common = os.path.commonprefix([*state])
    return next((w for w in _TIMM_WRAPPERS if common.startswith(w)), '')


def _without(wrapper: str, state: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(wrapper): value for name, value in state.items()}


def load_backbone(
    module: nn.Module,
    path: str | os.PathLike[str],
    source: str = 'student',
    stem: Stem | None = None,
) -> LoadReport:
    """Load a backbone from a checkpoint of any known layout into a module.

    The module changes only if every one of its weights is in the file with the same
    shape. Exceptions: position tables are interpolated to the module's size, and
    output norms that pre-training did not have keep their initial value. Logs the
    report in one line.

    Args:
        module (nn.Module): A backbone of mmpretrain, mmdet, mmseg or any other
            library, with one of the known layouts or the names that the file has.
        path (str | PathLike): Checkpoint of a cmid_mm run, exported backbone,
            published CMID checkpoint, or one with the names of OpenMMLab,
            torchvision, timm, Hugging Face or the networks' authors, wherever in the
            file it stands, of the releases in ``docs/pretrained_weights.md`` too.
            Objects among its weights, such as the arguments of the program that wrote
            it, are left unread.
        source (str): Which network, as in :func:`find_backbone`. Defaults to
            ``'student'``.
        stem: How the first kernel is made for other bands than the file's:
            ``'repeat'``, ``'mean'``, ``'first'``, or for each band of the module a
            band of the file, counted from 1, None for the mean of all, 0 for none;
            see :mod:`cmid_mm.checkpoints.stems`. Such a network should be fine-tuned
            or pre-trained further, not used frozen. Defaults to None: other bands are
            refused.

    Returns:
        LoadReport: What was loaded and what was left.

    Raises:
        CheckpointError: If the file cannot be read, or a weight of the module would
            stay uninitialised, or a shape differs, or a weight is not finite or no
            floating-point number.
    """
    state, report = match_backbone(module, path, source, stem)
    module.load_state_dict(state, strict=False)
    print_log(str(report), logger='current', level=logging.INFO)
    return report


def _spread(
    weights: dict[str, Tensor],
    target: Mapping[str, Tensor],
    family: Family | None,
    stem: Stem,
    path: str | os.PathLike[str],
) -> str:
    """Replace the first kernel by one for the module's bands; say what was done."""
    name = family.stem_name(weights) if family else None
    if name is None or name not in target:
        return ''  # other networks; the comparison of names says more
    before, after = weights[name].shape[1], target[name].shape[1]
    try:
        bands = stem_bands(stem, before, after)
    except ValueError as error:
        raise CheckpointError(f'{path}: {error}') from error
    weights[name] = spread_stem(weights[name], bands)
    return (
        f'{name} made for {after} bands of the {before} of the file by stem={stem!r}: '
        'train it further, frozen it loses accuracy'
    )


def _refuse_caffe_strides(
    module: nn.Module,
    content: Mapping[str, Any],
    file: FoundBackbone,
    path: str | os.PathLike[str],
) -> None:
    """Refuse a pair whose names and shapes fit, but not what they compute.

    Bottlenecks of the Caffe style have their stride in the first convolution, those
    of mmpretrain, torchvision and timm in the second. Of a file without any mark of
    these the style cannot be told; it is taken as it is.
    """
    caffe = getattr(module, 'style', None) == 'caffe'
    meta = content.get('meta')
    marks = (
        file.origin not in ('OpenMMLab checkpoint', 'plain state dict'),
        isinstance(meta, Mapping) and 'cmid_mm_version' in meta,
        file.prefix == '' and 'fc.weight' in file.state,
    )
    is_bottleneck = file.architecture is not None and (
        file.architecture.block == 'bottleneck'
    )
    if caffe and is_bottleneck and any(marks):
        raise CheckpointError(
            f'{path} does not fit {type(module).__name__}, nothing was loaded: with '
            "style='caffe' the backbone has its strides in other convolutions than "
            f'the network of the file; {set_backbone("style", "pytorch")}, and the '
            'mean and std of the '
            "data_preprocessor to those of the file's pre-training"
        )


def _resize_position_tables(
    weights: dict[str, Tensor],
    target: Mapping[str, Tensor],
    module: nn.Module,
    family: Family | None,
) -> list[str]:
    """Resize the position tables in ``weights`` to the module's; tells which."""
    file = dict(weights)
    resized = []
    for name, table in file.items():
        if name not in target or table.shape == target[name].shape:
            continue
        for pattern, resize in family.position_tables if family else ():
            if re.match(pattern, name):
                weights[name] = resize(name, file, target, module)
        if weights[name].shape == target[name].shape:
            resized.append(name)
    return resized


def _without_place(unused: list[str], target: Mapping[str, Tensor]) -> list[str]:
    """Unused weights that belong to parts which the module has.

    Whole parts may be left in the file: heads, output norms, last stages.
    """
    parts = {name.split('.')[0] for name in target}
    num_stages = 1 + max(
        (int(m[1]) for name in target if (m := re.match(r'stages\.(\d+)\.', name))),
        default=-1,
    )

    def belongs_to_last_stage(name: str) -> bool:
        stage = re.match(r'(?:stages|downsample_layers)\.(\d+)\.(downsample\.)?', name)
        # Swin merges patches at the end of the stage before.
        return stage is not None and int(stage[1]) + bool(stage[2]) >= num_stages

    return [
        name
        for name in unused
        if name.split('.')[0] in parts and not belongs_to_last_stage(name)
    ]
