# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Position tables resized to another number of positions.

Each function takes the table's name, the file's weights, the module's and the module,
and returns the table, as it was if it cannot be made to fit.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor, nn

#: Pattern of Swin's and RVSA's biases in windows.
BIAS_TABLE = r'.*relative_position_bias_table$'

_Weights = Mapping[str, Tensor]


def resize_vit_positions(
    name: str, file: _Weights, target: _Weights, module: nn.Module
) -> Tensor:
    """Interpolate ViT's position embedding, (1, tokens, width).

    Beside registers the class token has no position.
    """
    table = file[name]
    has_cls, needs_cls = (
        'cls_token' in weights and 'reg_token' not in weights
        for weights in (file, target)
    )
    if table.shape[2] != target[name].shape[2] or (needs_cls and not has_cls):
        return table
    side = math.isqrt(table.shape[1] - has_cls)
    tokens = target[name].shape[1] - needs_cls
    grid = getattr(getattr(module, 'patch_embed', None), 'init_out_size', None)
    if grid is None or math.prod(grid) != tokens:
        grid = (math.isqrt(tokens),) * 2
    if side**2 + has_cls != table.shape[1] or math.prod(grid) != tokens:
        return table
    table = resize_pos_embed(
        table, (side, side), tuple(grid), num_extra_tokens=int(has_cls)
    )
    return table[:, has_cls - needs_cls :]


def resize_rvsa_positions(
    name: str, file: _Weights, target: _Weights, module: nn.Module
) -> Tensor:
    """Interpolate RVSA's position embedding, (1, 1 + positions, width).

    The first place is a class token's, which is not in use. The released models of
    dense tasks have the positions only.
    """
    table, grid, target_grid = file[name], _rvsa_grid(file), _rvsa_grid(target)
    if grid is None or target_grid is None:
        return table
    if table.shape[1] == math.prod(grid):
        table = torch.cat((torch.zeros_like(table[:, :1]), table), 1)
    if table.shape[1] != 1 + math.prod(grid):
        return table
    return resize_pos_embed(table, grid, target_grid)


def _rvsa_grid(weights: _Weights) -> tuple[int, int] | None:
    """Rows and columns of an RVSA network's position tables.

    Blocks that attend to the whole map, not in windows, have vectors for them.
    """
    for name, table in weights.items():
        attention = name.removesuffix('rel_pos_h')
        if attention != name and f'{attention}sampling_angles.2.weight' not in weights:
            rows, columns = table, weights.get(f'{attention}rel_pos_w', table)
            return (len(rows) + 1) // 2, (len(columns) + 1) // 2
    return None


def resize_rvsa_vectors(
    name: str, file: _Weights, target: _Weights, module: nn.Module
) -> Tensor:
    """Interpolate RVSA's vectors of relative positions, (distances, d)."""
    if file[name].shape[1] != target[name].shape[1]:
        return file[name]
    return resize_relative_vectors(file[name], len(target[name]))


def resize_relative_vectors(table: Tensor, length: int) -> Tensor:
    """Interpolate vectors by distance, (distances, d) to (``length``, d), linearly."""
    if table.shape[0] == length:
        return table
    return F.interpolate(table.t()[None], length, mode='linear')[0].t()


def resize_bias_table(
    name: str, file: _Weights, target: _Weights, module: nn.Module
) -> Tensor:
    """Interpolate Swin's table of relative position biases, (positions, heads).

    Bicubic, as mmdet and mmseg do; mmpretrain's function for it needs a routine that
    SciPy has removed.
    """
    table, length = file[name], len(target[name])
    sides = math.isqrt(table.shape[0]), math.isqrt(length)
    if table.shape[1] != target[name].shape[1] or (
        (sides[0] ** 2, sides[1] ** 2) != (table.shape[0], length)
    ):
        return table
    image = table.t().unflatten(1, (sides[0], sides[0]))[None].float()
    image = F.interpolate(image, (sides[1], sides[1]), mode='bicubic')
    return image[0].flatten(1).t().to(table.dtype).contiguous()
