# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Finding the backbone in any checkpoint and loading it, all or nothing."""

import logging
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor, nn

from ..models.backbones.rotated_window_attention import resize_relative_vectors
from ..models.backbones.rvsa import RVSAViT
from .architecture import Architecture, describe, explain_differences, explain_lack
from .layouts import Layout, recognize_layout
from .reading import CheckpointError, read_checkpoint

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
#: What mmpretrain's wrapper of timm's networks puts before their names.
_TIMM_WRAPPER = 'timm_model.'
#: Buffers that every module computes from its own settings.
_COMPUTED = re.compile(r'(.*\.)?(relative_position_index|attn_mask)$')
#: Weights that may keep their initial value, by family. Norms of feature maps that
#: pre-training did not use: those of earlier stages, and ViT's for averaged patches;
#: and the layers that make RVSA's pyramid.
_MAY_BE_NEW = {
    'Swin': re.compile(r'norm[0-2]\.(weight|bias)$'),
    'ConvNeXt': re.compile(r'norm[0-2]\.(weight|bias)$'),
    'ViT': re.compile(r'ln2\.(weight|bias)$'),
    'RVSAViT': re.compile(r'fpn\d\.'),
    'RVSAViTAE': re.compile(r'fpn\d\.'),
}
#: RVSA's vectors of relative positions.
_RELATIVE_VECTORS = re.compile(r'blocks\.\d+\.attn\.rel_pos_[hw]$')
#: Old files lack the counter; it is used only without a momentum.
_COUNTER = re.compile(r'(.*\.)?num_batches_tracked$')


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
    """

    path: str
    origin: str
    loaded: int
    resized: list[str]
    new: list[str]
    unused: list[str]

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
        return text


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
            f"{_top_level_names(state)}; use source='student'"
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
    architecture = describe(found, layout.family)
    return FoundBackbone(found, prefix, origin, layout, architecture)


def match_backbone(
    module: nn.Module, path: str | os.PathLike[str], source: str = 'student'
) -> tuple[dict[str, Tensor], LoadReport]:
    """Find what of a checkpoint belongs where in a backbone, changing nothing.

    Args:
        module (nn.Module): The backbone, as in :func:`load_backbone`.
        path (str | PathLike): The checkpoint.
        source (str): ``'student'`` or ``'teacher'``. Defaults to ``'student'``.

    Returns:
        tuple[dict[str, Tensor], LoadReport]: The weights by the module's own names,
        and what loading them does.

    Raises:
        CheckpointError: As :func:`load_backbone`.
    """
    content = read_checkpoint(path, mmap=True, skip_objects=True)
    file = find_backbone(content, path, source)
    target = dict(module.state_dict())
    is_wrapped = all(name.startswith(_TIMM_WRAPPER) for name in target)
    wrapper = _TIMM_WRAPPER if is_wrapped else ''
    target = {name[len(wrapper) :]: value for name, value in target.items()}
    target_layout = recognize_layout(target)
    target_architecture = None
    if target_layout is not None:
        target = target_layout.to_mmpretrain(target)
        target_architecture = describe(target, target_layout.family)
    _refuse_caffe_strides(module, content, file, path)
    weights = {k: v for k, v in file.state.items() if not _COMPUTED.match(k)}
    resized = _resize_position_tables(weights, target, module)

    missing = [
        name
        for name in target
        if name not in weights and not (_COMPUTED.match(name) or _COUNTER.match(name))
    ]
    may_be_new = _MAY_BE_NEW.get(target_layout.family) if target_layout else None
    new = [name for name in missing if may_be_new and may_be_new.match(name)]
    missing = [name for name in missing if name not in new]
    loaded = {name: value for name, value in weights.items() if name in target}
    differing = [
        f'{name} {_size(value)} in the file, {_size(target[name])} in the module'
        for name, value in loaded.items()
        if value.shape != target[name].shape
    ]
    unused = [name for name in weights if name not in target]
    homeless = _without_place(unused, target)
    families = {layout.family for layout in (file.layout, target_layout) if layout}
    is_transformer = families in ({'ViT'}, {'Swin'})
    lack = explain_lack(file.state, target) if is_transformer else None
    if missing or differing or homeless or lack:
        reasons = []
        if lack:
            reasons.append(lack)
        elif file.architecture and target_architecture:
            reasons = explain_differences(file.architecture, target_architecture)
        elif not loaded:
            reasons.append(
                f'no weight of {type(module).__name__} is in the file, whose tensors '
                f'are named {_top_level_names(file.state)}; give a checkpoint of a '
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

    state = loaded if target_layout is None else target_layout.from_mmpretrain(loaded)
    state = {wrapper + name: value for name, value in state.items()}
    origin = file.origin
    if file.layout is not None:
        origin += f', {file.layout.family} names of {file.layout.name}'
    return state, LoadReport(str(path), origin, len(state), resized, new, unused)


def load_backbone(
    module: nn.Module, path: str | os.PathLike[str], source: str = 'student'
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
            torchvision, timm or the Microsoft Swin, of the releases in
            ``docs/pretrained_weights.md`` too. Objects among its weights, such as
            the arguments of the program that wrote it, are left unread.
        source (str): ``'student'`` or ``'teacher'``. Defaults to ``'student'``.

    Returns:
        LoadReport: What was loaded and what was left.

    Raises:
        CheckpointError: If the file cannot be read, or a weight of the module would
            stay uninitialised, or a shape differs.
    """
    state, report = match_backbone(module, path, source)
    module.load_state_dict(state, strict=False)
    print_log(str(report), logger='current', level=logging.INFO)
    return report


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
            "the network of the file; set the backbone's style='pytorch' "
            '(--cfg-options model.backbone.style=pytorch), and the mean and std of the '
            "data_preprocessor to those of the file's pre-training"
        )


