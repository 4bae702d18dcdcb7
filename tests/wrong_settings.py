# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Configs with one wrong setting of one of this package's classes, for tests."""

import copy
import random
import re
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.optim import build_optim_wrapper
from mmengine.registry import (
    DATA_SAMPLERS,
    DATASETS,
    HOOKS,
    LOOPS,
    METRICS,
    MODELS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    TRANSFORMS,
)
from torch import nn

from cmid_mm.building import BuildStep, has_type, setting_types
from cmid_mm.configs import build_model, scope_of, wrapped_datasets
from cmid_mm.explaining import nodes_of

ROOT = Path(__file__).parents[1] / 'configs'
CONFIGS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in ROOT.glob('*/*.py')
    if path.parent.name != '_base_'
)
_REGISTRIES = (
    *(DATASETS, DATA_SAMPLERS, HOOKS, LOOPS, METRICS, MODELS, OPTIMIZERS),
    *(OPTIM_WRAPPERS, TRANSFORMS),
)
#: What the runner builds.
_BUILT = re.compile(
    r'(model|data_preprocessor|optim_wrapper|train_cfg|tta_model|tta_pipeline|'
    r'\w+_(dataloader|evaluator|hooks))(\.|$)'
)
#: Settings that the model, or this module, replaces whatever they are.
_REPLACED = ('num_bands', 'lazy_init')
#: Parts whose type the model knows.
_IMPLIED = {
    'model.encoder': 'MaskedEncoder',
    'data_preprocessor': 'ViewPairPreprocessor',
}


class Place(NamedTuple):
    """A part of a config that is of one of this package's classes."""

    path: str
    types: Any  # of its settings


def places(cfg: Config) -> list[Place]:
    """All parts that are of this package's classes and take settings."""
    found = []
    with scope_of(cfg):
        for path, node in nodes_of(cfg):
            if not _BUILT.match(path):
                continue  # a variable that others refer to
            implied = _IMPLIED.get(path) if cfg.model.type == 'CMID' else None
            kind = node.get('type', implied)
            if isinstance(kind, str):
                types = _types({**node, 'type': kind})
                if types:
                    found.append(Place(path, types))
    return found


def _types(node: dict[str, Any]) -> Any:
    found = [setting_types(BuildStep(r, node).type) for r in _REGISTRIES]
    return next(filter(None, found), {})


def with_wrong_key(cfg: Config, place: Place, rng: random.Random) -> tuple[str, str]:
    """Misspell a key; returns it and what it was."""
    node = _node(cfg, place.path)
    names = [n for n in place.types if len(n) > 3 and n != 'runner']
    name = rng.choice([n for n in names if n in node] or names)
    at = rng.randrange(1, len(name) - 1)
    wrong = name[:at] + name[at + 1 :]
    while wrong in place.types:  # a plural
        wrong += 'x'
    node[wrong] = node.pop(name, 1)
    return wrong, name


def with_wrong_type(cfg: Config, place: Place, rng: random.Random) -> str | None:
    """Give a key a value of a wrong type; returns it."""
    wrong = [
        (name, value)
        for name, expected in place.types.items()
        for value in ('wrong', 5, {'a': 1}, [None], 2.5)
        if name not in _REPLACED and not has_type(value, expected)
    ]
    if not wrong:
        return None
    name, value = rng.choice(wrong)
    _node(cfg, place.path)[name] = value
    return name


def _node(cfg: Config, path: str) -> Any:
    node: Any = cfg
    for name in path.split('.'):
        node = node[int(name)] if isinstance(node, (list, tuple)) else node[name]
    return node


def build_section(cfg: Config, path: str) -> None:
    """Build what the runner builds of the section with a path; no data are needed."""
    section, *rest = path.split('.')
    with scope_of(cfg):
        if section in ('model', 'data_preprocessor'):
            build_model(cfg)
        elif section.endswith('_dataloader'):
            loader = cfg[section]
            if rest[0] == 'sampler':
                DATA_SAMPLERS.build(loader.sampler, default_args=dict(dataset=[1]))
            for dataset in wrapped_datasets(loader.dataset):
                dataset.lazy_init = True
            DATASETS.build(loader.dataset)
        elif section.endswith('_evaluator'):
            Evaluator(cfg[section])
        elif section.endswith('_hooks'):
            HOOKS.build(_node(cfg, f'{section}.{rest[0]}'))
        elif section == 'optim_wrapper':
            build_optim_wrapper(nn.Linear(2, 2), copy.deepcopy(cfg.optim_wrapper))
        elif section == 'train_cfg':
            LOOPS.build(cfg.train_cfg, default_args=dict(runner=None, dataloader=[]))
        elif section == 'tta_model':
            MODELS.build(cfg.tta_model, default_args=dict(module=nn.Identity()))
        elif section == 'tta_pipeline':
            for step in cfg.tta_pipeline:
                TRANSFORMS.build(step)
        else:
            raise NotImplementedError(path)
