# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What a comparison refers to: found to be there before anything runs."""

import copy
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import nn

from ..configs import build_model
from ..datasets.windowed.scenes import find_scenes, join
from ..engine.settings import faults_of_settings
from ..engine.settings.places import preprocessor_of
from ..explaining import explain
from ..images.names import is_local
from ..overrides import resolve_path
from .form import ByBackbone, refuse
from .form import unknown as hint
from .probing import check_data, check_stages
from .scores import score_names
from .settings import Training, data_of, load, max_epochs, schedules, trainings
from .spec import DenseTask, FeatureTask, Spec, TrainedTask, for_backbone


def check_spec(spec: Spec, source: str | Path, inputs: Spec | None = None) -> None:
    """Check all that a comparison refers to.

    Args:
        spec: The comparison.
        source: The file that it was read from, for the error.
        inputs: The part of it that is to be run, whose data and weights must be
            there, and whose models can be built; None looks for neither.

    Raises:
        SpecError: With every fault, by the key of the file.
    """
    faults = list(_faults_of_names(spec))
    for training in trainings(spec):
        faults += _faults_of_training(training)
    faults += _faults_of_networks(spec)
    faults += _faults_of_scores(spec)
    if inputs:
        faults += _faults_of_inputs(inputs)
        # Building takes a second or so each, for nothing if all else is wrong.
        faults += () if faults else _faults_of_models(inputs)
    refuse(source, faults)


def _faults_of_names(spec: Spec) -> Iterator[str]:
    """Parts that name others which are not there."""
    budget = spec.pretraining
    yield from _unknown('pretraining.data', budget.data, spec.data, 'data set')
    for key, method in spec.methods.items():
        where = f'methods.{key}'
        yield from _unknown(
            f'{where}.backbones', method.backbones or (), spec.backbones, 'backbone'
        )
        yield from _unknown(
            f'{where}.data', method.data or (), budget.data, 'data set of pretraining'
        )
        if method.config and not budget.data:
            yield f'{where}.config: needs data to train on; name them in pretraining'
        for name, files in (
            ('config', method.config),
            ('checkpoint', method.checkpoint),
        ):
            yield from _faults_of_mapping(
                f'{where}.{name}', files, method.backbones or spec.backbones, spec
            )
    for key, task in spec.tasks.items():
        yield from _unknown(f'tasks.{key}.data', [task.data], spec.data, 'data set')
        if isinstance(task, TrainedTask):
            yield from _faults_of_mapping(f'tasks.{key}.config', task.config, (), spec)
    if isinstance(spec.reference, dict):
        yield from _unknown('reference', spec.reference, spec.backbones, 'backbone')
        references = [*spec.reference.values()]
    else:
        references = [] if spec.reference is None else [spec.reference]
    yield from _unknown('reference', references, spec.methods, 'method')
    columns = [f'{key}/{name}' for key, t in spec.tasks.items() for name in t.metrics]
    rows = {
        (key, backbone): data_of(spec, method)
        for key, method in spec.methods.items()
        for backbone in method.backbones or spec.backbones
    }
    for number, row in enumerate(spec.published):
        where = f'published.{number}'
        if (row.method, row.backbone) in rows:
            data = rows[row.method, row.backbone]
            yield from _unknown(f'{where}.data', [row.data], data, 'data of that row')
        else:
            names = [f'{method} {backbone}' for method, backbone in rows]
            yield (
                f'{where}: there is no row of method {row.method!r} with backbone '
                f'{row.backbone!r}; {hint(f"{row.method} {row.backbone}", names)}'
            )
        yield from _unknown(f'{where}.values', row.values, columns, 'task/metric')


def _unknown(
    where: str, names: Collection[str], known: Collection[str], what: str
) -> Iterator[str]:
    for name in names:
        if name not in known:
            yield f'{where}: {name!r} is no {what}; {hint(name, known)}'


def _faults_of_mapping(
    where: str, files: ByBackbone | None, needed: Collection[str], spec: Spec
) -> Iterator[str]:
    if isinstance(files, dict):
        yield from _unknown(where, files, spec.backbones, 'backbone')
        for backbone in needed:
            if backbone not in files:
                yield f'{where}: has no file for backbone {backbone!r}'


