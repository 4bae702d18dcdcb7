# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The configs of a comparison's trainings, and what stands for their settings."""

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..configs import load_config
from ..files import sha256_of
from ..overrides import merge_options
from .spec import Method, Spec, TrainedTask, for_backbone


@dataclass(frozen=True)
class Training:
    """A config, and what the comparison changes in it.

    Attributes:
        config: The config file.
        config_key: Key of the spec that names it.
        options: Config options by the key of the spec that has them; later ones count.
        epochs: Length of the run, None for the config's.
        epochs_key: Key of the spec that says so.
    """

    config: str
    config_key: str
    options: dict[str, dict[str, Any]]
    epochs: int | None
    epochs_key: str

    @property
    def changes(self) -> dict[str, Any]:
        """Everything that is changed, by dotted path in the config."""
        changes = epoch_options(load(self.config), self.epochs)
        for options in self.options.values():
            changes |= options
        return changes

    def merged(self, seed: int) -> Config:
        """The config with all changes, for one seed."""
        return merged(self.config, {'randomness.seed': seed, **self.changes})


def data_of(spec: Spec, method: Method) -> list[str]:
    """What a method is pre-trained on; a name for readers where that is elsewhere."""
    if method.config:
        return method.data or list(spec.pretraining.data)
    return [method.trained_on or '-']


def pretraining_of(spec: Spec, key: str, backbone: str, data: str) -> Training:
    """The pre-training of a method that has a config.

    Raises:
        KeyError: If the method has none for the backbone, or there is no such data.
    """
    method, budget = spec.methods[key], spec.pretraining
    assert method.config is not None
    return Training(
        for_backbone(method.config, backbone, data),
        f'methods.{key}.config',
        {
            'pretraining.options': budget.options,
            f'pretraining.data.{data}': budget.data[data],
            f'methods.{key}.options': method.options,
        },
        method.epochs or budget.epochs,
        f'methods.{key}.epochs' if method.epochs else 'pretraining.epochs',
    )


def training_of(task: TrainedTask, name: str, backbone: str) -> Training | None:
    """The training of a task; None if its mapping leaves the backbone out."""
    if isinstance(task.config, dict) and backbone not in task.config:
        return None
    return Training(
        for_backbone(task.config, backbone),
        f'tasks.{name}.config',
        {f'tasks.{name}.options': task.options},
        task.epochs,
        f'tasks.{name}.epochs',
    )


def trainings(spec: Spec) -> Iterator[Training]:
    """All trainings whose parts are there, without the seeds."""
    for key, method in spec.methods.items():
        for backbone in (method.backbones or spec.backbones) if method.config else ():
            for data in data_of(spec, method):
                try:
                    pretraining = pretraining_of(spec, key, backbone, data)
                except KeyError:
                    continue
                yield pretraining
    for name, task in spec.tasks.items():
        if not isinstance(task, TrainedTask):
            continue
        for backbone in spec.backbones:
            training = training_of(task, name, backbone)
            if training:
                yield training


def epoch_options(cfg: Config, epochs: int | None) -> dict[str, Any]:
    """What makes a run of another length of a config, its schedules with it."""
    before = max_epochs(cfg)
    if epochs is None or before is None:
        return {}
    options = {'train_cfg.max_epochs': epochs}
    for path, schedule in schedules(cfg):
        if schedule.get('end') == before:
            options[f'{path}.end'] = epochs
        if 'T_max' in schedule:
            options[f'{path}.T_max'] = epochs - schedule.get('begin', 0)
    return options


def schedules(cfg: Config) -> Iterator[tuple[str, Any]]:
    """The schedules of a config that count in epochs, by their path in it."""
    found: Any = cfg.get('param_scheduler') or ()
    paths = {'param_scheduler': found}
    if not hasattr(found, 'keys'):
        paths = {f'param_scheduler.{i}': part for i, part in enumerate(found)}
    for path, schedule in paths.items():
        if schedule.get('by_epoch', True):
            yield path, schedule


def max_epochs(cfg: Config) -> int | None:
    """Length of a config's training, None if it does not count in epochs."""
    return (cfg.get('train_cfg') or {}).get('max_epochs')


@cache
def load(config: str) -> Config:
    """A config as its file has it, not to be changed."""
    return load_config(config)


def merged(config: str, options: Mapping[str, Any]) -> Config:
    """A config with options that fit it."""
    cfg = copy.deepcopy(load(config))
    merge_options(cfg, copy.deepcopy(dict(options)))  # merging empties _delete_
    return cfg


def settings_hash(cfg: Config, *others: Any) -> str:
    """Stands for all settings of a config and whatever else a result depends on."""
    text = json.dumps([cfg.to_dict(), others], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@cache
def file_hash(path: str) -> str:
    """Stands for the content of a file."""
    if not Path(path).is_file():
        return 'missing'
    return sha256_of(path)[:12]
