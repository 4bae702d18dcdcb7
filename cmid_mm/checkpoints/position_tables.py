# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Position tables resized to another number of positions."""

import math
import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor, nn

from ..models.backbones.rotated_window_attention import resize_relative_vectors
from ..models.backbones.rvsa import RVSAViT

#: RVSA's vectors of relative positions.
_RELATIVE_VECTORS = re.compile(r'blocks\.\d+\.attn\.rel_pos_[hw]$')


def resize_position_tables(
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
