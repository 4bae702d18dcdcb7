# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The runs that a comparison consists of, and the commands that make them."""

import copy
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..configs import load_config, merge_options
from ..engine.launch import latest_checkpoint
from .spec import Method, Spec, SpecError, TaskSpec, for_backbone

#: Where the command of a later step names the newest checkpoint of an earlier one.
_CHECKPOINT_OF = '<newest checkpoint of>'


@dataclass(frozen=True)
class Step:
    """One part of a cell: the pre-training, or a task.

    Args:
        name (str): ``'pretraining'`` or the key of the task.
        commands (list[list[str]]): What is run, one after the other.
        config_hash (str): Stands for all settings that the result depends on, those
            of the pre-training included, but not for folders.
        results (Path | None): JSON file that the last command writes.
    """

    name: str
    commands: list[list[str]]
    config_hash: str
    results: Path | None = None

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

    Args:
        method (str): Key of the method.
        backbone (str): Name of the backbone.
        data (str): What the backbone was pre-trained on; ``'-'`` for nothing.
        seed (int): Seed of pre-training and tasks.
        folder (Path): Everything that belongs to it.
        steps (list[Step]): In the order in which they run.
    """

    method: str
    backbone: str
    data: str
    seed: int
    folder: Path
    steps: list[Step]


def plan(spec: Spec, tools: Path) -> list[Cell]:
    """The cells of a comparison, all methods of the first seed first.

    Args:
        spec (Spec): The comparison.
        tools (Path): Folder of the command-line tools.

    Returns:
        list[Cell]: The cells.

    Raises:
        SpecError: If the length of a training is given in epochs and its config
            counts iterations, or an option is not one of its config.
    """
    return [
        _cell(spec, tools, key, backbone, data, seed)
        for seed in spec.seeds
        for key, method in spec.methods.items()
        for backbone in method.backbones or spec.backbones
        for data in _data_of(spec, method)
    ]


def _data_of(spec: Spec, method: Method) -> list[str]:
    if method.config:
        return method.data or list(spec.pretraining.data)
    return [method.trained_on or '-']


def _cell(
    spec: Spec, tools: Path, key: str, backbone: str, data: str, seed: int
) -> Cell:
    method = spec.methods[key]
    # Data behind foreign weights has a name for readers, not one for a folder.
    trained_here = data if method.config else 'foreign' if method.checkpoint else 'none'
    folder = spec.output / trained_here / backbone / key / f'seed-{seed}'
    network = spec.backbones[backbone]
    weights, settings = 'random', ''
    flags: list[str] = []
    steps = []
    if method.config:
        step = _pretraining(spec, tools, method, backbone, data, seed, folder)
        steps.append(step)
        network = for_backbone(method.config, backbone, data)
        weights, settings = _checkpoint_of(folder / 'pretraining'), step.config_hash
        # The options can change the network that the weights are for.
        options = _options(spec, method, data)
        flags = ['--cfg-options', *_as_arguments(options)] if options else []
    elif method.checkpoint:
        weights = for_backbone(method.checkpoint, backbone)
        settings, flags = _file_hash(weights), ['--backbone-only']
    for name, task in spec.tasks.items():
        if isinstance(task.config, dict) and backbone not in task.config:
            continue
        root = spec.data[task.data]
        if task.config is None:
            step = _features(
                tools, name, task, root, network, weights, flags, settings, seed, folder
            )
        else:
            config = for_backbone(task.config, backbone)
            step = _downstream(
                tools, name, task, root, config, weights, settings, seed, folder
            )
        steps.append(step)
    return Cell(key, backbone, data, seed, folder, steps)


def _options(spec: Spec, method: Method, data: str) -> dict[str, Any]:
    """Config options of a pre-training, the particular ones over the common ones."""
    budget = spec.pretraining
    return {**budget.options, **(budget.data[data] or {}), **method.options}


def _pretraining(
    spec: Spec,
    tools: Path,
    method: Method,
    backbone: str,
    data: str,
    seed: int,
    folder: Path,
) -> Step:
    assert method.config is not None
    config = for_backbone(method.config, backbone, data)
    options = {
        'randomness.seed': seed,
        **_epoch_options(config, spec.pretraining.epochs),
        **_options(spec, method, data),
    }
    command = _train_command(
        tools, config, folder / 'pretraining', spec.data[data], options
    )
    return Step('pretraining', [command], _config_hash(config, options, data))


def _downstream(
    tools: Path,
    name: str,
    task: TaskSpec,
    root: str,
    config: str,
    weights: str,
    settings: str,
    seed: int,
    folder: Path,
) -> Step:
    options = {
        'randomness.seed': seed,
        **_epoch_options(config, task.epochs),
        **task.options,
    }
    train = _train_command(tools, config, folder / name, root, options)
    if weights != 'random':
        train[3:3] = ['--backbone-checkpoint', weights]
    results = folder / f'{name}.json'
    test = [
        *_python(tools, 'test.py'),
        config,
        _checkpoint_of(folder / name),
        '--work-dir',
        str(folder / name / 'test'),
        '--data-root',
        root,
        '--json',
        str(results),
        '--cfg-options',
        *_as_arguments(options),
    ]
    hash_ = _config_hash(config, options, task.data, settings)
    return Step(name, [train, test], hash_, results)


def _features(
    tools: Path,
    name: str,
    task: TaskSpec,
    root: str,
    network: str,
    weights: str,
    flags: list[str],
    settings: str,
    seed: int,
    folder: Path,
) -> Step:
    results = folder / f'{name}.json'
    folders = {'train': '', **task.options}
    command = [*_python(tools, 'evaluate_features.py'), network, weights]
    for key, value in folders.items():
        flag = f'--{key.replace("_", "-")}'
        value = str(Path(root, value)) if key in ('train', 'test') else str(value)
        command += [flag, value]
    command += ['--seed', str(seed), '--json', str(results), *flags]
    hash_ = _config_hash(network, {}, task.data, settings, task.options, seed)
    return Step(name, [command], hash_, results)


def _python(tools: Path, tool: str) -> list[str]:
    return [sys.executable, str(tools / tool)]


def _train_command(
    tools: Path, config: str, work_dir: Path, root: str, options: Mapping[str, Any]
) -> list[str]:
    return [
        *_python(tools, 'train.py'),
        config,
        '--work-dir',
        str(work_dir),
        '--data-root',
        root,
        '--resume',
        '--cfg-options',
        *_as_arguments(options),
    ]


def _as_arguments(options: Mapping[str, Any]) -> list[str]:
    return [f'{key}={_as_argument(value)}' for key, value in options.items()]


def _as_argument(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f'[{",".join(map(_as_argument, value))}]'
    return str(value)


def _epoch_options(config: str, epochs: int | None) -> dict[str, Any]:
    """What makes a run of another length of a config, its schedules with it."""
    if epochs is None:
        return {}
    cfg = _load(config)
    before = cfg.train_cfg.get('max_epochs')
    if before is None:
        raise SpecError(
            f'epochs: {config} counts iterations; give train_cfg.max_iters and the '
            'ends of its schedules under options'
        )
    options = {'train_cfg.max_epochs': epochs}
    for number, schedule in enumerate(cfg.get('param_scheduler') or ()):
        if schedule.get('end') == before:
            options[f'param_scheduler.{number}.end'] = epochs
        if 'T_max' in schedule:
            length = epochs - schedule.get('begin', 0)
            options[f'param_scheduler.{number}.T_max'] = length
    return options


@cache
def _load(config: str) -> Config:
    return load_config(config)


def _config_hash(config: str, options: Mapping[str, Any], *others: Any) -> str:
    cfg = copy.deepcopy(_load(config))
    try:
        merge_options(cfg, dict(options))
    except (ValueError, KeyError) as error:
        raise SpecError(f'{config}: {error.args[0]}') from error
    text = json.dumps([cfg.to_dict(), others], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@cache
def _file_hash(path: str) -> str:
    if not Path(path).is_file():
        return 'missing'
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()[:12]


def _checkpoint_of(folder: Path) -> str:
    return f'{_CHECKPOINT_OF} {folder}'


def _with_checkpoint(argument: str) -> str:
    if not argument.startswith(_CHECKPOINT_OF):
        return argument
    folder = argument.removeprefix(_CHECKPOINT_OF).strip()
    checkpoint = latest_checkpoint(folder)
    if checkpoint is None:
        raise SpecError(f'{folder} holds no checkpoint')
    return checkpoint
