# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What is compared: a YAML file, and what its parts may be."""

import difflib
import math
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    Tag,
    field_validator,
    model_validator,
)

from ..evaluation.frozen_encoder import FeatureScore

#: Names of files that a cell has besides those of its tasks.
_RESERVED = ('pretraining', 'record')


class SpecError(ValueError):
    """A comparison that cannot be run as it is written."""


def refuse(source: str | Path, faults: Iterable[str]) -> None:
    """Tell all faults of a file at once, if there are any.

    Args:
        source: The file.
        faults: What is wrong, each beginning with the key in that file.

    Raises:
        SpecError: If there is a fault.
    """
    found = list(dict.fromkeys(faults))
    if len(found) == 1:
        raise SpecError(f'{source}: {found[0]}')
    if found:
        lines = ''.join(f'\n  {fault}' for fault in found)
        raise SpecError(f'{source} has {len(found)} faults:{lines}')


def unknown(name: object, known: Iterable[object]) -> str:
    """Hint beside a name that is not among those that are known."""
    names = {str(entry).lower(): str(entry) for entry in known}
    close = difflib.get_close_matches(str(name).lower(), names, 1)
    if close:
        return f'did you mean {names[close[0]]!r}?'
    return f'there are {", ".join(sorted(names.values())) or "none"}'


def _folder_name(name: str) -> str:
    if not re.fullmatch(r'\w[\w.-]*', name):
        raise ValueError(
            'names a folder: use letters, digits, ".", "-" and "_" only, with a letter '
            'or digit first, and "label" for what is shown'
        )
    return name


def _task_name(name: str) -> str:
    if name in _RESERVED:
        raise ValueError('is taken; give the task another name')
    return _folder_name(name)


def _by_backbone(value: Any) -> str | dict[str, str]:
    values = value.items() if isinstance(value, dict) else [('', value)]
    texts = [isinstance(part, str) for pair in values for part in pair]
    if not texts or not all(texts):
        raise ValueError('must be a file, or a mapping from backbones to files')
    return value


def _number(value: Any) -> int | float:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
    ):
        raise ValueError(f'must be a finite number, got {value!r}')
    return value


def _option(value: Any) -> Any:
    """A value that a config can hold."""
    parts: Collection[Any] = ()
    if isinstance(value, dict):
        parts = value.values()
    elif isinstance(value, list):
        parts = value
    elif value == 'None':
        raise ValueError("is text in YAML; write null for Python's")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError('must be a finite number')
    elif value is not None and not isinstance(value, bool | int | float | str):
        raise ValueError(
            'must be text, a number, true, false, null, a list or a mapping, got '
            f'{value!r}'
        )
    for part in parts:
        _option(part)
    return value


def _or_empty(value: Any) -> Any:
    return {} if value is None else value


Name = Annotated[str, AfterValidator(_folder_name)]
TaskName = Annotated[str, AfterValidator(_task_name)]
Number = Annotated[float, PlainValidator(_number)]
Positive = Annotated[int, Field(ge=1)]

#: Values by name of the backbone, or one for all, in which ``{backbone}`` stands for
#: that name, and in configs of pre-trainings ``{data}`` for that of the data set.
ByBackbone = Annotated[str | dict[str, str], PlainValidator(_by_backbone)]

#: Config options by dotted key, such as ``model.backbone.depth``.
Options = Annotated[
    dict[str, Annotated[Any, AfterValidator(_option)]], BeforeValidator(_or_empty)
]


class Section(BaseModel):
    """A part of the file. A key without a value counts as not given."""

    model_config = ConfigDict(extra='forbid', frozen=True, strict=True)

    @model_validator(mode='before')
    @classmethod
    def _leave_out_empty(cls, content: Any) -> Any:
        if isinstance(content, dict):
            return {key: value for key, value in content.items() if value is not None}
        return _or_empty(content)


class Method(Section):
    """A row of the table: how the backbone gets its weights.

    Attributes:
        label: Its name in table and plot; that of its key if it is not given.
        config: Config of a pre-training to run.
        checkpoint: A file to load instead. With neither, the backbone keeps its
            random initial weights.
        trained_on: Data behind ``checkpoint``, for the table.
        options: Config options of the pre-training.
        backbones: The backbones it runs with; None for all.
        data: The data sets it is pre-trained on; None for all of the comparison.
    """

    label: str | None = None
    config: ByBackbone | None = None
    checkpoint: ByBackbone | None = None
    trained_on: str | None = None
    options: Options = {}
    backbones: list[str] | None = Field(None, min_length=1)
    data: list[str] | None = Field(None, min_length=1)

    @model_validator(mode='after')
    def _fits_together(self) -> 'Method':
        if self.config and self.checkpoint:
            raise ValueError('has a config and a checkpoint; give one of them')
        needs = {'options': 'config', 'data': 'config', 'trained_on': 'checkpoint'}
        for key, other in needs.items():
            if getattr(self, key) and not getattr(self, other):
                raise ValueError(f'has {key}, but no {other} that they could be for')
        return self


class Task(Section):
    """What columns of the table have in common.

    Attributes:
        data: Name of the data set.
        scale: Factor of the metrics in table and plot, 100 for those that are
            fractions.
    """

    data: str
    scale: Number = 1.0


