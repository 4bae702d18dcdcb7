# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Settings of this package's classes: known, and of the type they are declared as."""

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.optim import OptimWrapper
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

from ...building import (
    BuildStep,
    accepted_names,
    has_type,
    is_known,
    nearest_name,
    setting_types,
    takes_any_name,
    wrong_setting,
)
from ...configs import READ_BY_RUNS, scope_of, type_name
from ...explaining import nodes_of

_REGISTRIES = (
    *(DATASETS, DATA_SAMPLERS, HOOKS, LOOPS, METRICS, MODELS, OPTIMIZERS),
    *(OPTIM_WRAPPERS, TRANSFORMS),
)
#: Parts of CMID whose type the model knows.
_IMPLIED = {
    'model.encoder': 'MaskedEncoder',
    'model.data_preprocessor': 'ViewPairPreprocessor',
    'data_preprocessor': 'ViewPairPreprocessor',
}
#: What a part says besides settings; of an optimiser wrapper also who builds it.
_ABOUT_THE_PART = {'type', '_scope_'}
_ABOUT_A_WRAPPER = {'constructor', 'paramwise_cfg'}


def faults_of_parts(cfg: Config) -> Iterator[str]:
    """Settings that are unknown, of another type or outside their range.

    Args:
        cfg: The config of a run.

    Yields:
        Texts that begin with the path of the part and its class.
    """
    is_cmid = type_name(cfg.get('model') or {}) == 'CMID'
    with scope_of(cfg):
        for path, node in nodes_of(cfg):
            if path.partition('.')[0] not in READ_BY_RUNS:
                continue  # a variable that others refer to
            kind = node.get('type', _IMPLIED.get(path) if is_cmid else None)
            cls = _class_of({**node, 'type': kind})
            for fault in _faults_of(cls, node) if cls else ():
                yield f'{path} ({cls.__name__}): {fault}'


def _class_of(node: dict[str, Any]) -> Any:
    """The class of this package that a part is of; None for others."""
    if not isinstance(node['type'], str):
        return node['type'] if is_known(node['type']) else None
    name = node['type'].rpartition('.')[2]
    for registry in _REGISTRIES:
        if not any(
            is_known(part.module_dict.get(name))
            for part in (registry, *registry.children.values())
        ):
            continue
        cls = BuildStep(registry, node).type
        if is_known(cls):
            return cls
    return None


def _faults_of(cls: type, node: dict[str, Any]) -> Iterator[str]:
    known = accepted_names(cls)
    types = setting_types(cls)
    measured = getattr(cls, 'measured', ())
    about = _ABOUT_THE_PART
    if issubclass(cls, OptimWrapper):
        about = about | _ABOUT_A_WRAPPER
    for name, value in node.items():
        if name in types:
            if value is None and name in measured:
                continue  # the model fills it in
            if not has_type(value, types[name]):
                yield wrong_setting(name, value, types[name])
        elif name not in (*known, *about) and not takes_any_name(cls):
            yield f'unknown key {name!r}{nearest_name(name, known)}'
