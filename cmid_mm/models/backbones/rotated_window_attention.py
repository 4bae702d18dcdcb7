# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Attention of the RVSA backbones: over the whole map, and in rotated windows."""

import torch
import torch.nn.functional as F
from mmengine.model.weight_init import trunc_normal_
from torch import Tensor, nn

from ...checkpoints.position_tables import resize_relative_vectors


class MapAttention(nn.Module):
    """Self-attention over all positions of a map, with relative positions.

    For a query at row i and a key at row j the logit grows by the product of the
    query with the vector ``rel_pos_h[i - j + rows - 1]``, and likewise for the columns
    (Li et al., MViTv2, CVPR 2022). On maps of another size than ``size``
    the tables of these vectors are interpolated linearly.

    Args:
        embed_dims (int): Width of the map.
        num_heads (int): Number of heads.
        size (tuple[int, int]): Rows and columns that the tables are made for.
        separate_biases (bool): Queries and values have biases of their own and keys
            none, as in ViTAE, instead of one bias for all three. Defaults to False.

    Raises:
        ValueError: If the heads do not divide the width.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        size: tuple[int, int],
        separate_biases: bool = False,
    ) -> None:
        super().__init__()
        if embed_dims % num_heads:
            raise ValueError(
                f'num_heads must divide embed_dims, got {num_heads} and {embed_dims}'
            )
        self.num_heads = num_heads
        head_dims = embed_dims // num_heads
        self.scale = head_dims**-0.5
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims, bias=not separate_biases)
        self.separate_biases = separate_biases
        if separate_biases:
            self.q_bias = nn.Parameter(torch.zeros(embed_dims))
            self.v_bias = nn.Parameter(torch.zeros(embed_dims))
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * size[0] - 1, head_dims))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * size[1] - 1, head_dims))
        self.proj = nn.Linear(embed_dims, embed_dims)

    def forward(self, x: Tensor) -> Tensor:
        """Attend over a map (B, H, W, C); returns the same shape.

        The relative positions are products of the scaled query.
        """
        height, width = x.shape[1:3]
        qkv = self._project(x).unflatten(-1, (3, self.num_heads, -1))  # B H W 3 n d
        query, key, value = qkv.flatten(1, 2).permute(2, 0, 3, 1, 4)  # B n HW d
        query = query * self.scale
        rows, columns = self._relative_logits(query, height, width)
        # Of the products of the query with all rows (columns), a key takes the one
        # with its own: as further entries of both vectors, that is a part of their
        # dot product, and no map of H W x H W logits has to be kept.
        row = torch.eye(height, dtype=key.dtype, device=key.device)
        column = torch.eye(width, dtype=key.dtype, device=key.device)
        place = torch.cat(
            (row.repeat_interleave(width, 0), column.repeat(height, 1)), 1
        )
        place = place.expand(*key.shape[:2], -1, -1)
        query = torch.cat((query, rows, columns), -1)  # B n HW d+H+W
        key = torch.cat((key, place), -1)
        # Kernels that keep no logits want one width for all three, a multiple of 8.
        dims = value.shape[-1]
        padded = query.shape[-1] + -query.shape[-1] % 8
        query, key, value = (
            F.pad(vectors, (0, padded - vectors.shape[-1]))
            for vectors in (query, key, value)
        )
        attended = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        attended = attended[..., :dims].transpose(1, 2).flatten(2)  # B HW C
        return self.proj(attended).unflatten(1, (height, width))

    def _project(self, x: Tensor) -> Tensor:
        """Queries, keys and values one behind the other, (..., 3 C)."""
        bias: Tensor | None = self.qkv.bias
        if self.separate_biases:
            bias = torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
        return F.linear(x, self.qkv.weight, bias)

    def _relative_logits(
        self, query: Tensor, height: int, width: int
    ) -> tuple[Tensor, Tensor]:
        """Products of queries (..., H*W, d) with the vectors of all rows and columns.

        Returns:
            tuple[Tensor, Tensor]: (..., H*W, H) and (..., H*W, W).
        """
        query = query.unflatten(-2, (height, width))
        rows = relative_vectors(self.rel_pos_h, height)
        columns = relative_vectors(self.rel_pos_w, width)
        return (
            torch.einsum('...hwd,hkd->...hwk', query, rows).flatten(-3, -2),
            torch.einsum('...hwd,wkd->...hwk', query, columns).flatten(-3, -2),
        )


class RotatedWindowAttention(MapAttention):
    """Rotated varied-size window attention (Wang et al., TGRS 2022).

    The map is padded with zeros on all sides to whole windows. Queries stay on the
    grid. Keys and values of a window are sampled, bilinearly, at the positions of a
    window of another place, size and orientation, which each head predicts from the
    mean of the window's inputs: with (x, y) the position relative to the window's
    centre, in coordinates that run from -1 to 1 between the centres of the padded
    map's outermost positions,

        x, y  ->  x (1 + scale_x), y (1 + scale_y),    rotated by the angle (from the
        x to the y axis),    plus offset_x / windows along x, offset_y / windows along y

    where only windows count that the unpadded map fills. Outside the padded map keys
    and values are zero. On a map that is not square the rotation, being one of these
    coordinates, also shears. A new layer samples the windows themselves: the layers
    that predict start at zero.

    The logits get the relative positions of :class:`MapAttention`, here with the
    unscaled query, and a bias for each pair of positions from a table, as in Swin.

    Args:
        embed_dims (int): Width of the map.
        num_heads (int): Number of heads.
        window_size (int): Positions along a window's side. Defaults to 7.
        separate_biases (bool): As in :class:`MapAttention`. Defaults to False.
    """

    relative_position_index: Tensor

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        window_size: int = 7,
        separate_biases: bool = False,
    ) -> None:
        super().__init__(
            embed_dims, num_heads, (window_size, window_size), separate_biases
        )
        self.window_size = window_size

        def predictor(values: int) -> nn.Sequential:
            convolution = nn.Conv2d(embed_dims, num_heads * values, 1)
            for parameter in convolution.parameters():
                nn.init.zeros_(parameter)
            return nn.Sequential(nn.AvgPool2d(window_size), nn.LeakyReLU(), convolution)

        self.sampling_offsets = predictor(2)  # x, y of a head, then of the next
        self.sampling_scales = predictor(2)
        self.sampling_angles = predictor(1)

        side = 2 * window_size - 1
        self.relative_position_bias_table = nn.Parameter(
            trunc_normal_(torch.empty(side**2, num_heads), std=0.02)
        )
        positions = torch.arange(window_size)
        distance = positions[:, None] - positions + window_size - 1  # query key
        index = side * distance[:, None, :, None] + distance[None, :, None, :]
        self.register_buffer(
            'relative_position_index', index.reshape(2 * (window_size**2,))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Attend in windows of a map (B, H, W, C); returns the same shape."""
        batch, height, width, _ = x.shape
        top, bottom = self._padding(height)
        left, right = self._padding(width)
        padding = (left, right, top, bottom)
        grid = self._sampling_grid(
            F.pad(x.permute(0, 3, 1, 2), padding),
            (height // self.window_size, width // self.window_size),
        )  # B*n H' W' 2
        qkv = F.pad(self._project(x).permute(0, 3, 1, 2), padding)
        qkv = qkv.unflatten(1, (3, self.num_heads, -1)).transpose(1, 2)  # B n 3 d H' W'
        query, memory = qkv[:, :, 0], qkv[:, :, 1:].flatten(2, 3).flatten(0, 1)
        memory = F.grid_sample(memory.to(grid.dtype), grid, align_corners=True)
        memory = memory.to(query.dtype).unflatten(0, (batch, -1))  # B n 2*d H' W'
        query, key, value = (
            self._split(maps) for maps in (query, *memory.chunk(2, dim=2))
        )  # B n rows columns w*w d

        logits = query * self.scale @ key.transpose(-2, -1)
        rows, columns = self._relative_logits(query, *2 * (self.window_size,))
        relative = (rows[..., :, None] + columns[..., None, :]).flatten(-2)
        bias = self.relative_position_bias_table[self.relative_position_index]
        bias = bias.permute(2, 0, 1)[:, None, None]  # n 1 1 w*w w*w
        attended = (logits + relative + bias).softmax(-1).to(value.dtype) @ value
        merged = self._merge(attended)[:, top : top + height, left : left + width]
        return self.proj(merged)

    def _padding(self, side: int) -> tuple[int, int]:
        """Positions to add before and behind ``side`` ones."""
        missing = -side % self.window_size
        return missing // 2, missing - missing // 2

    def _sampling_grid(self, x: Tensor, whole: tuple[int, int]) -> Tensor:
        """Where the keys and values of each position are sampled.

        Args:
            x (Tensor): Padded input, (B, C, H', W').
            whole (tuple[int, int]): Windows that the unpadded map fills along its
                height and width.

        Returns:
            Tensor: x and y for ``F.grid_sample``, (B * heads, H', W', 2), in single
            precision at least.
        """
        dtype = torch.promote_types(x.dtype, torch.float32)

        def predict(layer: nn.Module) -> Tensor:
            values = layer(x).to(dtype).unflatten(1, (self.num_heads, -1))
            return values.movedim(2, 0)[..., None, None]  # values B n rows columns 1 1

        def axis(length: int) -> tuple[Tensor, Tensor]:
            """Centres of the windows, and positions relative to a centre."""
            positions = torch.linspace(-1, 1, length, dtype=dtype, device=x.device)
            windows = positions.unflatten(0, (-1, self.window_size))
            centers = windows.mean(1)
            return centers, windows[0] - centers[0]

        center_y, y = axis(x.shape[2])
        center_x, x_ = axis(x.shape[3])
        offset_x, offset_y = predict(self.sampling_offsets)
        scale_x, scale_y = predict(self.sampling_scales)
        (angle,) = predict(self.sampling_angles)
        columns = x_ * (1 + scale_x)  # B n rows columns 1 w
        rows = y[:, None] * (1 + scale_y)  # B n rows columns w 1
        sine, cosine = angle.sin(), angle.cos()
        sampled_x = columns * cosine - rows * sine + offset_x / max(whole[1], 1)
        sampled_y = columns * sine + rows * cosine + offset_y / max(whole[0], 1)
        sampled_x = sampled_x + center_x[:, None, None]
        sampled_y = sampled_y + center_y[:, None, None, None]
        grid = torch.stack((sampled_x, sampled_y), -1)  # B n rows columns w w 2
        return grid.transpose(3, 4).flatten(4, 5).flatten(2, 3).flatten(0, 1)

    def _split(self, maps: Tensor) -> Tensor:
        """Cut maps (B, n, d, H', W') into windows (B, n, rows, columns, w*w, d)."""
        size = (-1, self.window_size)
        maps = maps.unflatten(-1, size).unflatten(-3, size)  # B n d rows w columns w
        return maps.permute(0, 1, 3, 5, 4, 6, 2).flatten(4, 5)

    def _merge(self, windows: Tensor) -> Tensor:
        """Join windows (B, n, rows, columns, w*w, d) to a map (B, H', W', C)."""
        windows = windows.unflatten(4, 2 * (self.window_size,))
        windows = windows.permute(0, 2, 4, 3, 5, 1, 6)  # B rows w columns w n d
        return windows.flatten(5).flatten(3, 4).flatten(1, 2)


def relative_vectors(table: Tensor, side: int) -> Tensor:
    """Vectors of all pairs of positions along one axis.

    Args:
        table (Tensor): Vectors by distance from the most negative to the most
            positive, (distances, d).
        side (int): Positions along the axis. A table for another number of positions
            is interpolated.

    Returns:
        Tensor: The vector of query position i and key position j at [i, j], (side,
        side, d).
    """
    table = resize_relative_vectors(table, 2 * side - 1)
    positions = torch.arange(side, device=table.device)
    return table[positions[:, None] - positions + side - 1]
