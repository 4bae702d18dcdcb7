# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The runs that a comparison consists of, and the commands that make them."""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..engine.latest_checkpoint import recorded_checkpoint
from .form import SpecError
from .settings import (
    Training,
    data_of,
    file_hash,
    merged,
    pretraining_of,
    settings_hash,
    training_of,
)
from .spec import (
    DenseTask,
    FeatureTask,
    Spec,
    TrainedTask,
    for_backbone,
)

#: Where the command of a later step names the newest checkpoint of an earlier one.
_CHECKPOINT_OF = '<newest checkpoint of>'


@dataclass(frozen=True)
class RunConfig:
    """The config of a training with everything that the comparison changes in it.

    It is written to a file of its own, so that values of any kind, text with commas
    or mappings, reach the tools as they are.

    Attributes:
        file: Where it is written.
        config: Its content.
        origin: The config that it was made from, and the changes.
    """

    file: Path
    config: Config
    origin: str


@dataclass(frozen=True)
class Step:
    """One part of a cell: the pre-training, or a task.

    Attributes:
        name: ``'pretraining'`` or the key of the task.
        commands: What is run, one after the other.
        config_hash: Stands for all settings that the result depends on, those of the
            pre-training included, but not for folders.
        run_config: What the commands train and test, written before they run.
        results: JSON file that the last command writes.
        metrics: Names of what is shown of it.
        timed: Work folder of a training whose time per iteration is shown.
    """

    name: str
    commands: list[list[str]]
    config_hash: str
    run_config: RunConfig | None = None
    results: Path | None = None
    metrics: tuple[str, ...] = ()
    timed: Path | None = None

    def resolved_commands(self) -> Iterator[list[str]]:
        """The commands, with the checkpoints there are when each is asked for.

        Raises:
            SpecError: If an earlier step left no checkpoint.
        """
        for command in self.commands:
            yield [_with_checkpoint(argument) for argument in command]


@dataclass(frozen=True)
class Cell:
    """Everything of one method, backbone, pre-training data set and seed.

    Attributes:
        method: Key of the method.
        backbone: Name of the backbone.
        data: What the backbone was pre-trained on; ``'-'`` for nothing.
        seed: Seed of pre-training and tasks.
        folder: Everything that belongs to it.
        steps: In the order in which they run.
    """

    method: str
    backbone: str
    data: str
    seed: int
    folder: Path
    steps: list[Step]

    @property
    def name(self) -> str:
        """For readers."""
        return f'{self.method} {self.backbone} {self.data} seed {self.seed}'


def plan(spec: Spec, tools: Path) -> list[Cell]:
    """The cells of a comparison, all methods of the first seed first.

    Args:
        spec: The comparison, checked by :func:`check_spec`.
        tools: Folder of the command-line tools.

    Returns:
        list[Cell]: The cells.
    """
    return [
        _cell(spec, tools, key, backbone, data, seed)
        for seed in spec.seeds
        for key, method in spec.methods.items()
        for backbone in method.backbones or spec.backbones
        for data in data_of(spec, method)
    ]


@dataclass(frozen=True)
class _Weights:
    """The backbone that the tasks of a cell measure.

    Attributes:
        file: Its checkpoint, or ``'random'``.
        network: Config of the model that has it.
        settings: Stands for what it was trained by.
        flags: Options of the tool that measures its features.
    """

    file: str
    network: str
    settings: str
    flags: tuple[str, ...] = ()


def _cell(
    spec: Spec, tools: Path, key: str, backbone: str, data: str, seed: int
) -> Cell:
    method = spec.methods[key]
    # Data behind foreign weights has a name for readers, not one for a folder.
    trained_here = data if method.config else 'foreign' if method.checkpoint else 'none'
    folder = spec.output / trained_here / backbone / key / f'seed-{seed}'
    # How the network is hashed is apart from where the tools find it.
    network = spec.backbones[backbone]
    steps = []
    if method.config:
        training = pretraining_of(spec, key, backbone, data)
        step = _pretraining(tools, training, data, spec.data[data], seed, folder)
        steps.append(step)
        network = training.config
        assert step.run_config is not None
        weights = _Weights(
            _checkpoint_of(folder / step.name),
            str(step.run_config.file),
            step.config_hash,
        )
    elif method.checkpoint:
        file = for_backbone(method.checkpoint, backbone)
        weights = _Weights(file, network, file_hash(file), ('--backbone-only',))
    else:
        weights = _Weights('random', network, '')
    for name, task in spec.tasks.items():
        root = spec.data[task.data]
        if not isinstance(task, TrainedTask):
            hash_ = settings_hash(
                merged(network, {}),
                task.data,
                weights.settings,
                task.options.model_dump(exclude_unset=True),
                seed,
            )
            step = _features(tools, name, task, root, weights, hash_, seed, folder)
            steps.append(step)
        elif trained := training_of(task, name, backbone):
            step = _downstream(tools, name, task, trained, root, weights, seed, folder)
            steps.append(step)
    return Cell(key, backbone, data, seed, folder, steps)


