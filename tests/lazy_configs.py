# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Configs in mmengine's newer style, whose types are imported and not named."""

from pathlib import Path
from typing import Any

from mmengine import registry
from mmengine.config import Config

from cmid_mm.configs import scope_of

_REGISTRIES = (
    'MODELS DATASETS TRANSFORMS HOOKS METRICS EVALUATOR FUNCTIONS LOOPS OPTIMIZERS '
    'OPTIM_WRAPPERS OPTIM_WRAPPER_CONSTRUCTORS PARAM_SCHEDULERS DATA_SAMPLERS '
    'VISUALIZERS VISBACKENDS TASK_UTILS LOG_PROCESSORS'
).split()


def write_lazy_config(cfg: Config, path: Path) -> Path:
    """Write a config with classes in place of their names.

    Returns:
        ``path``; its base stands beside it.
    """
    imports: dict[Any, str] = {}

    def text(value: Any) -> str:
        if isinstance(value, dict):
            items = {key: text(item) for key, item in value.items()}
            found = _find(value.get('type'))
            if found is not None:
                items['type'] = imports.setdefault(found, f'type_{len(imports)}')
            return f'dict({", ".join(f"{k}={v}" for k, v in items.items())})'
        if isinstance(value, (list, tuple)):
            inner = ''.join(f'{text(item)}, ' for item in value)
            return f'[{inner}]' if isinstance(value, list) else f'({inner})'
        return repr(value)

    with scope_of(cfg):
        # Such configs need no scope.
        values = {k: v for k, v in cfg.to_dict().items() if k != 'default_scope'}
        lines = [f'{k} = {text(v)}' for k, v in values.items()]
    modules = [
        f'from {found.__module__} import {found.__name__} as {name}'
        for found, name in imports.items()
    ]
    base = path.with_name(f'{path.stem}_base.py')
    base.write_text('\n'.join([*modules, *lines]) + '\n')
    path.write_text(
        'from mmengine.config import read_base\n'
        f'with read_base():\n    from .{base.stem} import *\n'
    )
    return path


def _find(name: Any) -> Any:
    if not isinstance(name, str):
        return None
    for kind in _REGISTRIES:
        with getattr(registry, kind).switch_scope_and_registry(None) as scoped:
            found = scoped.get(name)
        if found is not None:
            return found
    return None  # a layer of mmcv's operators, say
