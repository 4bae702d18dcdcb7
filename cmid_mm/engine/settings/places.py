# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Where a config holds the parts that its rules are about."""

import inspect
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS, Registry

from ...configs import resolve_type, type_name, wrapped_datasets


def model_of(cfg: Config) -> Any:
    """The model of a run."""
    return cfg.get('model') or {}


def heads_of(cfg: Config) -> Iterator[tuple[str, Any]]:
    """Heads of the branches of CMID, by path."""
    heads = model_of(cfg).get('heads')
    for name, head in heads.items() if isinstance(heads, dict) else ():
        if isinstance(head, dict):
            yield f'model.heads.{name}', head


def preprocessor_of(cfg: Config) -> tuple[str, Any]:
    """The data preprocessor, in the model or beside it, and its path."""
    inner = model_of(cfg).get('data_preprocessor')
    if inner:
        return 'model.data_preprocessor', inner
    return 'data_preprocessor', cfg.get('data_preprocessor') or {}


def is_of_views(preprocessor: Any) -> bool:
    """Whether a preprocessor is for the two views of a pre-training."""
    return type_name(preprocessor) in (
        '',
        'ViewPairPreprocessor',
        'SelfSupViewPreprocessor',
    )


def pipelines_of(cfg: Config, split: str) -> Iterator[tuple[str, Any]]:
    """Pipelines of a split's data sets; the path is that of the first."""
    loader: Any = cfg.get(f'{split}_dataloader') or {}
    for dataset in wrapped_datasets(loader.get('dataset')):
        if dataset.get('pipeline'):
            yield f'{split}_dataloader.dataset.pipeline', dataset.pipeline


def step_of(pipeline: Any, kind: str) -> tuple[int, Any] | None:
    """The first step of a type in a pipeline, and its place there."""
    for index, step in enumerate(pipeline):
        if isinstance(step, dict) and type_name(step) == kind:
            return index, step
    return None


def parts_of(found: Any, path: str) -> Iterator[tuple[str, Any]]:
    """A part, or each of a list of them."""
    if isinstance(found, dict):
        yield path, found
    elif isinstance(found, list | tuple):
        for index, part in enumerate(found):
            if isinstance(part, dict):
                yield f'{path}.{index}', part


def hooks_of(cfg: Config) -> Iterator[tuple[str, Any]]:
    """Hooks that a config names, by path."""
    defaults: Any = cfg.get('default_hooks') or {}
    for name, hook in defaults.items():
        yield from parts_of(hook, f'default_hooks.{name}')
    yield from parts_of(cfg.get('custom_hooks'), 'custom_hooks')


def default_of(part: Any, name: str, registry: Registry = MODELS) -> Any:
    """What a part's class takes where the config says nothing.

    Args:
        part: Its config.
        name: The setting.
        registry: Where the type is looked up.

    Returns:
        None if nothing is known.
    """
    kind = part.get('type')
    scope = 'mmpretrain' if registry is MODELS else None
    with registry.switch_scope_and_registry(scope) as known:
        cls = resolve_type(known, kind) if kind else None
    for owner in cls.__mro__ if inspect.isclass(cls) else ():
        # A class may hand its arguments on.
        init = vars(owner).get('__init__')
        parameter = init and inspect.signature(init).parameters.get(name)
        if parameter:
            return None if parameter.default is parameter.empty else parameter.default
    return None
