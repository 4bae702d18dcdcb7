# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Attention of the heads of transformers; the norm of features of other networks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from mmpretrain.models.utils.attention import MultiheadAttention, ShiftWindowMSA
from numpy.typing import NDArray
from torch import Tensor, nn

from ...images import Window
from ...models.measuring import unmasked
from .source import FigureEncoder, Seen
from .style import (
    COLUMN,
    colour_bar,
    frame,
    mark_point,
    name_panel,
    panels,
    show_cells,
    show_picture,
    title,
)

QUERIES = ('mean', 'class')
_MOST_HEADS = 12
_COLUMNS = 5
_ENDS = ('least of each map', 'largest')


@dataclass(frozen=True)
class Attention:
    """Where the heads of a layer look.

    Attributes:
        maps: Weights of the positions, (heads, h, w). For a query they sum to 1 over
            the positions, and the class token if there is one.
        window: Positions along a side of the windows within which a layer attends;
            None if it attends everywhere.
        shift: Positions by which these windows are shifted.
    """

    maps: Tensor
    window: int | None = None
    shift: int = 0

    @property
    def positions(self) -> int:
        """How many a query sees."""
        return self.maps[0].numel() if self.window is None else self.window**2


def attention_layers(backbone: nn.Module) -> list[tuple[str, nn.Module]]:
    """Layers whose attention is known, by name, in the order of the network.

    Args:
        backbone: Those of mmpretrain's ViT and Swin are found; of networks that attend
            otherwise (RVSA), or not at all, none.
    """
    kinds = (MultiheadAttention, ShiftWindowMSA)
    return [(n, m) for n, m in backbone.named_modules() if isinstance(m, kinds)]


@torch.no_grad()
def attention_of(
    backbone: nn.Module,
    images: Tensor,
    layer: int = -1,
    query: str | tuple[float, float] = 'mean',
) -> Attention:
    """Attention of one layer to the positions of one image.

    Args:
        backbone: In evaluation mode.
        images: One normalised image, (1, C, H, W).
        layer: Which of :func:`attention_layers`.
        query: Who looks: ``'mean'``, all positions on average; ``'class'``, the class
            token; or the position at x, y, in shares of width and height. Of layers
            with windows, to positions outside of the window of a query it is NaN, and
            means are times the positions of a window, so that 1 is even attention.

    Raises:
        ValueError: If there is no such layer or no class token.
    """
    layers = attention_layers(backbone)
    if not -len(layers) <= layer < len(layers):
        raise ValueError(
            f'{type(backbone).__name__} has {len(layers)} layers of attention, '
            f'counted from 0; there is no layer {layer}'
        )
    if isinstance(query, str) and query not in QUERIES:
        raise ValueError(f'query must be one of {QUERIES} or a position, got {query!r}')
    module: Any = layers[layer][1]
    inputs: list[Any] = []
    weights: list[Tensor] = []
    hooks = [module.register_forward_pre_hook(lambda _, args: inputs.append(args))]
    windowed = isinstance(module, ShiftWindowMSA)
    if windowed:
        hooks.append(
            module.w_msa.softmax.register_forward_hook(
                lambda _, args, output: weights.append(output)
            )
        )
    try:
        unmasked(backbone, images)
    finally:
        for hook in hooks:
            hook.remove()
    if windowed:
        if query == 'class':
            raise ValueError(
                f'{type(backbone).__name__} has no class token; take the mean, or a '
                'point (--point)'
            )
        return _in_windows(module, weights[0], inputs[0][1], query)
    qkv = module.qkv(inputs[0][0]).unflatten(-1, (3, module.num_heads, -1))
    queries, keys, _ = qkv.permute(2, 0, 3, 1, 4)
    logits = queries @ keys.transpose(-2, -1) * module.head_dims**-0.5
    attended = logits.softmax(-1)[0]  # heads N N
    extra = int(getattr(backbone, 'num_extra_tokens', 0))
    side = (images[0, 0].numel() / (attended.shape[-1] - extra)) ** 0.5
    height, width = (round(length / side) for length in images.shape[-2:])
    if query == 'class':
        if not extra:
            raise ValueError(
                f'{type(backbone).__name__} has no class token; take the mean, or a '
                'point (--point)'
            )
        rows = attended[:, 0]
    elif isinstance(query, str):
        rows = attended[:, extra:].mean(1)
    else:
        rows = attended[:, extra + _position(query, height, width)]
    return Attention(rows[:, extra:].unflatten(1, (height, width)).float())


def _position(point: tuple[float, float], height: int, width: int) -> int:
    return int(point[1] * height) * width + int(point[0] * width)


def _in_windows(
    module: Any,
    weights: Tensor,
    size: Sequence[int],
    query: str | tuple[float, float],
) -> Attention:
    """Attention of a layer that attends in shifted windows, as maps.

    Args:
        module: The layer.
        weights: (windows, heads, N, N).
        size: Height and width of the map.
        query: As of :func:`attention_of`.
    """
    side, shift = module.window_size, module.shift_size
    if min(size) == side and not module.pad_small_map:
        shift = 0
    height, width = (length + -length % side for length in size)
    if isinstance(query, str):
        values = weights.mean(2) * side**2  # windows heads N
    else:
        row, column = int(query[1] * size[0]), int(query[0] * size[1])
        row, column = (row - shift) % height, (column - shift) % width
        window = row // side * (width // side) + column // side
        values = torch.full_like(weights[:, :, 0], torch.nan)
        values[window] = weights[window, :, row % side * side + column % side]
    cells = values.transpose(1, 2).unflatten(1, (side, side))
    maps = ShiftWindowMSA.window_reverse(cells, height, width, side)[0]
    maps = maps.roll((shift, shift), (0, 1))[: size[0], : size[1]]
    return Attention(maps.permute(2, 0, 1).float(), side, shift)


