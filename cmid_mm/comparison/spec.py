# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What is compared: a YAML file, read and checked before anything runs."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

#: Values by name of the backbone, or one for all, in which ``{backbone}`` stands for
#: that name, and in configs of pre-trainings ``{data}`` for that of the data set.
ByBackbone = str | dict[str, str]


class SpecError(ValueError):
    """A comparison that cannot be run as it is written."""


@dataclass(frozen=True)
class Method:
    """A row of the table: how the backbone gets its weights.

    Args:
        label (str): Its name in table and plot.
        config (ByBackbone | None): Config of a pre-training to run.
        checkpoint (ByBackbone | None): A file to load instead. With neither, the
            backbone keeps its random initial weights.
        trained_on (str | None): Data behind ``checkpoint``, for the table.
        options (dict): Config options of the pre-training, by dotted key.
        backbones (list[str] | None): The backbones it runs with; None for all.
        data (list[str] | None): The data sets it is pre-trained on; None for all of
            the comparison.
    """

    label: str
    config: ByBackbone | None = None
    checkpoint: ByBackbone | None = None
    trained_on: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    backbones: list[str] | None = None
    data: list[str] | None = None


@dataclass(frozen=True)
class TaskSpec:
    """Columns of the table: what the backbone is measured by.

    Args:
        data (str): Name of the data set.
        metrics (dict[str, str]): Metrics to show, with their labels.
        config (ByBackbone | None): Config of a downstream task, trained by
            ``tools/train.py`` and tested by ``tools/test.py``. None measures the
            frozen features, by ``tools/evaluate_features.py``. Backbones that a
            mapping leaves out are not measured by it.
        options (dict): Config options, by dotted key; for frozen features the
            options of that tool, such as ``size: 128``.
        epochs (int | None): Length of the training; None keeps the config's.
        scale (float): Factor of the metrics in table and plot, 100 for those that
            are fractions. Defaults to 1.
    """

    data: str
    metrics: dict[str, str]
    config: ByBackbone | None = None
    options: dict[str, Any] = field(default_factory=dict)
    epochs: int | None = None
    scale: float = 1.0


@dataclass(frozen=True)
class Pretraining:
    """What all pre-trainings of a comparison share: their budget.

    Args:
        data (dict[str, dict]): Data sets to pre-train on, each with its config
            options.
        epochs (int | None): Length of every run; None keeps that of each config.
        options (dict): Config options of every run, by dotted key.
    """

    data: dict[str, dict[str, Any] | None]
    epochs: int | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Published:
    """Published figures of one row.

    Args:
        method (str): Key of the method.
        backbone (str): Name of the backbone.
        data (str): Data of the pre-training, as in the table.
        values (dict[str, float]): By ``task/metric``, as shown in the table.
    """

    method: str
    backbone: str
    data: str
    values: dict[str, float]


@dataclass(frozen=True)
class Spec:
    """A comparison.

    Args:
        output (Path): Folder for everything that it makes.
        data (dict[str, str]): Folder of each data set, by name.
        seeds (list[int]): One repetition of everything each.
        backbones (dict[str, str]): By name, a pre-training config with this backbone:
            what random and foreign weights are put into to measure features.
        methods (dict[str, Method]): The rows, by key.
        tasks (dict[str, TaskSpec]): The columns, by key.
        pretraining (Pretraining): The budget; needed if a method has a config.
        reference (str | None): Key of a method to which the others' difference,
            paired by seed, is shown.
        published (list[Published]): Figures to show beside the measured ones.
        source (str | None): Where those are published.
    """

    output: Path
    data: dict[str, str]
    seeds: list[int]
    backbones: dict[str, str]
    methods: dict[str, Method]
    tasks: dict[str, TaskSpec]
    pretraining: Pretraining = field(default_factory=lambda: Pretraining({}))
    reference: str | None = None
    published: list[Published] = field(default_factory=list)
    source: str | None = None

    def with_data(self, folders: Mapping[str, str]) -> 'Spec':
        """The same comparison with data sets in other folders.

        Raises:
            SpecError: If a data set is not part of it.
        """
        for name in folders:
            _known(name, self.data, 'data set')
        return replace(self, data={**self.data, **folders})

    def check_inputs(self) -> None:
        """Refuse to begin without data and weights.

        Raises:
            FileNotFoundError: If the folder of a data set, or the checkpoint of a
                method, does not exist.
        """
        for name, folder in self.data.items():
            if not Path(folder).is_dir():
                raise FileNotFoundError(
                    f'data set {name}: folder {folder} does not exist; give it as '
                    f'--data {name}=FOLDER'
                )
        for key, method in self.methods.items():
            for backbone in method.backbones or self.backbones:
                if method.checkpoint is None:
                    continue
                file = for_backbone(method.checkpoint, backbone)
                if not Path(file).is_file():
                    raise FileNotFoundError(
                        f'method {key}: checkpoint {file} does not exist; put it '
                        'there, or leave the method out (--only)'
                    )

    def only(self, methods: list[str] | None, seeds: list[int] | None) -> 'Spec':
        """A part of the comparison.

        Raises:
            SpecError: If a method or a seed is not part of it.
        """
        for name in methods or ():
            _known(name, self.methods, 'method')
        for seed in seeds or ():
            _known(seed, self.seeds, 'seed')
        kept = {k: m for k, m in self.methods.items() if not methods or k in methods}
        return replace(self, methods=kept, seeds=seeds or self.seeds)


