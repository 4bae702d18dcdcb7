# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Training curves from the logs of runs."""

import difflib
import json
import re
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..files import whole_file

BOOKKEEPING = ('step', 'iter', 'epoch', 'memory')
"""Logged values that are not worth a curve."""

#: Okabe and Ito's palette, told apart with any kind of colour vision; without its
#: yellow, which is faint on white.
COLOURS = (
    *('#0072B2', '#E69F00', '#009E73', '#D55E00', '#56B4E9', '#CC79A7', '#000000'),
)
#: Runs differ by these.
STYLES: tuple[Any, ...] = ('-', '--', ':', '-.')

_COLUMNS = 2
"""Panels beside each other: the width of a page, one that of its column."""
_WIDTH, _HEIGHT = 3.5, 2.4  # of a panel in inches
_LETTERS = 7

Curves = dict[str, tuple[list[float], ...]]
"""Steps and values of each scalar."""


def read_scalars(log: str | Path) -> Curves:
    """Read the scalars that a run has logged.

    Args:
        log: A ``scalars.json`` (one JSON object a line), or a folder: all
            ``scalars.json`` below it, which a run writes one of each time it is
            resumed, are read as one.

    Returns:
        Name to steps and values. What a resumed run repeats replaces what was logged
        before, and what an interrupted one logged beyond the resumption is dropped.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a line is not a JSON object or nothing is logged.
    """
    path = Path(log)
    if not path.exists():
        raise FileNotFoundError(
            f'{path} does not exist; expected the work_dir of a run or its scalars.json'
        )
    points: dict[str, dict[float, float]] = {}
    for file in _files_of(path):
        read, start = _read_file(file)
        # What was logged after the checkpoint that this file goes on from.
        for values in points.values():
            for step in [step for step in values if step >= start]:
                del values[step]
        for name, values in read.items():
            points.setdefault(name, {}).update(values)
    curves = {
        name: tuple(map(list, zip(*sorted(values.items()), strict=True)))
        for name, values in points.items()
        if values
    }
    if not curves:
        raise ValueError(f'{path} has no scalars in it')
    return curves


def _files_of(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    # Their folders are named by the time of the start.
    files = sorted(path.rglob('scalars.json'))
    if not files:
        raise FileNotFoundError(f'{path} has no scalars.json below it')
    # RUN/TIME/vis_data/scalars.json
    runs = sorted({str(file.parents[2]) for file in files})
    if len(runs) > 1 and path not in files[0].parents[:2]:
        raise ValueError(
            f'{path} holds several runs, whose curves would be mixed; name them one by '
            f'one: {", ".join(runs)}'
        )
    return files


def _lines_of(path: Path) -> list[str]:
    try:
        return path.read_text(encoding='utf-8').splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(
            f'{path} is no text; expected a scalars.json as training writes it'
        ) from error


def _read_file(path: Path) -> tuple[dict[str, dict[float, float]], float]:
    """Value by step of each scalar, and the first step of training.

    The later value of a step counts.
    """
    points: dict[str, dict[float, float]] = {}
    start = float('inf')
    iteration, epoch = 0, None
    for number, line in enumerate(_lines_of(path), 1):
        try:
            record = dict(json.loads(line))
        except (json.JSONDecodeError, TypeError, ValueError) as error:
            raise ValueError(
                f'{path}, line {number}: not a JSON object; expected a scalars.json '
                'as training writes it'
            ) from error
        step = record.get('step', number)
        if 'iter' in record or 'loss' in record:
            iteration, epoch = step, record.get('epoch', 0)
            start = min(start, step)
        elif step == epoch:
            # mmengine counts validations in epochs, which stay 0 in some loops.
            step = iteration
        for name, value in record.items():
            if name not in BOOKKEEPING and isinstance(value, (int, float)):
                points.setdefault(name, {})[step] = value
    return points, start


def plot_training_curves(
    logs: Sequence[str | Path], out: str | Path, names: Sequence[str] | None = None
) -> None:
    """Draw the curves of one or more runs into a picture.

    Args:
        logs: Work directories or ``scalars.json`` files.
        out: Picture to write; its suffix decides the format: png, svg, pdf, ...
        names: Scalars to draw. Defaults to all.

    Raises:
        FileNotFoundError: If a log does not exist.
        ValueError: If a log is not readable, or a scalar of ``names`` is in none.
    """
    figure = curves_figure(logs, names)
    out = Path(out)
    with whole_file(out) as part:
        figure.savefig(part, format=out.suffix[1:] or 'png', dpi=200)


def curves_figure(
    logs: Sequence[str | Path], names: Sequence[str] | None = None
) -> Figure:
    """Draw the curves of one or more runs.

    What is of one kind shares a panel: losses, learning rates, accuracies of frozen
    features, metrics of the validation, times; each other scalar has its own. Runs
    differ in line style, which a legend of the whole picture explains.

    Args:
        logs: Work directories or ``scalars.json`` files.
        names: Scalars to draw. Defaults to all.

    Raises:
        FileNotFoundError: If a log does not exist.
        ValueError: If a log is not readable, or a scalar of ``names`` is in none.
    """
    runs = {str(log): read_scalars(log) for log in logs}
    found = list(dict.fromkeys(name for curves in runs.values() for name in curves))
    wanted = list(dict.fromkeys(found if names is None else names))
    unknown = [name for name in wanted if name not in found]
    if unknown:
        nearest = [
            n for name in unknown for n in difflib.get_close_matches(name, found)
        ]
        there = ', '.join(dict.fromkeys(nearest or found))
        raise ValueError(
            f'no log has a scalar named {", ".join(unknown)}; '
            + (f'did you mean {there}?' if nearest else f'there are: {there}')
        )
    panels: dict[str, list[str]] = {}
    for name in wanted:
        panels.setdefault(_panel_of(name), []).append(name)
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(_WIDTH * columns, _HEIGHT * rows), layout='constrained')
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, (title, members) in zip(axes, panels.items(), strict=False):
        _draw_curves(ax, title, members, runs)
    if len(runs) > 1:
        handles: Any = [
            Line2D([], [], color='0.3', linestyle=style, label=label)
            for label, style in zip(_labels(runs), cycle(STYLES), strict=False)
        ]
        figure.legend(
            handles=handles,
            loc='outside upper center',
            ncols=columns,
            fontsize=_LETTERS,
            handlelength=5,
        )
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    return figure


