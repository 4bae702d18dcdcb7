# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Attention of the RVSA backbones against loops over windows, queries and keys."""

import math

import pytest
import torch
from torch import Tensor, nn

from cmid_mm.models.backbones.rotated_window_attention import (
    MapAttention,
    RotatedWindowAttention,
    relative_vectors,
    resize_relative_vectors,
)


@torch.no_grad()
def randomize(module: nn.Module, seed: int = 1) -> nn.Module:
    """Double precision, and values for everything, also for what starts at zero."""
    generator = torch.Generator().manual_seed(seed)
    module.double()
    for parameter in module.parameters():
        values = torch.randn(parameter.shape, generator=generator, dtype=torch.double)
        parameter.copy_(0.5 * values)
    return module


def window_attention(
    dims: int = 6, heads: int = 2, window: int = 3, **kwargs
) -> RotatedWindowAttention:
    return randomize(RotatedWindowAttention(dims, heads, window, **kwargs))


@torch.no_grad()
def set_sampling(
    layer: RotatedWindowAttention,
    offset: tuple[float, float] = (0.0, 0.0),
    scale: tuple[float, float] = (0.0, 0.0),
    angle: float = 0.0,
) -> None:
    """The same sampling for all heads and windows; x before y."""
    for predictor, values in (
        (layer.sampling_offsets, offset),
        (layer.sampling_scales, scale),
        (layer.sampling_angles, (angle,)),
    ):
        predictor[2].weight.zero_()
        predictor[2].bias.copy_(torch.tensor(values).repeat(layer.num_heads))


# -- The reference ---------------------------------------------------------------


def project(layer: MapAttention, vector: Tensor) -> list[list[list[float]]]:
    """Query, key and value of one position, of each head."""
    if layer.separate_biases:
        bias = torch.cat((layer.q_bias, 0 * layer.q_bias, layer.v_bias))
    else:
        bias = layer.qkv.bias
    values = layer.qkv.weight @ vector + bias
    return values.reshape(3, layer.num_heads, -1).tolist()


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def softmax(logits: list[float]) -> list[float]:
    powers = [math.exp(logit) for logit in logits]
    return [power / sum(powers) for power in powers]


def weighted_sum(weights: list[float], vectors: list[list[float]]) -> list[float]:
    return [dot(weights, list(column)) for column in zip(*vectors, strict=True)]


def read_bilinear(cells: list[list[list[float]]], x: float, y: float) -> list[float]:
    """The value at column x and row y; zero outside."""
    rows, columns, dims = len(cells), len(cells[0]), len(cells[0][0])
    result = [0.0] * dims
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            weight = (1 - abs(y - row)) * (1 - abs(x - column))
            if 0 <= row < rows and 0 <= column < columns:
                for i in range(dims):
                    result[i] += weight * cells[row][column][i]
    return result


def predict(predictor: nn.Sequential, cells: list[Tensor]) -> list[float]:
    mean = sum(cells) / len(cells)
    mean = torch.where(mean > 0, mean, 0.01 * mean)
    convolution = predictor[2]
    return (convolution.weight[:, :, 0, 0] @ mean + convolution.bias).tolist()


