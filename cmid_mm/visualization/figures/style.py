# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""How figures look: the width of a column, small letters, colours for all eyes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, ScalarFormatter
from numpy.typing import NDArray

from ...files import whole_file
from ..drawing import Picture

COLUMN = 3.5
"""Width of a column of a paper in inches."""
FORMATS = ('png', 'svg', 'pdf')
VALUES = 'cividis'
"""Colours of values: of even steps with any kind of colour vision, and in grey."""
DPI = 200
"""Dots per inch of PNG."""
LETTERS = 7
"""Size of letters in points."""

_TITLE, _BAR = 0.16, 0.45  # heights in inches


def figure_format(out: str | Path) -> str:
    """Format of a file by its suffix.

    Raises:
        ValueError: If it is none of :data:`FORMATS`.
    """
    suffix = Path(out).suffix[1:].lower()
    if suffix not in FORMATS:
        raise ValueError(
            f'{out}: figures are written as {", ".join(FORMATS)}; name a file that '
            'ends with one of these'
        )
    return suffix


def save_figure(figure: Figure, out: str | Path, dpi: int = DPI) -> None:
    """Write a figure; text stays text in SVG and PDF.

    Args:
        figure: The figure.
        out: File to write, .png, .svg or .pdf.
        dpi: Dots per inch of the pictures in it.

    Raises:
        ValueError: If it has another suffix.
    """
    kind = figure_format(out)
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    settings: Any = {'svg.fonttype': 'none', 'pdf.fonttype': 42}
    with matplotlib.rc_context(settings), whole_file(out) as part:
        figure.savefig(part, format=kind, dpi=dpi)


def panels(
    rows: int,
    columns: int,
    aspect: float = 1.0,
    width: float = COLUMN,
    bar: bool = False,
    lines: int = 1,
) -> tuple[Figure, NDArray[Any]]:
    """A figure of pictures in rows and columns.

    Args:
        rows: Their number.
        columns: Their number.
        aspect: Height of the pictures over their width.
        width: Of the figure, in inches.
        bar: Whether there is room for a colour bar below.
        lines: Of the titles.

    Returns:
        The figure, and its axes (rows, columns), without ticks.
    """
    height = rows * (width / columns * aspect + _TITLE * lines) + _BAR * bar
    layout = ConstrainedLayoutEngine(
        w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01, compress=True
    )
    figure = Figure(figsize=(width, height), layout=layout)
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    return figure, axes


def show_picture(ax: Axes, picture: Picture, size: Sequence[int]) -> None:
    """Draw a picture, whatever its resolution, in the coordinates of its image.

    Args:
        ax: Where.
        picture: RGB.
        size: Height and width of the image in pixels.
    """
    ax.imshow(picture, extent=(0, size[1], size[0], 0), interpolation='antialiased')


def show_cells(
    ax: Axes, values: NDArray[Any], stride: float, size: Sequence[int], **options: Any
) -> Any:
    """Draw the cells of a map, in the coordinates of its image.

    Args:
        ax: Where.
        values: (h, w), or RGB (h, w, 3).
        stride: Pixels of the image per cell.
        size: Height and width of the image, beyond which cells are cut off.
        **options: Of matplotlib's ``imshow``.

    Returns:
        What a colour bar takes.
    """
    rows, columns = values.shape[:2]
    extent = (0, columns * stride, rows * stride, 0)
    options = {'cmap': VALUES, 'interpolation': 'nearest', **options}
    drawn = ax.imshow(values, extent=extent, **options)
    ax.set_xlim(0, size[1])
    ax.set_ylim(size[0], 0)
    return drawn


def mark_point(ax: Axes, point: NDArray[Any]) -> None:
    """Mark a point by a cross that is seen on any ground."""
    ax.plot(point[0], point[1], '+', color='white', ms=8, mew=3)
    ax.plot(point[0], point[1], '+', color='black', ms=7, mew=1.2)


def frame(ax: Axes) -> None:
    """Show where a panel ends, if parts of it are blank."""
    ax.set_axis_on()
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_linewidth(0.4)


def title(ax: Axes, text: str) -> None:
    """Write a line above a panel."""
    ax.set_title(text, fontsize=LETTERS, pad=2)


def name_panel(ax: Axes, name: str, columns: int, width: float) -> None:
    """Write the name of a file above one of several panels beside each other.

    Args:
        ax: The panel.
        name: The name, which is shortened in its middle if it is too long.
        columns: Panels beside each other.
        width: Of the figure in inches.
    """
    most = int(width / columns * 72 / LETTERS * 1.5)
    if len(name) > most:
        half = (most - 1) // 2
        name = f'{name[:half]}\N{HORIZONTAL ELLIPSIS}{name[-half:]}'
    title(ax, name)


def colour_bar(
    figure: Figure,
    drawn: Any,
    axes: Any,
    label: str,
    ends: Sequence[str] | None = None,
) -> None:
    """Explain the colours of values below panels.

    Args:
        figure: The figure.
        drawn: What :func:`show_cells` returned for one of them.
        axes: The panels.
        label: What the values are.
        ends: What to write at the ends of the colours in place of numbers, if these
            are not the same in all panels.
    """
    bar = figure.colorbar(
        drawn, ax=axes, location='bottom', shrink=0.6, aspect=30, pad=0.01
    )
    bar.set_label(label, fontsize=LETTERS)
    bar.ax.tick_params(labelsize=LETTERS - 1)
    if ends is not None:
        bar.set_ticks(drawn.get_clim(), labels=ends)
        return
    # Numbers as they are: an offset would stand over the label, in large letters.
    bar.ax.xaxis.set_major_locator(MaxNLocator(4))
    bar.ax.xaxis.set_major_formatter(ScalarFormatter(useOffset=False))