@dataclass(frozen=True)
class _Drawn:
    """What is drawn of one image.

    Attributes:
        seen: The image.
        window: The part of it that is drawn.
        maps: By title, (h, w).
        stride: Pixels per position.
        place: Column and row of the query in the part; None if there is none.
        attention: Whose windows are drawn; None if it is none.
    """

    seen: Seen
    window: Window
    maps: dict[str, Tensor]
    stride: float
    place: NDArray[Any] | None
    attention: Attention | None


def attention_figure(
    encoder: FigureEncoder,
    images: Sequence[str | Path],
    layer: int = -1,
    heads: Sequence[int] | None = None,
    query: str = 'mean',
    point: Sequence[float] | None = None,
    crs: str | None = None,
    width: float = COLUMN,
) -> Figure:
    """Draw where a transformer looks in images; of other networks the feature norm.

    Of an image that is larger than the encoder's window, the middle is drawn, or the
    part around the point.

    Args:
        encoder: The encoder.
        images: Files.
        layer: Layer of attention, counted from 0, or from the end by -1.
        heads: Heads to draw beside their mean. Defaults to None, the first twelve.
        query: ``'mean'`` over all positions, or ``'class'``, the class token.
        point: A position whose attention is drawn instead, as of :meth:`Seen.pixel`.
        crs: Its coordinate system.
        width: Of the figure in inches.

    Returns:
        For each image: the image, and maps, each from its least to its largest value,
        which stand above it. Attention is times the positions that a query sees: 1 is
        even.

    Raises:
        ValueError: If there is no such layer, head, or point.
    """
    attends = bool(attention_layers(encoder.backbone))
    if not attends and (layer, heads, query) != (-1, None, 'mean'):
        raise ValueError(
            f'{type(encoder.backbone).__name__} has no layers of attention that are '
            'known; leave out layer, heads and query (--layer, --heads, --query) for '
            'the norm of its features'
        )
    drawn = []
    for path in images:
        seen = encoder.see(path)
        place = None
        window = encoder.centre(seen.size)
        if point is not None:
            place = seen.pixel(point, crs)
            window = encoder.around(seen.size, place)
            place = place - np.array([window[1], window[0]])
        with encoder.open(path) as image:
            pixels = encoder.pad(encoder.load(image, window)[None])
        if attends:
            asked: Any = query
            if place is not None:
                asked = tuple(place / np.array(pixels.shape[:1:-1]))
            attention = attention_of(
                encoder.backbone, encoder.normalize(pixels), layer, asked
            )
            stride = pixels.shape[-2] / attention.maps.shape[-2]
            weights = attention.maps.cpu()
            if attention.window is None or place is not None:
                weights = weights * attention.positions
            maps = _named(weights, heads)
        else:
            attention, stride = None, encoder.stride
            maps = {'feature norm': encoder.encode(pixels[0]).norm(dim=0).cpu()}
        drawn.append(_Drawn(seen, window, maps, stride, place, attention))
    count = 1 + len(drawn[0].maps)
    rows = -(-count // _COLUMNS)
    columns = -(-count // rows)
    _, _, *size = drawn[0].window
    figure, axes = panels(
        len(drawn) * rows, columns, size[0] / size[1], width, bar=True, lines=2
    )
    cells = None
    for number, one in enumerate(drawn):
        cells = _draw(axes[number * rows : (number + 1) * rows].ravel(), one)
        name_panel(axes[number * rows, 0], one.seen.name, columns, width)
    label = 'attention, 1: even' if attends else 'norm of the features'
    colour_bar(figure, cells, axes, label, _ENDS)
    return figure


def _named(maps: Tensor, heads: Sequence[int] | None) -> dict[str, Tensor]:
    """The mean of all heads, then some of them."""
    count = len(maps)
    chosen = range(min(count, _MOST_HEADS)) if heads is None else heads
    for head in chosen:
        if not 0 <= head < count:
            raise ValueError(f'there are heads 0 to {count - 1}, not {head}')
    named = {f'mean of {count}': maps.mean(0)}
    return named | {f'head {head}': maps[head] for head in chosen}


def _draw(axes: NDArray[Any], drawn: _Drawn) -> Any:
    """Draw an image and its maps; returns one of them, for a colour bar."""
    cells: Any = None
    top, left, height, width = drawn.window
    show_picture(axes[0], drawn.seen.picture, drawn.seen.size)
    axes[0].set_xlim(left, left + width)
    axes[0].set_ylim(top + height, top)
    for ax, (name, values) in zip(axes[1:], drawn.maps.items(), strict=False):
        cells = show_cells(ax, values.numpy(), drawn.stride, (height, width))
        low, high = cells.get_clim()
        title(ax, f'{name}\n{low:.2g} \N{EN DASH} {high:.2g}')
        found = drawn.attention
        if found is not None and found.window is not None:
            side = found.window * drawn.stride
            first = -(found.window - found.shift) * drawn.stride % side
            lines: Any = dict(color='white', lw=0.4)
            for x in np.arange(first, width, side):
                ax.axvline(x, **lines)
            for y in np.arange(first, height, side):
                ax.axhline(y, **lines)
        if drawn.place is not None:
            frame(ax)  # what the point does not see is blank
            mark_point(ax, drawn.place)
    if drawn.place is not None:
        mark_point(axes[0], drawn.place + np.array([left, top]))
    return cells
