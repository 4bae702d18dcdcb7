# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Table, figures and commands of a comparison."""

import csv
import io
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from ..files import whole_file, write_bytes
from .cells import Cell
from .running import is_done, valid_record
from .spec import Spec


@dataclass(frozen=True)
class Row:
    """One row of the table: a method with a backbone and pre-training data.

    Args:
        method (str): Key of the method.
        backbone (str): Name of the backbone.
        data (str): What it was pre-trained on.
        values (dict[str, dict[int, float]]): For each ``task/metric`` the value of
            each seed, scaled as the task says.
        published (dict[str, float]): Published figures by ``task/metric``.
        seconds_per_iteration (float | None): Of the pre-training, mean over seeds.
    """

    method: str
    backbone: str
    data: str
    values: dict[str, dict[int, float]]
    published: dict[str, float]
    seconds_per_iteration: float | None


def collect(spec: Spec, cells: Sequence[Cell]) -> list[Row]:
    """Gather the results there are.

    Args:
        spec (Spec): The comparison.
        cells (Sequence[Cell]): Its cells.

    Returns:
        list[Row]: In the order of the spec; rows without any result as well.
    """
    published = {(p.method, p.backbone, p.data): p.values for p in spec.published}
    groups: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.method, cell.backbone, cell.data), []).append(cell)
    rows = []
    for key, members in groups.items():
        values: dict[str, dict[int, float]] = {column: {} for column in columns(spec)}
        times = []
        for cell in members:
            record = valid_record(cell)
            times.append(record.get('pretraining', {}).get('seconds_per_iteration'))
            for name, task in spec.tasks.items():
                metrics = record.get(name, {}).get('metrics', {})
                for metric in task.metrics:
                    if isinstance(metrics.get(metric), int | float):
                        value = task.scale * metrics[metric]
                        values[f'{name}/{metric}'][cell.seed] = value
        known = [t for t in times if t is not None]
        rows.append(
            Row(
                *key,
                values,
                published.get(key, {}),
                statistics.mean(known) if known else None,
            )
        )
    return rows


def columns(spec: Spec) -> dict[str, str]:
    """Label of each ``task/metric``."""
    return {
        f'{name}/{metric}': label
        for name, task in spec.tasks.items()
        for metric, label in task.metrics.items()
    }


def write_report(spec: Spec, cells: Sequence[Cell]) -> None:
    """Write ``report.md``, ``results.csv``, ``results.png`` and ``commands.sh``.

    Args:
        spec (Spec): The comparison; the files go to its ``output``.
        cells (Sequence[Cell]): Its cells.
    """
    rows = collect(spec, cells)
    output = spec.output
    write_bytes(output / 'report.md', report_markdown(spec, rows, cells).encode())
    write_bytes(output / 'results.csv', results_csv(spec, cells).encode())
    write_bytes(output / 'commands.sh', commands_script(cells).encode())
    if any(values for row in rows for values in row.values.values()):
        with whole_file(output / 'results.png') as part:
            results_figure(spec, rows).savefig(part, format='png', dpi=120)


def report_markdown(spec: Spec, rows: Sequence[Row], cells: Sequence[Cell]) -> str:
    """The table, the differences to the reference, and the settings behind them."""
    labels = columns(spec)
    done = sum(map(is_done, cells))
    lines = [
        f'{done} of {len(cells)} cells are done. Mean and standard deviation over '
        f'seeds {", ".join(map(str, spec.seeds))}'
        + ('; [n] where fewer are done' if done < len(cells) else '')
        + '.'
        + (f' In parentheses: published ({spec.source}).' if spec.published else ''),
        '',
        _line(
            'method', 'backbone', 'pre-trained on', 's / iteration', *labels.values()
        ),
        _line(*['---'] * (4 + len(labels))),
    ]
    for row in rows:
        time = row.seconds_per_iteration
        lines.append(
            _line(
                spec.label(row.method),
                row.backbone,
                row.data,
                '' if time is None else f'{time:.2f}',
                *(_cell_text(spec, row, column) for column in labels),
            )
        )
    if spec.reference is not None:
        lines += ['', *_differences(spec, rows)]
    lines += ['', 'Settings (a hash stands for every setting of a step):', '']
    lines += [_line('cell', 'step', 'config hash'), _line(*['---'] * 3)]
    for cell in cells:
        name = cell.folder.relative_to(spec.output)
        lines += [_line(name, step.name, step.config_hash) for step in cell.steps]
    return '\n'.join([*lines, ''])


def _line(*entries: object) -> str:
    return f'| {" | ".join(map(str, entries))} |'