def read_spec(path: str | Path, output: str | Path | None = None) -> Spec:
    """Read and check the description of a comparison.

    Args:
        path (str | Path): A YAML file with the fields of :class:`Spec`.
        output (str | Path, optional): Folder instead of the file's ``output``.
            Defaults to None.

    Returns:
        Spec: The comparison.

    Raises:
        FileNotFoundError: If the file, or a config that it names, does not exist.
        SpecError: If it is no YAML, a key is missing, unknown or of the wrong kind,
            or one part names another that is not there.
    """
    try:
        content = yaml.safe_load(Path(path).read_text())
    except yaml.YAMLError as error:
        raise SpecError(f'{path} is no YAML: {" ".join(str(error).split())}') from error
    try:
        spec = _spec(content)
        _check_references(spec)
    except SpecError as error:
        raise SpecError(f'{path}: {error}') from error
    return spec if output is None else replace(spec, output=Path(output))


def for_backbone(value: ByBackbone, backbone: str, data: str = '') -> str:
    """What a setting says for one backbone, pre-trained on ``data``."""
    if isinstance(value, dict):
        value = value[backbone]
    return value.replace('{backbone}', backbone).replace('{data}', data)


def _spec(content: Any) -> Spec:
    parts = _section(Spec, content, 'the file')
    parts['output'] = Path(parts['output'])
    parts['methods'] = {
        key: Method(
            **_section(Method, {'label': key, **(value or {})}, f'method {key}')
        )
        for key, value in parts['methods'].items()
    }
    parts['tasks'] = {
        key: TaskSpec(**_section(TaskSpec, value, f'task {key}'))
        for key, value in parts['tasks'].items()
    }
    if 'pretraining' in parts:
        section = _section(Pretraining, parts['pretraining'], 'pretraining')
        parts['pretraining'] = Pretraining(**section)
    parts['published'] = [
        Published(**_section(Published, row, 'published'))
        for row in parts.get('published', ())
    ]
    return Spec(**parts)


_KINDS: dict[str, Any] = {
    'output': str,
    'data': (dict, str, list),
    'seeds': list,
    'backbones': (dict, list),
    'methods': dict,
    'tasks': dict,
    'metrics': dict,
    'options': dict,
    'values': dict,
    'epochs': int,
    'scale': (int, float),
    'published': list,
}


def _section(kind: type, content: Any, where: str) -> dict[str, Any]:
    """The keys of a section, none unknown, none missing, each of its kind."""
    if not isinstance(content, dict):
        raise SpecError(f'{where} must be a mapping, got {content!r}')
    names = {f.name for f in fields(kind)}
    for key, value in content.items():
        _known(key, names, f'key of {where}')
        expected = _KINDS.get(key)
        if expected and not isinstance(value, expected):
            raise SpecError(f'{key} of {where} cannot be {value!r}')
    for f in fields(kind):
        required = f.default is MISSING and f.default_factory is MISSING
        if required and not content.get(f.name):
            raise SpecError(f'{where} needs {f.name!r}')
    return dict(content)


def _known(name: Any, names: Any, what: str) -> None:
    if name in names:
        return
    close = difflib.get_close_matches(str(name), [str(n) for n in names], 1)
    hint = f'did you mean {close[0]!r}?' if close else f'there are {sorted(names)}'
    raise SpecError(f'{name!r} is no {what}; {hint}')


def _check_references(spec: Spec) -> None:
    for key in (*spec.methods, *spec.tasks, *spec.backbones, *spec.pretraining.data):
        if not re.fullmatch(r'[\w.-]+', key):
            raise SpecError(
                f'{key!r} names a folder: use letters, digits, ".", "-" and "_" '
                'only, and "label" for what is shown'
            )
    for name in spec.pretraining.data:
        _known(name, spec.data, 'data set')
    for key, method in spec.methods.items():
        if method.config and method.checkpoint:
            raise SpecError(f'method {key} has a config and a checkpoint; give one')
        if method.config and not spec.pretraining.data:
            raise SpecError(f'method {key} has a config, but pretraining names no data')
        for backbone in method.backbones or ():
            _known(backbone, spec.backbones, 'backbone')
        for name in method.data or ():
            _known(name, spec.pretraining.data, 'data set of the pre-training')
        for backbone in method.backbones or spec.backbones:
            for name in method.data or spec.pretraining.data:
                if method.config:
                    _config_exists(method.config, backbone, f'method {key}', name)
    for key, task in spec.tasks.items():
        _known(task.data, spec.data, f'data set (task {key})')
        if task.config:
            by_name = isinstance(task.config, dict)
            for backbone in task.config if by_name else spec.backbones:
                _known(backbone, spec.backbones, f'backbone (task {key})')
                _config_exists(task.config, backbone, f'task {key}')
    for name, config in spec.backbones.items():
        _config_exists(config, name, f'backbone {name}')
    if spec.reference is not None:
        _known(spec.reference, spec.methods, 'method (reference)')
    columns = {f'{key}/{name}' for key, t in spec.tasks.items() for name in t.metrics}
    for row in spec.published:
        _known(row.method, spec.methods, 'method (published)')
        _known(row.backbone, spec.backbones, 'backbone (published)')
        for column in row.values:
            _known(column, columns, 'task/metric (published)')


def _config_exists(
    config: ByBackbone, backbone: str, where: str, data: str = ''
) -> None:
    if isinstance(config, dict) and backbone not in config:
        raise SpecError(f'{where} has no config for backbone {backbone}')
    file = for_backbone(config, backbone, data)
    if '::' not in file and not Path(file).is_file():
        raise FileNotFoundError(f'{where}: config {file} does not exist')