def _size(tensor: Tensor) -> str:
    return 'x'.join(map(str, tensor.shape)) or 'scalar'


def _top_level_names(names: Iterable[str]) -> str:
    counts = Counter(name.split('.')[0] for name in names)
    return abbreviate([f'{name}: {count}' for name, count in counts.items()])


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
        if name.split('.')[0] in parts
        and not (_COUNTER.match(name) or belongs_to_last_stage(name))
    ]


def _resize_position_tables(
    weights: dict[str, Tensor], target: Mapping[str, Tensor], module: nn.Module
) -> list[str]:
    """Interpolate position tables in ``weights`` to the sizes in ``target``."""
    grid = _rvsa_grid(weights)
    resized = []
    for name, table in weights.items():
        if name not in target or table.shape == target[name].shape:
            continue
        size = target[name].shape
        if name == 'pos_embed' and isinstance(module, RVSAViT):
            weights[name] = _resize_rvsa_pos_embed(table, grid, module.grid_size)
        elif name == 'pos_embed' and table.shape[2] == size[2]:
            weights[name] = _resize_pos_embed(
                table, 'cls_token' in weights, target, module
            )
        elif name.endswith('relative_position_bias_table') and (
            table.shape[1] == size[1]
        ):
            weights[name] = _resize_bias_table(table, size[0])
        elif _RELATIVE_VECTORS.match(name) and table.shape[1] == size[1]:
            weights[name] = resize_relative_vectors(table, size[0])
        if weights[name].shape == size:
            resized.append(name)
    return resized


def _resize_pos_embed(
    table: Tensor, has_cls: bool, target: Mapping[str, Tensor], module: nn.Module
) -> Tensor:
    """Interpolate ViT's position embedding, (1, tokens, width)."""
    needs_cls = 'cls_token' in target
    if needs_cls and not has_cls:
        return table
    side = math.isqrt(table.shape[1] - has_cls)
    tokens = target['pos_embed'].shape[1] - needs_cls
    grid = getattr(getattr(module, 'patch_embed', None), 'init_out_size', None)
    if grid is None or math.prod(grid) != tokens:
        grid = (math.isqrt(tokens),) * 2
    if side**2 + has_cls != table.shape[1] or math.prod(grid) != tokens:
        return table
    table = resize_pos_embed(
        table, (side, side), tuple(grid), num_extra_tokens=int(has_cls)
    )
    return table[:, has_cls - needs_cls :]


def _rvsa_grid(weights: Mapping[str, Tensor]) -> tuple[int, int] | None:
    """Rows and columns of an RVSA file's position tables.

    Blocks that attend to the whole map, not in windows, have vectors for them.
    """
    for name, table in weights.items():
        attention = name.removesuffix('rel_pos_h')
        if attention != name and f'{attention}sampling_angles.2.weight' not in weights:
            rows, columns = table, weights.get(f'{attention}rel_pos_w', table)
            return (len(rows) + 1) // 2, (len(columns) + 1) // 2
    return None


def _resize_rvsa_pos_embed(
    table: Tensor, grid: tuple[int, int] | None, target: tuple[int, int]
) -> Tensor:
    """Interpolate RVSA's position embedding, (1, 1 + positions, width).

    The first place is a class token's, which is not in use. The released models of
    dense tasks have the positions only.
    """
    if grid is None:
        return table
    if table.shape[1] == math.prod(grid):
        table = torch.cat((torch.zeros_like(table[:, :1]), table), 1)
    if table.shape[1] != 1 + math.prod(grid):
        return table
    return resize_pos_embed(table, grid, target)


def _resize_bias_table(table: Tensor, length: int) -> Tensor:
    """Interpolate Swin's table of relative position biases, (positions, heads).

    Bicubic, as mmdet and mmseg do; mmpretrain's function for it needs a routine that
    SciPy has removed.
    """
    sides = math.isqrt(table.shape[0]), math.isqrt(length)
    if (sides[0] ** 2, sides[1] ** 2) != (table.shape[0], length):
        return table
    image = table.t().unflatten(1, (sides[0], sides[0]))[None].float()
    image = F.interpolate(image, (sides[1], sides[1]), mode='bicubic')
    return image[0].flatten(1).t().to(table.dtype).contiguous()