def _loaded(where: str, file: str) -> Config | str:
    """A config, or why there is none."""
    try:
        return load(file)
    except (OSError, ImportError, ValueError) as error:
        return f'{where}: {error}'
    except Exception as error:  # a config is a program
        return f'{where}: {file} cannot be read: {type(error).__name__}: {error}'


def _faults_of_training(training: Training) -> Iterator[str]:
    found = _loaded(training.config_key, training.config)
    if isinstance(found, str):
        yield found
        return
    if training.epochs is not None and max_epochs(found) is None:
        yield (
            f'{training.epochs_key}: {training.config} does not count in epochs; give '
            'train_cfg.max_iters and the ends of its schedules under options'
        )
        return
    cfg = copy.deepcopy(found)
    faults = []
    for where, options in training.options.items():
        for path, value in options.items():
            fault = _merge_fault(cfg, path, value)
            if fault:
                faults.append(f'{where}.{path}: {training.config}: {fault}')
    yield from faults
    if faults:
        return
    cfg = training.merged(seed=0)
    if training.epochs is not None:
        faults = list(_faults_of_length(cfg))
        for fault in faults:
            yield f'{training.epochs_key}: {training.config}: {fault}'
    for fault in () if faults else faults_of_settings(cfg):
        yield f'{_key_of(fault, training)}: {training.config}: {fault}'


def _key_of(fault: str, training: Training) -> str:
    """The option that a fault is about; else the config."""
    for where, options in training.options.items():
        for path in options:
            name = path.rpartition('.')[2]
            if fault.startswith((f'{path}=', f'{path}:')) or (
                fault.startswith(f'{path.removesuffix(f".{name}")} (')
                and re.search(rf'\b{name}\b', fault)
            ):
                return f'{where}.{path}'
    return training.config_key


def _merge_fault(cfg: Config, path: str, value: Any) -> str | None:
    """Override one value of a config, or tell why it cannot be."""
    try:
        path = resolve_path(cfg, path)
    except KeyError as error:
        return str(error.args[0])
    try:
        cfg.merge_from_dict({path: copy.deepcopy(value)})
    except (TypeError, KeyError, ValueError, IndexError) as error:
        return f'cannot be merged: {" ".join(str(error).split())}'
    return None


def _faults_of_length(cfg: Config) -> Iterator[str]:
    """Schedules that a training is too short for."""
    length = max_epochs(cfg) or 0
    for path, schedule in schedules(cfg):
        name = f'{path} ({getattr(schedule["type"], "__name__", schedule["type"])})'
        begin, end = schedule.get('begin', 0), schedule.get('end', length)
        late = [m for m in schedule.get('milestones') or () if m >= length]
        if begin >= length:
            yield (
                f'{length} epochs are not longer than what comes before {name}, which '
                f'begins at {begin}; train longer, or change it under options'
            )
        elif end > length or late:
            yield (
                f'{length} epochs end before {name} does, which counts on '
                f'{late[-1] + 1 if late else end}; train longer, or change it under '
                'options'
            )


def _faults_of_networks(spec: Spec) -> Iterator[str]:
    """What random and foreign weights are put into."""
    for name, file in spec.backbones.items():
        found = _loaded(f'backbones.{name}', file)
        if isinstance(found, str):
            yield found
        elif 'model' not in found:
            yield f'backbones.{name}: {file} has no model'


def _faults_of_models(part: Spec) -> Iterator[str]:
    """Models that cannot be built, for settings that contradict each other."""
    models = [
        (f'{training.config_key}: {training.config}', training.merged(seed=0))
        for training in trainings(part)
    ]
    for name, file in part.backbones.items():
        models.append((f'backbones.{name}: {file}', load(file)))
    built: list[Any] = []
    for where, cfg in models:
        settings = [cfg.get(n) for n in ('model', 'data_preprocessor', 'default_scope')]
        if settings in built:
            continue
        try:
            model = build_model(cfg)
        except Exception as error:  # a model is a program
            yield f'{where}: {" ".join(explain(error).split())}'
        else:
            yield from _faults_of_stages(part, model, where)
        built.append(settings)