def _pretraining(
    tools: Path, training: Training, data: str, root: str, seed: int, folder: Path
) -> Step:
    config = _run_config(training, seed, folder / 'pretraining.py')
    work_dir = folder / 'pretraining'
    return Step(
        'pretraining',
        [_train_command(tools, config.file, work_dir, root)],
        settings_hash(config.config, data),
        config,
        timed=work_dir,
    )


def _downstream(
    tools: Path,
    name: str,
    task: TrainedTask,
    training: Training,
    root: str,
    weights: _Weights,
    seed: int,
    folder: Path,
) -> Step:
    config = _run_config(training, seed, folder / f'{name}.py')
    train = _train_command(tools, config.file, folder / name, root)
    if weights.file != 'random':
        train[3:3] = ['--backbone-checkpoint', weights.file]
    results = folder / f'{name}.json'
    test = [
        *_python(tools, 'test.py'),
        str(config.file),
        _checkpoint_of(folder / name),
        '--work-dir',
        str(folder / name / 'test'),
        '--data-root',
        root,
        '--json',
        str(results),
    ]
    return Step(
        name,
        [train, test],
        settings_hash(config.config, task.data, weights.settings),
        config,
        results,
        tuple(task.metrics),
    )


def _features(
    tools: Path,
    name: str,
    task: FeatureTask | DenseTask,
    root: str,
    weights: _Weights,
    config_hash: str,
    seed: int,
    folder: Path,
) -> Step:
    results = folder / f'{name}.json'
    command = [*_python(tools, 'evaluate_features.py'), weights.network, weights.file]
    options = {'train': '', **task.options.model_dump(exclude_unset=True)}
    if isinstance(task, DenseTask):
        options |= {'dense': True, 'data_root': root}
    else:
        for folder_option in {'train', 'test'} & set(options):
            options[folder_option] = str(Path(root, options[folder_option]))
    command += _as_flags({**options, 'seed': seed, 'json': results})
    command += weights.flags
    return Step(
        name, [command], config_hash, results=results, metrics=tuple(task.metrics)
    )


def _as_flags(options: Mapping[str, Any]) -> list[str]:
    """Options of a tool as its command line takes them."""
    flags = []
    for key, value in options.items():
        flag = f'--{key.replace("_", "-")}'
        if isinstance(value, bool):
            flags += [flag] if value else []
        else:
            if isinstance(value, dict):
                value = [f'{name}={meant}' for name, meant in value.items()]
            values = value if isinstance(value, list) else [value]
            flags += [flag, *map(str, values)]
    return flags


def _run_config(training: Training, seed: int, file: Path) -> RunConfig:
    changes = json.dumps({'randomness.seed': seed, **training.changes})
    origin = f'{training.config} with {changes}'
    return RunConfig(file, training.merged(seed), origin)


def _python(tools: Path, tool: str) -> list[str]:
    return [sys.executable, str(tools / tool)]


def _train_command(tools: Path, config: Path, work_dir: Path, root: str) -> list[str]:
    return [
        *_python(tools, 'train.py'),
        str(config),
        '--work-dir',
        str(work_dir),
        '--data-root',
        root,
        '--resume',
    ]


def _checkpoint_of(folder: Path) -> str:
    return f'{_CHECKPOINT_OF} {folder}'


def _with_checkpoint(argument: str) -> str:
    if not argument.startswith(_CHECKPOINT_OF):
        return argument
    folder = argument.removeprefix(_CHECKPOINT_OF).strip()
    checkpoint = recorded_checkpoint(Path(folder))
    if checkpoint is None:
        raise SpecError(f'{folder} holds no checkpoint')
    return str(checkpoint)
