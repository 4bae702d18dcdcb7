# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Training curves from the logs of runs."""

import json
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..files import whole_file

BOOKKEEPING = ('step', 'iter', 'epoch', 'time', 'data_time', 'memory')
"""Logged values that are not worth a curve."""

Curves = dict[str, tuple[list[float], list[float]]]
"""Steps and values of each scalar."""


def read_scalars(log: str | Path) -> Curves:
    """Read the scalars that a run has logged.

    Args:
        log (str | Path): A ``scalars.json`` (one JSON object a line), or a folder:
            the newest ``scalars.json`` below it is read.

    Returns:
        dict: Name to steps and values; after a resumption the later value of a step
        replaces the earlier one.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a line is not a JSON object or nothing is logged.
    """
    path = Path(log)
    if path.is_dir():
        logs = sorted(path.rglob('scalars.json'), key=lambda file: file.stat().st_mtime)
        if not logs:
            raise FileNotFoundError(f'{path} has no scalars.json below it')
        path = logs[-1]
    if not path.is_file():
        raise FileNotFoundError(
            f'{path} does not exist; expected the work_dir of a run or its scalars.json'
        )
    points: dict[str, dict[float, float]] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            record = dict(json.loads(line))
        except (json.JSONDecodeError, TypeError, ValueError) as error:
            raise ValueError(
                f'{path}, line {number}: not a JSON object; expected a scalars.json '
                'as training writes it'
            ) from error
        step = record.get('step', number)
        for name, value in record.items():
            if name not in BOOKKEEPING and isinstance(value, (int, float)):
                points.setdefault(name, {})[step] = value
    if not points:
        raise ValueError(f'{path} has no scalars in it')
    return {
        name: (
            [step for step, _ in sorted(values.items())],
            [value for _, value in sorted(values.items())],
        )
        for name, values in points.items()
    }


def plot_training_curves(
    logs: Sequence[str | Path], out: str | Path, names: Sequence[str] | None = None
) -> None:
    """Draw the curves of one or more runs into a picture.

    Losses share a plot, accuracies (``*top1``) another; each other scalar has its
    own. Runs differ in line style.

    Args:
        logs (Sequence[str | Path]): Work directories or ``scalars.json`` files.
        out (str | Path): Picture to write; its suffix decides the format.
        names (Sequence[str], optional): Scalars to draw. Defaults to None, all.

    Raises:
        FileNotFoundError: If a log does not exist.
        ValueError: If a log is not readable or none has a scalar of ``names``.
    """
    runs = {str(log): read_scalars(log) for log in logs}
    found = list(dict.fromkeys(name for curves in runs.values() for name in curves))
    wanted = found if names is None else [name for name in names if name in found]
    if not wanted:
        raise ValueError(
            f'no log has a scalar named {", ".join(names or ())}; '
            f'there are: {", ".join(found)}'
        )
    plots: dict[str, list[str]] = {}
    for name in wanted:
        if 'loss' in name:
            title = 'losses'
        elif name.endswith('top1'):
            title = 'accuracy of frozen features (%)'
        else:
            title = name
        plots.setdefault(title, []).append(name)
    columns = min(3, len(plots))
    rows = -(-len(plots) // columns)
    figure = Figure(figsize=(4.8 * columns, 3.2 * rows), layout='constrained')
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, (title, members) in zip(axes, plots.items(), strict=False):
        _draw_curves(ax, title, members, runs)
    for ax in axes[len(plots) :]:
        ax.set_axis_off()
    out = Path(out)
    with whole_file(out) as part:
        figure.savefig(part, format=out.suffix[1:] or 'png', dpi=120)


def _draw_curves(
    ax: Axes, title: str, names: Sequence[str], runs: dict[str, Curves]
) -> None:
    styles = ('-', '--', ':', '-.')
    for index, (run, curves) in enumerate(runs.items()):
        for colour, name in enumerate(names):
            if name not in curves:
                continue
            label = name if len(runs) == 1 else f'{name} ({Path(run).name})'
            steps, values = curves[name]
            ax.plot(
                steps,
                values,
                linestyle=styles[index % len(styles)],
                color=f'C{colour}',
                marker='o' if len(steps) < 20 else None,
                markersize=3,
                label=label,
            )
    ax.set_title(title, fontsize=10)
    ax.set_xlabel('iteration')
    ax.grid(alpha=0.3)
    if len(names) > 1 or len(runs) > 1:
        ax.legend(fontsize=8)
