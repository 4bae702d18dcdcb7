# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Overriding values of a config from outside."""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from mmengine.config import Config

from .configs import READ_BY_RUNS, type_name

#: Options of tools/train.py for what configs keep in variables.
_FLAGS = {
    name: f'--{name.replace("_", "-")}'
    for name in ('data_root', 'max_epochs', 'max_iters')
}


def merge_options(cfg: Config, options: dict[str, Any] | None) -> None:
    """Override config values, refusing paths that the config does not have.

    A part of a list is named by its ``type`` or by its index:
    ``train_dataloader.dataset.pipeline.MaskPair.ratio``,
    ``param_scheduler.CosineAnnealingLR.end``, ``param_scheduler.1.end``. None takes it
    out: ``custom_hooks.ReconstructionHook=None``.

    Args:
        cfg: The config, changed in place.
        options: Values by dotted path. The last name of a path may be new, the names
            before it must exist.

    Raises:
        KeyError: If a path leads nowhere, names the closest existing key; if it leads
            to several parts of a list; or to a variable that only the config file
            itself used, names the settings that were made from it.
    """
    resolved, taken_out = {}, []
    for path, value in (options or {}).items():
        try:
            place = resolve_path(cfg, path)
        except KeyError as error:
            raise KeyError(f'--cfg-options {path}: {error.args[0]}') from None
        parent, _, last = place.rpartition('.')
        if value is None and _is_part(_at(cfg, parent), last):
            taken_out.append((parent, int(last)))
        else:
            resolved[place] = value
    cfg.merge_from_dict(resolved)
    for parent, index in sorted(taken_out, reverse=True):
        del _at(cfg, parent)[index]


def _is_part(siblings: Any, index: str) -> bool:
    return isinstance(siblings, list) and isinstance(siblings[int(index)], dict)


def _at(cfg: Config, path: str) -> Any:
    """What stands at a path, parts of lists by their indexes; None if nothing does."""
    node: Any = cfg
    for name in path.split('.'):
        if isinstance(node, list | tuple):
            node = node[int(name)]
        else:
            node = node.get(name) if hasattr(node, 'get') else None
    return node


def resolve_path(cfg: Config, path: str) -> str:
    """A dotted path to override a config at, parts of lists by their indexes.

    Args:
        cfg: The config.
        path: As :func:`merge_options` takes it.

    Raises:
        KeyError: Likewise.
    """
    node: Any = cfg
    names = path.split('.')
    if names[0] in cfg and names[0] not in READ_BY_RUNS:
        raise _only_a_variable(cfg, names[0])
    if names[0] == 'launcher':
        raise KeyError('give it as --launcher')
    # mmengine hands it to a model that has none of its own.
    if names[0] == 'data_preprocessor' and names[0] in (cfg.get('model') or {}):
        raise KeyError(f'the model has its own, which is used; set model.{path}')
    for depth, name in enumerate(names):
        if isinstance(node, (list, tuple)):
            names[depth] = str(_index_in(node, name))
            node = node[int(names[depth])]
            continue
        is_mapping = hasattr(node, 'keys')
        keys = list(node.keys()) if is_mapping else []
        known = name in keys or (depth == 0 and name in READ_BY_RUNS)
        if not known and not (0 < depth == len(names) - 1 and is_mapping):
            raise _leads_nowhere(name, keys)
        node = node.get(name, {})
    return '.'.join(names)


def _index_in(parts: Sequence[Any], name: str) -> int:
    """Position of the part of a list with this index or type."""
    if name.isdigit() and int(name) < len(parts):
        return int(name)
    types = [type_name(part) if hasattr(part, 'get') else '' for part in parts]
    found = [index for index, kind in enumerate(types) if kind == name]
    if len(found) > 1:
        raise KeyError(
            f'several parts there are a {name}; choose one by its index, of '
            f'{", ".join(map(str, found))}'
        )
    if not found:
        raise _leads_nowhere(name, types)
    return found[0]


def _leads_nowhere(name: str, keys: Sequence[str]) -> KeyError:
    close = difflib.get_close_matches(name, keys, 1)
    hint = f'; did you mean {close[0]!r}?' if close else ''
    return KeyError(f'the config has no {name!r} there{hint}')


def _only_a_variable(cfg: Config, name: str) -> KeyError:
    places = [
        path
        for key in cfg
        if key in READ_BY_RUNS
        for path, value in _settings(cfg[key], key)
        if name.endswith(path.rpartition('.')[2]) and value == cfg[name]
    ]
    made = f': {", ".join(places[:3])}' if places else ''
    flag = f', or use {_FLAGS[name]} of tools/train.py' if name in _FLAGS else ''
    return KeyError(
        f'{name!r} is a variable that was used up when the config file was read; set '
        f'it in a config of your own, or override what was made from it{made}{flag}'
    )


def _settings(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every value in a part of a config with its dotted path, outermost first."""
    yield path, node
    parts: Iterable[tuple[Any, Any]] = ()
    if hasattr(node, 'keys'):
        parts = node.items()
    elif isinstance(node, (list, tuple)):
        parts = enumerate(node)
    for key, value in parts:
        yield from _settings(value, f'{path}.{key}')
