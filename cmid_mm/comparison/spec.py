# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What is compared: a YAML file, and what its parts may be."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from ..evaluation.dense import DenseScore
from ..evaluation.frozen_encoder import FeatureScore
from .form import (
    ByBackbone,
    Name,
    Number,
    Options,
    Positive,
    PositiveNumber,
    Section,
    TaskName,
    refuse,
    unknown,
)


class Method(Section):
    """A row of the table: how the backbone gets its weights.

    Attributes:
        label: Its name in table and plot; that of its key if it is not given.
        config: Config of a pre-training to run.
        checkpoint: A file to load instead. With neither, the backbone keeps its
            random initial weights.
        trained_on: Data behind ``checkpoint``, for the table.
        options: Config options of the pre-training.
        epochs: Length of its pre-training, where it is not that of all: as many as
            take the time of another method, say.
        backbones: The backbones it runs with; None for all.
        data: The data sets it is pre-trained on; None for all of the comparison.
    """

    label: str | None = None
    config: ByBackbone | None = None
    checkpoint: ByBackbone | None = None
    trained_on: str | None = None
    options: Options = {}
    epochs: Positive | None = None
    backbones: list[str] | None = Field(None, min_length=1)
    data: list[str] | None = Field(None, min_length=1)

    @model_validator(mode='after')
    def _fits_together(self) -> 'Method':
        if self.config and self.checkpoint:
            raise ValueError('has a config and a checkpoint; give one of them')
        needs = {
            'options': 'config',
            'epochs': 'config',
            'data': 'config',
            'trained_on': 'checkpoint',
        }
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


class ProbeOptions(Section):
    """Options of ``tools/evaluate_features.py`` for any frozen features."""

    train: str = ''
    test: str | None = None
    bands: list[Positive] | None = Field(None, min_length=1)
    value_range: list[Number] | None = Field(None, min_length=1)
    device: str | None = None

    @model_validator(mode='after')
    def _ranges_are_pairs(self) -> 'ProbeOptions':
        if len(self.value_range or ()) % 2:
            raise ValueError('needs pairs in value_range, low and high of each band')
        return self


class FeatureOptions(ProbeOptions):
    """Those of whole images; ``train`` and ``test`` within data."""

    train_list: str | None = None
    test_list: str | None = None
    size: Positive | None = None
    k: Positive | None = None
    temperature: PositiveNumber | None = None
    batch_size: Positive | None = None
    num_workers: int | None = Field(None, ge=0)
    per_class: bool | None = None

    @model_validator(mode='after')
    def _has_a_test(self) -> 'FeatureOptions':
        if self.test is None and self.test_list is None:
            raise ValueError('needs test, a folder, or test_list, a list of images')
        return self


class DenseOptions(ProbeOptions):
    """Those of ``--dense``; images, labels and areas within data."""

    train: str
    labels: str
    test_labels: str | None = None
    field: str | None = None
    layer: str | None = None
    classes: list[str] | None = Field(None, min_length=2)
    background: str | None = None
    label_map: dict[int | str, int | str] | None = Field(None, min_length=1)
    ignore: list[int | str] | None = Field(None, min_length=1)
    train_area: str | None = None
    test_area: str | None = None
    stages: list[Annotated[int, Field(ge=0)]] | None = Field(None, min_length=1)
    normalization: Literal['pretraining', 'target'] | None = None
    head: Literal['linear', 'conv'] | None = None
    max_cells: Positive | None = None
    reduction: Positive | None = None
    window: Positive | None = None
    gsd: PositiveNumber | None = None

    @model_validator(mode='after')
    def _has_a_test(self) -> 'DenseOptions':
        if self.test is None and self.test_area is None:
            raise ValueError('needs test, images, or test_area, polygons')
        return self


class FeatureTask(Task):
    """Columns measured on the frozen features.

    Attributes:
        metrics: Accuracies to show, with their labels.
        options: Options of the tool.
    """

    options: FeatureOptions
    metrics: dict[FeatureScore, str] = Field(min_length=1)


class DenseTask(Task):
    """Columns measured on the frozen features of each pixel.

    Attributes:
        metrics: Scores to show, with their labels.
        options: Options of the tool; ``labels`` tells this kind of task.
    """

    options: DenseOptions
    metrics: dict[DenseScore, str] = Field(min_length=1)


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
    given = content if isinstance(content, dict) else {}
    if given.get('config') is not None:
        return '<trained>'
    options = given.get('options')
    is_dense = isinstance(options, dict) and 'labels' in options
    return '<dense>' if is_dense else '<features>'


AnyTask = Annotated[
    Annotated[FeatureTask, Tag('<features>')]
    | Annotated[DenseTask, Tag('<dense>')]
    | Annotated[TrainedTask, Tag('<trained>')],
    Discriminator(_kind_of_task),
]


class Pretraining(Section):
    """What all pre-trainings of a comparison share: their budget.

    Attributes:
        data: Data sets to pre-train on, each with its config options.
        epochs: Length of every run whose method sets none; None keeps that of each
            config.
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
            is shown, or of one for each backbone.
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
    reference: ByBackbone | None = None
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

    def reference_of(self, backbone: str) -> str | None:
        """The method to which others with this backbone are compared, if any."""
        if isinstance(self.reference, dict):
            return self.reference.get(backbone)
        return self.reference

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