class FeatureOptions(Section):
    """Options of ``tools/evaluate_features.py``; ``train`` and ``test`` within data."""

    train: str = ''
    test: str | None = None
    train_list: str | None = None
    test_list: str | None = None
    size: Positive | None = None
    bands: list[Positive] | None = Field(None, min_length=1)
    value_range: list[Number] | None = Field(None, min_length=1)
    k: Positive | None = None
    temperature: Number | None = None
    batch_size: Positive | None = None
    num_workers: int | None = Field(None, ge=0)
    device: str | None = None
    per_class: bool | None = None

    @model_validator(mode='after')
    def _fits_together(self) -> 'FeatureOptions':
        if self.test is None and self.test_list is None:
            raise ValueError('needs test, a folder, or test_list, a list of images')
        if len(self.value_range or ()) % 2:
            raise ValueError('needs pairs in value_range, low and high of each band')
        return self


class FeatureTask(Task):
    """Columns measured on the frozen features.

    Attributes:
        metrics: Accuracies to show, with their labels.
        options: Options of the tool.
    """

    options: FeatureOptions
    metrics: dict[FeatureScore, str] = Field(min_length=1)


class TrainedTask(Task):
    """Columns measured by fine-tuning: trained and tested by the tools.

    Attributes:
        metrics: Scores of the test to show, with their labels.
        config: Config of a downstream task. Backbones that a mapping leaves out are
            not measured by it.
        options: Config options.
        epochs: Length of the training; None keeps the config's.
    """

    metrics: dict[str, str] = Field(min_length=1)
    config: ByBackbone
    options: Options = {}
    epochs: Positive | None = None


def _kind_of_task(content: Any) -> str:
    given = content.get('config') if isinstance(content, dict) else None
    return '<features>' if given is None else '<trained>'


AnyTask = Annotated[
    Annotated[FeatureTask, Tag('<features>')]
    | Annotated[TrainedTask, Tag('<trained>')],
    Discriminator(_kind_of_task),
]


class Pretraining(Section):
    """What all pre-trainings of a comparison share: their budget.

    Attributes:
        data: Data sets to pre-train on, each with its config options.
        epochs: Length of every run; None keeps that of each config.
        options: Config options of every run.
    """

    data: dict[Name, Options] = {}
    epochs: Positive | None = None
    options: Options = {}


class Published(Section):
    """Published figures of one row.

    Attributes:
        method: Key of the method.
        backbone: Name of the backbone.
        data: Data of the pre-training, as in the table.
        values: By ``task/metric``, as shown in the table.
    """

    method: str
    backbone: str
    data: str
    values: dict[str, Number]


class Spec(Section):
    """A comparison.

    Attributes:
        output: Folder for everything that it makes.
        data: Folder of each data set, by name.
        seeds: One repetition of everything each.
        backbones: By name, a pre-training config with this backbone: what random and
            foreign weights are put into to measure features.
        methods: The rows, by key.
        tasks: The columns, by key.
        pretraining: The budget; needed if a method has a config.
        reference: Key of a method to which the others' difference, paired by seed,
            is shown.
        published: Figures to show beside the measured ones.
        source: Where those are published.
    """

    output: Annotated[Path, Field(strict=False)]
    data: dict[Name, str] = Field(min_length=1)
    seeds: list[Annotated[int, Field(ge=0, lt=2**32)]] = Field(min_length=1)
    backbones: dict[Name, str] = Field(min_length=1)
    methods: dict[Name, Method] = Field(min_length=1)
    tasks: dict[TaskName, AnyTask] = Field(min_length=1)
    pretraining: Pretraining = Pretraining()
    reference: str | None = None
    published: list[Published] = []
    source: str | None = None

    @field_validator('seeds')
    @classmethod
    def _each_once(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError('must each be given once')
        return seeds

    def label(self, method: str) -> str:
        """What a method is called in table and plot."""
        return self.methods[method].label or method

    def with_data(self, folders: Mapping[str, str]) -> 'Spec':
        """The same comparison with data sets in other folders.

        Raises:
            SpecError: If a data set is not part of it.
        """
        refuse('--data', _strangers(folders, self.data, 'data set'))
        return self.model_copy(update={'data': {**self.data, **folders}})

    def only(self, methods: list[str] | None, seeds: list[int] | None) -> 'Spec':
        """A part of the comparison.

        Raises:
            SpecError: If a method or a seed is not part of it.
        """
        refuse('--only', _strangers(methods or (), self.methods, 'method'))
        refuse('--seeds', _strangers(seeds or (), self.seeds, 'seed'))
        kept = {k: m for k, m in self.methods.items() if not methods or k in methods}
        return self.model_copy(update={'methods': kept, 'seeds': seeds or self.seeds})


def _strangers(
    names: Iterable[object], known: Collection[object], what: str
) -> list[str]:
    return [
        f'{name!r} is no {what}; {unknown(name, known)}'
        for name in names
        if name not in known
    ]


def for_backbone(value: ByBackbone, backbone: str, data: str = '') -> str:
    """What a setting says for one backbone, pre-trained on ``data``."""
    if isinstance(value, dict):
        value = value[backbone]
    return value.replace('{backbone}', backbone).replace('{data}', data)