def _cell_text(spec: Spec, row: Row, column: str) -> str:
    values = list(row.values[column].values())
    text = _mean_and_spread(values)
    if values and len(values) < len(spec.seeds):
        text += f' [{len(values)}]'
    if column in row.published:
        text = f'{text} ({row.published[column]:.2f})'.strip()
    return text


def _mean_and_spread(values: Sequence[float], sign: str = '') -> str:
    if not values:
        return ''
    text = f'{statistics.mean(values):{sign}.1f}'
    return text + (f' ± {statistics.stdev(values):.1f}' if len(values) > 1 else '')


def _differences(spec: Spec, rows: Sequence[Row]) -> list[str]:
    """Table of the differences to the reference, paired by seed."""
    labels = columns(spec)
    references = {
        row.backbone: row
        for row in reversed(rows)
        if row.method == spec.reference_of(row.backbone)
    }
    labels_of_references = {spec.label(row.method) for row in references.values()}
    lines = [
        f'Difference to {" or ".join(sorted(labels_of_references))} with the same '
        'backbone and seed: mean ± standard deviation, and in how many seeds it is '
        'ahead.',
        '',
        _line('method', 'backbone', 'pre-trained on', *labels.values()),
        _line(*['---'] * (3 + len(labels))),
    ]
    for row in rows:
        reference = references.get(row.backbone)
        if reference is None or row is reference:
            continue
        entries = []
        for column in labels:
            own, other = row.values[column], reference.values[column]
            pairs = [own[seed] - other[seed] for seed in own if seed in other]
            ahead = sum(difference > 0 for difference in pairs)
            entries.append(
                f'{_mean_and_spread(pairs, "+")} ({ahead} of {len(pairs)})'
                if pairs
                else ''
            )
        lines.append(_line(spec.label(row.method), row.backbone, row.data, *entries))
    return lines


def results_csv(spec: Spec, cells: Sequence[Cell]) -> str:
    """Every value by itself, with the hash and the commands behind it."""
    output = io.StringIO()
    writer = csv.writer(output, lineterminator='\n')
    writer.writerow(
        'method backbone data seed task metric value seconds config_hash '
        'commands'.split()
    )
    for cell in cells:
        record = valid_record(cell)
        for name, task in spec.tasks.items():
            entry = record.get(name, {})
            metrics = entry.get('metrics', {})
            for metric in [name for name in task.metrics if name in metrics]:
                writer.writerow(
                    [
                        cell.method,
                        cell.backbone,
                        cell.data,
                        cell.seed,
                        name,
                        metric,
                        metrics[metric],
                        entry['seconds'],
                        entry['config_hash'],
                        ' && '.join(entry['commands']),
                    ]
                )
    return output.getvalue()


def commands_script(cells: Sequence[Cell]) -> str:
    """Every command that was run, as a shell script."""
    lines = ['# What the comparison ran, in the order of its cells.', 'set -e']
    for cell in cells:
        record = valid_record(cell)
        for step in cell.steps:
            entry = record.get(step.name, {})
            lines += [f'\n# {cell.folder}: {step.name}, {step.config_hash}']
            lines += [f'# {entry["config"]}'] if 'config' in entry else []
            lines += entry.get('commands', ['# not done'])
    return '\n'.join([*lines, ''])


def results_figure(spec: Spec, rows: Sequence[Row]) -> Figure:
    """One plot a metric: the value of each seed, their mean, the published figure."""
    labels = columns(spec)
    several = len({(row.backbone, row.data) for row in rows if row.data != '-'}) > 1
    names = [
        spec.label(row.method) + (f' ({row.backbone}, {row.data})' if several else '')
        for row in rows
    ]
    across = math.ceil(math.sqrt(len(labels)))
    down = math.ceil(len(labels) / across)
    figure = Figure(
        figsize=(2.2 + 3.2 * across, 0.9 + down * (0.7 + 0.26 * len(rows))),
        layout='constrained',
    )
    axes = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
    for ax, (column, label) in zip(axes, labels.items(), strict=False):
        for place, row in enumerate(rows):
            values = list(row.values[column].values())
            own = row.method == spec.reference_of(row.backbone)
            colour = 'C3' if own else 'C0'
            ax.plot(values, [place] * len(values), 'o', color=colour, alpha=0.45)
            if values:
                ax.plot(statistics.mean(values), place, '|', color=colour, ms=16, mew=2)
            if column in row.published:
                ax.plot(row.published[column], place, 'x', color='0.4')
        ax.set_yticks(range(len(rows)), names)
        ax.set_title(label, fontsize=10)
        ax.grid(alpha=0.3)
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    for ax in axes[len(labels) :]:
        ax.set_axis_off()
    dots = 'dots: seeds, bars: their mean'
    crosses = ', crosses: published' if spec.published else ''
    figure.supxlabel(dots + crosses, fontsize=8, color='0.4')
    return figure