@torch.no_grad()
def slow_window_attention(layer: RotatedWindowAttention, x: Tensor) -> Tensor:
    """The result for one map (H, W, C), window by window."""
    window, heads = layer.window_size, layer.num_heads
    height, width, dims = x.shape
    top, left = (-height % window) // 2, (-width % window) // 2
    full_h, full_w = height + -height % window, width + -width % window
    zero = torch.zeros(dims, dtype=x.dtype)
    nothing = [[[0.0] * (dims // heads)] * heads] * 3

    def is_inside(row: int, column: int) -> bool:
        return top <= row < top + height and left <= column < left + width

    inputs = [
        [x[r - top, c - left] if is_inside(r, c) else zero for c in range(full_w)]
        for r in range(full_h)
    ]
    projected = [
        [
            project(layer, inputs[r][c]) if is_inside(r, c) else nothing
            for c in range(full_w)
        ]
        for r in range(full_h)
    ]
    table_h, table_w = layer.rel_pos_h.tolist(), layer.rel_pos_w.tolist()
    bias_table = layer.relative_position_bias_table.tolist()
    result = torch.zeros(full_h, full_w, dims, dtype=x.dtype)
    for first_row in range(0, full_h, window):
        for first_column in range(0, full_w, window):
            places = [
                (first_row + r, first_column + c)
                for r in range(window)
                for c in range(window)
            ]
            cells = [inputs[row][column] for row, column in places]
            offsets = predict(layer.sampling_offsets, cells)
            scales = predict(layer.sampling_scales, cells)
            angles = predict(layer.sampling_angles, cells)
            center_y = first_row + (window - 1) / 2
            center_x = first_column + (window - 1) / 2
            for head in range(heads):
                keys, values = [], []
                for row, column in places:
                    # from the centre, as a part of half the map
                    dx = (column - center_x) * 2 / (full_w - 1)
                    dy = (row - center_y) * 2 / (full_h - 1)
                    dx *= 1 + scales[2 * head]
                    dy *= 1 + scales[2 * head + 1]
                    sine, cosine = math.sin(angles[head]), math.cos(angles[head])
                    dx, dy = dx * cosine - dy * sine, dx * sine + dy * cosine
                    dx += offsets[2 * head] / (width // window)
                    dy += offsets[2 * head + 1] / (height // window)
                    place = (
                        center_x + dx * (full_w - 1) / 2,
                        center_y + dy * (full_h - 1) / 2,
                    )
                    for index, sampled in ((1, keys), (2, values)):
                        maps = [[cell[index][head] for cell in r] for r in projected]
                        sampled.append(read_bilinear(maps, *place))
                for row, column in places:
                    query = projected[row][column][0][head]
                    logits = []
                    for (key_row, key_column), key in zip(places, keys, strict=True):
                        down = row - key_row + window - 1
                        right = column - key_column + window - 1
                        logits.append(
                            dot(query, key) / math.sqrt(len(query))
                            + dot(query, table_h[down])
                            + dot(query, table_w[right])
                            + bias_table[down * (2 * window - 1) + right][head]
                        )
                    part = slice(head * len(query), (head + 1) * len(query))
                    result[row, column, part] = torch.tensor(
                        weighted_sum(softmax(logits), values), dtype=x.dtype
                    )
    return layer.proj(result[top : top + height, left : left + width])


@torch.no_grad()
def slow_map_attention(layer: MapAttention, x: Tensor) -> Tensor:
    """The result for one map (H, W, C), query by query."""
    height, width, _ = x.shape
    places = [(row, column) for row in range(height) for column in range(width)]
    projected = {place: project(layer, x[place]) for place in places}
    table_h, table_w = layer.rel_pos_h.tolist(), layer.rel_pos_w.tolist()
    result = torch.zeros_like(x)
    for row, column in places:
        heads = []
        for head in range(layer.num_heads):
            query = projected[row, column][0][head]
            query = [value / math.sqrt(len(query)) for value in query]
            logits = [
                dot(query, projected[key_row, key_column][1][head])
                + dot(query, table_h[row - key_row + height - 1])
                + dot(query, table_w[column - key_column + width - 1])
                for key_row, key_column in places
            ]
            values = [projected[place][2][head] for place in places]
            heads += weighted_sum(softmax(logits), values)
        result[row, column] = torch.tensor(heads, dtype=x.dtype)
    return layer.proj(result)


# -- Against the reference -------------------------------------------------------


@pytest.mark.parametrize('separate_biases', [False, True])
@pytest.mark.parametrize(
    ('size', 'window', 'heads'),
    [((6, 6), 3, 2), ((5, 7), 3, 3), ((8, 9), 4, 1), ((7, 7), 7, 2)],
)
def test_windows_against_the_loops(size, window, heads, separate_biases):
    layer = window_attention(6, heads, window, separate_biases=separate_biases)
    x = torch.randn(2, *size, 6, dtype=torch.double)
    expected = torch.stack([slow_window_attention(layer, sample) for sample in x])
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-10)
    single = layer.float()(x.float())
    torch.testing.assert_close(single.double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize('separate_biases', [False, True])
@pytest.mark.parametrize('size', [(4, 4), (3, 5)])
def test_map_against_the_loops(size, separate_biases):
    layer = randomize(MapAttention(6, 2, size, separate_biases))
    x = torch.randn(2, *size, 6, dtype=torch.double)
    expected = torch.stack([slow_map_attention(layer, sample) for sample in x])
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-10)
    single = layer.float()(x.float())
    torch.testing.assert_close(single.double(), expected, rtol=0, atol=1e-5)


# -- Gradients -------------------------------------------------------------------


@pytest.mark.parametrize('separate_biases', [False, True])
def test_gradients_of_windows(separate_biases):
    layer = window_attention(4, 2, 2, separate_biases=separate_biases)
    x = torch.randn(1, 3, 4, 4, dtype=torch.double, requires_grad=True)
    names, values = zip(*layer.named_parameters(), strict=True)
    assert {f'sampling_{kind}.2.weight' for kind in ('offsets', 'scales', 'angles')} < {
        *names
    }

    def run(x, *values):
        return torch.func.functional_call(
            layer, dict(zip(names, values, strict=True)), x
        )

    assert torch.autograd.gradcheck(run, (x, *values))


def test_gradients_of_the_map():
    layer = randomize(MapAttention(4, 2, (2, 3)))
    x = torch.randn(1, 3, 2, 4, dtype=torch.double, requires_grad=True)
    names, values = zip(*layer.named_parameters(), strict=True)

    def run(x, *values):
        return torch.func.functional_call(
            layer, dict(zip(names, values, strict=True)), x
        )

    assert torch.autograd.gradcheck(run, (x, *values))


# -- What sampling does ----------------------------------------------------------


def keys_of(layer: RotatedWindowAttention, content: Tensor) -> Tensor:
    """What a head's windows read of a map (H, W), as a map; no padding."""
    height, width = content.shape
    x = torch.zeros(1, layer.qkv.in_features, height, width, dtype=torch.double)
    whole = (height // layer.window_size, width // layer.window_size)
    grid = layer._sampling_grid(x, whole)[:1]
    return nn.functional.grid_sample(content[None, None], grid, align_corners=True)[
        0, 0
    ].detach()


def test_new_layer_attends_in_plain_windows():
    layer = RotatedWindowAttention(6, 2, 3).double()
    content = torch.randn(6, 9, dtype=torch.double)
    torch.testing.assert_close(keys_of(layer, content), content)
    x = torch.randn(1, 6, 9, 6, dtype=torch.double)
    changed = x.clone()
    changed[:, :3, 3:6] += 1  # one window
    same = (layer(x) - layer(changed)).abs().sum(-1)[0] < 1e-9
    expected = torch.ones(6, 9, dtype=torch.bool)
    expected[:3, 3:6] = False
    assert torch.equal(same, expected)


def test_quarter_turn():
    layer = window_attention()
    set_sampling(layer, angle=math.pi / 2)
    content = torch.randn(6, 6, dtype=torch.double)
    windows = content.unflatten(1, (2, 3)).unflatten(0, (2, 3))  # 2 3 2 3
    # From the x to the y axis: what is read right of the centre lies below it.
    turned = torch.rot90(windows, 1, (1, 3)).flatten(2).flatten(0, 1)
    assert turned[1, 2] == content[2, 1]
    torch.testing.assert_close(keys_of(layer, content), turned)


def test_quarter_turns_of_a_symmetric_window_are_one():
    layer = window_attention(4, 1, 3)
    with torch.no_grad():
        layer.rel_pos_h.zero_()
        layer.rel_pos_w.zero_()
        layer.relative_position_bias_table.zero_()
    x = torch.randn(1, 6, 6, 4, dtype=torch.double)
    set_sampling(layer)
    plain = layer(x)
    set_sampling(layer, angle=math.pi / 2)
    # Without relative positions, the order of the keys does not matter.
    torch.testing.assert_close(layer(x), plain)
    set_sampling(layer, angle=math.pi / 4)
    assert (layer(x) - plain).abs().max() > 1e-3


def test_shift_by_whole_positions():
    layer = window_attention()
    content = torch.randn(6, 9, dtype=torch.double)
    # One position is 2 / (positions - 1); 3 windows along x, 2 along y.
    set_sampling(layer, offset=(3 * 2 * 2 / 8, 2 * -1 * 2 / 5))
    expected = torch.zeros(6, 9, dtype=torch.double)
    expected[1:, :-2] = content[:-1, 2:]  # two to the right, one up
    torch.testing.assert_close(keys_of(layer, content), expected)


def test_scale_spreads_from_the_centre_and_x_comes_first():
    layer = window_attention()
    set_sampling(layer, scale=(1.0, -1.0))
    content = torch.arange(81, dtype=torch.double).reshape(9, 9)
    read = keys_of(layer, content)[3:6, 3:6]
    torch.testing.assert_close(
        read, torch.tensor([[38.0, 40.0, 42.0]] * 3, dtype=torch.double)
    )


def test_map_smaller_than_a_window():
    layer = window_attention(window=7)
    x = torch.randn(1, 3, 2, 6, dtype=torch.double)
    assert layer(x).shape == x.shape
    assert layer(x).isfinite().all()


# -- Relative positions ----------------------------------------------------------


def test_relative_vectors_are_those_of_the_distance():
    table = torch.arange(5.0)[:, None]  # distances -2 to 2
    assert relative_vectors(table, 3)[..., 0].tolist() == [
        [2.0, 1.0, 0.0],
        [3.0, 2.0, 1.0],
        [4.0, 3.0, 2.0],
    ]


def test_interpolated_vectors_keep_the_middle_and_their_order():
    table = torch.linspace(-3, 3, 7)[:, None] * torch.tensor([1.0, 2.0])
    longer = resize_relative_vectors(table, 13)
    assert longer.shape == (13, 2)
    assert longer[6].abs().max() < 1e-6
    assert (longer[1:] >= longer[:-1]).all()
    torch.testing.assert_close(longer, -longer.flip(0))
    # Positions are areas, as in nn.functional.interpolate.
    assert longer[7, 0].item() == pytest.approx(7 / 13)
    assert resize_relative_vectors(table, 7) is table


def test_map_of_another_size_uses_interpolated_tables():
    layer = randomize(MapAttention(6, 2, (3, 3)))
    x = torch.randn(1, 5, 4, 6, dtype=torch.double)
    other = randomize(MapAttention(6, 2, (5, 4)))
    with torch.no_grad():
        state = {**layer.state_dict()}
        state['rel_pos_h'] = resize_relative_vectors(state['rel_pos_h'], 9)
        state['rel_pos_w'] = resize_relative_vectors(state['rel_pos_w'], 7)
        other.load_state_dict(state)
        torch.testing.assert_close(layer(x), other(x))


# -- Precision and errors --------------------------------------------------------


@pytest.mark.parametrize('kind', [RotatedWindowAttention, MapAttention])
def test_reduced_precision(kind):
    size = 4 if kind is RotatedWindowAttention else (8, 8)
    layer = randomize(kind(16, 2, size)).float()
    x = torch.randn(1, 8, 8, 16)
    expected = layer(x)
    with torch.autocast('cpu', torch.bfloat16):
        autocast = layer(x)
    halved = layer.bfloat16()(x.bfloat16())
    assert autocast.dtype == halved.dtype == torch.bfloat16
    for result in (autocast, halved):
        assert (result.float() - expected).abs().max() < 0.05 * expected.abs().max()


def test_sampling_grid_stays_in_single_precision():
    layer = window_attention(window=7).bfloat16()
    grid = layer._sampling_grid(
        torch.zeros(1, 6, 70, 70, dtype=torch.bfloat16), (10, 10)
    )
    assert grid.dtype == torch.float32


def test_heads_must_divide_the_width():
    with pytest.raises(
        ValueError, match='num_heads must divide embed_dims, got 4 and 6'
    ):
        MapAttention(6, 4, (2, 2))
