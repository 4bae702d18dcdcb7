# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Which cells of images the prototypes of the assignment head take."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from torch import Tensor

from ...images import NoValidPixelError, Window, tile_windows
from ...models.heads.assignment_head import AssignmentHead, share_used
from ...models.measuring import feature_map
from ..curves import COLOURS
from ..drawing import fit, to_picture
from .source import FigureEncoder
from .style import COLUMN, LETTERS

#: Side of the drawn part around a cell, in cells.
_AROUND = 3


@dataclass(frozen=True)
class Usage:
    """What the prototypes take of cells.

    Attributes:
        prototype: Of each cell the one that it is most like, (N,).
        probability: With which, (N,).
        taken: Cells that each prototype takes, (K,).
        used: Share of the prototypes that take a cell, of those that could: with
            fewer cells than prototypes, of as many.
    """

    prototype: Tensor
    probability: Tensor
    taken: Tensor
    used: float

    @property
    def effective(self) -> float:
        """Number of prototypes that, used evenly, would have the same entropy."""
        share = self.taken / self.taken.sum()
        return float(torch.special.entr(share).sum().exp())


def usage_of(assignments: Sequence[Tensor]) -> Usage:
    """Measure assignments of cells to prototypes.

    Args:
        assignments: Probabilities, (cells, K) each.
    """
    joined = torch.cat(tuple(assignments)).double()
    probability, prototype = joined.max(1)
    used = float(share_used(joined[None]))
    taken = prototype.bincount(minlength=joined.shape[1])
    return Usage(prototype, probability, taken, used)


def assignment_head(model: Any) -> AssignmentHead:
    """The head with the prototypes.

    Raises:
        ValueError: If the model has none.
    """
    for head in getattr(model, 'heads', {}).values():
        if isinstance(head, AssignmentHead):
            return head
    raise ValueError(
        f'this {type(model).__name__} has no prototypes: its config sets no '
        'AssignmentHead (model.heads.assignment); choose another figure'
    )


@torch.no_grad()
def assignments(encoder: FigureEncoder, pixels: Tensor) -> tuple[Tensor, int]:
    """The teacher's assignments of the cells of an image, as they are its targets.

    Args:
        encoder: Of CMID with an assignment head.
        pixels: 0-255, (C, H, W).

    Returns:
        Probabilities (h, w, K) by the last temperature, and pixels per cell.
    """
    model = encoder.model
    head = assignment_head(model)
    padded = encoder.normalize(encoder.pad(pixels[None]))
    features = feature_map(model.teacher(padded), head.stage)
    scores = head.teacher_head(features.flatten(2).transpose(1, 2))
    found = head.assign(scores, head.teacher_temperature[-1])[0]
    grid = (features.shape[-2], features.shape[-1])
    return found.unflatten(0, grid).cpu(), padded.shape[-2] // grid[0]