def _faults_of_stages(part: Spec, model: nn.Module, where: str) -> Iterator[str]:
    for key, task in part.tasks.items():
        if isinstance(task, DenseTask):
            try:
                check_stages(task, model)
            except ValueError as error:
                yield f'tasks.{key}.options.stages: {error} ({where})'


def _faults_of_scores(spec: Spec) -> Iterator[str]:
    """Metrics that the test of a task does not have."""
    for key, task in spec.tasks.items():
        if not isinstance(task, TrainedTask):
            continue  # their names are part of the form
        for backbone in spec.backbones:
            if isinstance(task.config, dict) and backbone not in task.config:
                continue
            config = for_backbone(task.config, backbone)
            cfg = _loaded('', config)
            if isinstance(cfg, str):
                continue  # said already
            if not cfg.get('test_dataloader') or not cfg.get('test_evaluator'):
                yield (
                    f'tasks.{key}.config: {config} has no test_dataloader with a '
                    'test_evaluator, so there is nothing to measure'
                )
                continue
            names = score_names(cfg)
            if names is not None:
                for fault in _unknown(
                    f'tasks.{key}.metrics', task.metrics, names, 'score'
                ):
                    yield f'{fault} ({config})'


def _faults_of_inputs(part: Spec) -> Iterator[str]:
    """Data and weights that are not where they are said to be."""
    used: dict[str, None] = dict.fromkeys(task.data for task in part.tasks.values())
    for key, method in part.methods.items():
        if method.config:
            used |= dict.fromkeys(data_of(part, method))
        files = method.checkpoint
        if not files:
            continue
        for backbone in method.backbones or part.backbones:
            if isinstance(files, dict) and backbone not in files:
                continue  # said already
            file = for_backbone(files, backbone)
            if not Path(file).is_file():
                yield (
                    f'methods.{key}.checkpoint: {file} does not exist; put it '
                    'there, or leave the method out (--only)'
                )
    folders = {name: part.data[name] for name in used if name in part.data}
    for name, folder in folders.items():
        if not Path(folder).is_dir():
            yield (
                f'data.{name}: folder {folder} does not exist; give it as '
                f'--data {name}=FOLDER'
            )
    for key, task in part.tasks.items():
        root = Path(folders.get(task.data, ''))
        if isinstance(task, TrainedTask) or not root.is_dir():
            continue
        find = _missing_images if isinstance(task, FeatureTask) else _missing_scenes
        options = task.options.model_dump(exclude_unset=True)
        missing = [*find(root, options)]
        for option, fault in missing:
            yield f'tasks.{key}.options.{option}: {fault}'
        try:
            if not missing:
                check_data(task, str(root), _bands(part))
        except (OSError, ValueError, ImportError) as error:
            yield f'tasks.{key}.options: {explain(error)}'


def _bands(part: Spec) -> int:
    """Number of bands of the images that the backbones take."""
    for file in part.backbones.values():
        found = _loaded('', file)
        mean = None if isinstance(found, str) else preprocessor_of(found)[1].get('mean')
        if mean:
            return len(mean)
    return 3


def _missing_images(root: Path, options: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for option in ('train', 'test', 'train_list', 'test_list'):
        path = options.get(option, '')
        # A list is looked for in the current folder first.
        below = (root / path).exists()
        if not below and not (option.endswith('list') and Path(path).is_file()):
            yield option, f'{root / path} does not exist'


def _missing_scenes(root: Path, options: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for option in ('train', 'test', 'labels', 'test_labels', 'train_area', 'test_area'):
        name = options.get(option)
        if name is None or '{stem}' in name:
            continue
        path = join(str(root), name)
        if option in ('train', 'test'):
            try:
                find_scenes(str(root), name)
            except (OSError, ValueError) as error:
                yield option, str(error)
        elif is_local(path) and not Path(path).exists():
            yield option, f'{path} does not exist'