_METRIC = re.compile('[am]?(acc|iou|dice|f1|fscore|precision|recall|oa|ap)([_0-9].*)?')


def _panel_of(name: str) -> str:
    """Title of the panel that a scalar is drawn in."""
    group, _, _ = name.rpartition('/')
    last = name.rpartition('.')[2]
    if 'loss' in name:
        return 'losses'
    if last in ('lr', 'base_lr'):
        return 'learning rate'
    if name.endswith('top1'):
        return 'accuracy of frozen features (%)'
    if last in ('acc', 'acc_seg'):
        return 'accuracy in the training batch (%)'
    if name in ('time', 'data_time'):
        return 'time of an iteration (s)'
    if group:
        return group
    return 'validation' if _METRIC.fullmatch(name.lower()) else name


def _labels(runs: dict[str, Curves]) -> list[str]:
    """Names of the runs: the last parts of their paths where these differ."""
    labels = [Path(run).name for run in runs]
    return labels if len(set(labels)) == len(labels) else list(runs)


def _draw_curves(
    ax: Axes, title: str, names: Sequence[str], runs: dict[str, Curves]
) -> None:
    for style, curves in zip(cycle(STYLES), runs.values(), strict=False):
        for number, name in enumerate(names):
            if name not in curves:
                continue
            steps, values = curves[name]
            # More curves than colours are thinner.
            round_, colour = divmod(number, len(COLOURS))
            ax.plot(
                steps,
                values,
                linestyle=style,
                linewidth=1.2 / (1 + round_),
                color=COLOURS[colour],
                marker='o' if len(steps) < 20 else None,
                markersize=3,
                label=name,
            )
    ax.set_title(title, fontsize=_LETTERS + 1)
    ax.set_xlabel('iteration', fontsize=_LETTERS)
    ax.tick_params(labelsize=_LETTERS - 1)
    ax.xaxis.get_offset_text().set_fontsize(_LETTERS - 1)
    ax.yaxis.get_offset_text().set_fontsize(_LETTERS - 1)
    ax.grid(alpha=0.3)
    if len(names) > 1:
        lines = {str(line.get_label()): line for line in reversed(ax.get_lines())}
        ax.legend([lines[name] for name in names], names, fontsize=_LETTERS - 1)