def prototypes_figure(
    encoder: FigureEncoder,
    images: Sequence[str | Path],
    count: int = 8,
    examples: int = 6,
    width: float = COLUMN,
) -> Figure:
    """Draw the cells that the most used prototypes take, and how evenly all are used.

    Args:
        encoder: Of CMID with an assignment head.
        images: Files.
        count: Prototypes drawn, those that take most cells.
        examples: Cells drawn of each, those that are most surely its own, of different
            images first.
        width: Of the figure in inches.

    Returns:
        A row of cells, each in the middle of its surroundings, for each prototype, and
        the share of cells of all prototypes that take any.

    Raises:
        ValueError: If the model has no prototypes.
    """
    found: list[Tensor] = []
    places: list[tuple[int, Window]] = []
    assignment_head(encoder.model)
    for number, path in enumerate(images):
        with encoder.open(path) as image:
            for window in tile_windows(image.height, image.width, encoder.window, 0):
                try:
                    pixels = encoder.load(image, window)
                except NoValidPixelError:
                    continue
                values, side = assignments(encoder, pixels)
                # Not those of the padding.
                values = values[: -(-window[2] // side), : -(-window[3] // side)]
                found.append(values.flatten(0, 1))
                for row, column in np.ndindex(*values.shape[:2]):
                    top, left = window[0] + row * side, window[1] + column * side
                    places.append((number, (top, left, side, side)))
    if not found:
        raise NoValidPixelError(f'{images[0]}: no valid pixel in the images')
    usage = usage_of(found)
    taken = usage.taken
    chosen = taken.argsort(descending=True, stable=True)[:count]
    chosen = chosen[taken[chosen] > 0]
    rows = len(chosen)
    cell = width / (examples + 1)
    figure = Figure(figsize=(width, cell * rows + 1.6), layout='constrained')
    heights = [cell * rows + 0.3, 1.3]
    parts = figure.subfigures(2, 1, squeeze=False, height_ratios=heights)
    upper, lower = parts[:, 0]
    axes = upper.subplots(rows, examples, squeeze=False)
    for row, prototype in zip(axes, chosen.tolist(), strict=True):
        for ax in row:
            ax.set(xticks=[], yticks=[])
            ax.set_frame_on(False)
        share = 100 * float(taken[prototype]) / len(usage.prototype)
        row[0].set_ylabel(f'{prototype}\n{share:.1f} %', fontsize=LETTERS - 1)
        cells = _best_cells(usage, prototype, [n for n, _ in places], examples)
        for ax, index in zip(row, cells, strict=False):
            number, place = places[index]
            _draw_cell(ax, encoder, images[number], place)
    upper.suptitle('cells of the most used prototypes', fontsize=LETTERS)
    _draw_usage(lower.subplots(), usage)
    used = int((taken > 0).sum())
    lower.suptitle(
        f'{used} of {len(taken)} prototypes take one of {len(usage.prototype)} cells '
        f'({100 * usage.used:.0f} %), effectively {usage.effective:.0f}',
        fontsize=LETTERS,
    )
    return figure


def _best_cells(
    usage: Usage, prototype: int, images: Sequence[int], most: int
) -> list[int]:
    """Cells that are most surely a prototype's; first one of each image."""
    own = torch.nonzero(usage.prototype == prototype)[:, 0]
    own = own[usage.probability[own].argsort(descending=True, stable=True)]
    seen: dict[int, int] = {}
    order = []
    for index in own.tolist():
        rank = seen[images[index]] = seen.get(images[index], -1) + 1
        order.append((rank, index))
    return [index for _, index in sorted(order, key=lambda item: item[0])][:most]


def _draw_cell(
    ax: Axes, encoder: FigureEncoder, path: str | Path, place: Window
) -> None:
    """Draw a cell's surroundings, and its outline."""
    top, left, side, _ = place
    with encoder.open(path) as image:
        margin = (_AROUND - 1) // 2 * side
        first = max(top - margin, 0), max(left - margin, 0)
        last = (
            min(top + side + margin, image.height),
            min(left + side + margin, image.width),
        )
        window = (*first, last[0] - first[0], last[1] - first[1])
        pixels = encoder.load(image, window).permute(1, 2, 0).numpy()
    picture = fit(to_picture(pixels, encoder.show_bands), 128)
    ax.imshow(picture, extent=(first[1], last[1], last[0], first[0]))
    # Beyond the image there is nothing.
    ax.set_xlim(left - margin, left + side + margin)
    ax.set_ylim(top + side + margin, top - margin)
    outline = Rectangle((left, top), side, side, fill=False, ec='white', lw=0.8)
    ax.add_patch(outline)


def _draw_usage(ax: Axes, usage: Usage) -> None:
    taken: NDArray[Any] = usage.taken.numpy()
    ordered = np.sort(taken)[::-1] / len(usage.prototype) * 100
    ax.plot(np.arange(1, len(ordered) + 1), ordered, color=COLOURS[0], lw=1.2)
    ax.axhline(100 / len(ordered), color='0.4', lw=0.8, ls='--')
    ax.set_xlabel('prototypes, most used first (dashed: even use)', fontsize=LETTERS)
    ax.set_ylabel('cells (%)', fontsize=LETTERS)
    ax.tick_params(labelsize=LETTERS - 1)
