# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Errors of a run in the words of its config."""

import difflib
import itertools
import logging
import re
import traceback
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.logging import MMLogger

from . import building
from .building import BuildStep, accepted_names, build_steps, nearest_name
from .dependencies import NO_OPERATORS, OPERATORS
from .worker_faults import explain_worker_fault

#: Errors whose text is made for users; that of others may need its place in the code.
_TOLD = (ValueError, OSError, KeyError, ImportError)

#: What to do about errors of torch that do not say it.
_REMEDIES = {
    'Expected more than 1 value per channel when training': (
        ': a BatchNorm cannot take statistics of one position of one image; set '
        'train_dataloader.batch_size higher, or larger views'
    )
}


def explain(error: Exception) -> str:
    """The text of an error, with the place in the config that it is about.

    Args:
        error: As it was caught.

    Returns:
        A text that names the key of the config if the error came up while a part of
        the config was built; and otherwise the line of the code if the error is of a
        kind that bugs have, too.
    """
    fault = explain_worker_fault(error)
    if fault:
        return fault
    steps = [step for step in build_steps(error) if isinstance(step.cfg, dict)]
    step = steps[-1] if steps else None
    config = _config_of(error)
    text = _text(error)
    place = _place_on_the_way(error, config)
    key = re.search(r"unexpected keyword argument '(\w+)'", text)
    if key and isinstance(error, TypeError):
        text = f'unknown key {key[1]!r}'
        if step and key[1] in step.cfg:
            text += nearest_name(key[1], accepted_names(step.type))
        else:
            nodes = (path for path, node in nodes_of(config) if key[1] in node)
            return f'{next(nodes, place or _place_in_code(error))}: {text}'
    if step:
        text = _with_nearest(text, step)
        is_missing = isinstance(error, FileNotFoundError) and 'data_root' not in text
        if is_missing and step.registry.name == 'dataset':
            text += '; set data_root (or --data-root) and data_prefix to the data'
        name = getattr(step.type, '__name__', step.cfg.get('type'))
        if not place:
            place = name
        elif name and place == place_of(config, step.cfg):
            place = f'{place} ({name})'
            text = text.removeprefix(f'{name}: ')
    elif not place and not (isinstance(error, _TOLD) and ' ' in text):
        place = _place_in_code(error)
    return f'{place}: {text or type(error).__name__}' if place else text


def record_traceback(error: Exception) -> str | None:
    """Write the traceback of an error to the log file of the run.

    Args:
        error: As it was caught.

    Returns:
        The file; None if there is none, or it cannot be written: then the error itself
        matters more.
    """
    for handler in MMLogger.get_current_instance().handlers:
        if isinstance(handler, logging.FileHandler):
            text = ''.join(traceback.format_exception(error))
            try:
                with open(handler.baseFilename, 'a', encoding='utf-8') as log:
                    log.write(text)
            except OSError:
                return None
            return handler.baseFilename
    return None


def place_of(config: Config | None, part: Any) -> str | None:
    """Path of the node of a config from which a part is made.

    Args:
        config: The config.
        part: What is built: the node, perhaps with further settings that it shares with
            other parts.

    Returns:
        Such as ``'model.encoder.backbone'``; None if there is no such node.
    """
    best, most = None, 0
    for path, node in nodes_of(config):
        if len(node) > most and _holds(part, node):
            best, most = path, len(node)
    return best


def _text(error: Exception) -> str:
    """The text of an error, also of one that a data-loading worker reports."""
    if isinstance(error, ImportError) and error.name == OPERATORS:
        return f'{NO_OPERATORS}: {error}'
    if isinstance(error, AssertionError) and not str(error):
        # What was asserted says what is wrong.
        return traceback.extract_tb(error.__traceback__)[-1].line or ''
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    if 'Original Traceback' not in text:
        return text + _REMEDIES.get(text.partition(',')[0], '')
    lines = text.rpartition('Traceback (most recent call last):')[2].splitlines()
    message = itertools.dropwhile(lambda line: not line or line[0] == ' ', lines)
    return '\n'.join(message).partition(': ')[2]


def _with_nearest(text: str, step: BuildStep) -> str:
    """Say which type or key is meant by an unknown one."""
    kind = re.match(r'(\S+) is not in the \S+ registry', text)
    if kind:
        names: list[str] = []
        registry: Any = step.registry
        while registry is not None:
            names += registry.module_dict
            registry = registry.parent
        return f'there is no type {kind[1]!r}{nearest_name(kind[1], names)}'
    if not text.startswith('unknown key'):
        # A key that the class hands on, and misses under its right name.
        known = accepted_names(step.type)
        for key in step.cfg.keys() - known - {'type', '_scope_'}:
            if difflib.get_close_matches(key, known, 1):
                text += f'; unknown key {key!r}{nearest_name(key, known)}'
    return text


def _place_in_code(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f'{type(error).__name__} in {frame.filename}, line {frame.lineno}'


def _place_on_the_way(error: Exception, config: Config | None) -> str | None:
    """Place of the last part of a config that a function of mmengine was given."""
    last = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_globals['__name__'].startswith(('mmengine.', building.__name__)):
            names = frame.f_code.co_varnames[: frame.f_code.co_argcount]
            arguments = [frame.f_locals.get(name) for name in names if name != 'self']
            parts = [value for value in arguments if isinstance(value, dict)]
            builds = frame.f_code.co_name.lstrip('_').startswith('build')
            # One that is given several parts does not say which is meant.
            if len(parts) == 1 and (builds or len(arguments) == 1):
                last = place_of(config, parts[0]) or last
    return last


def _config_of(error: Exception) -> Config | None:
    """The config of the run: the first that a function on the way had."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        for value in frame.f_locals.values():
            if isinstance(value, Config):
                return value
    return None


def nodes_of(config: Any, path: str = '') -> Iterator[tuple[str, Any]]:
    """All mappings within a config with their dotted paths."""
    if isinstance(config, Config | dict):
        if path:
            yield path, config
        items: Any = config.items()
    elif isinstance(config, list | tuple):
        items = enumerate(config)
    else:
        return
    for key, value in items:
        yield from nodes_of(value, f'{path}.{key}' if path else str(key))


def _holds(part: Any, node: Any) -> bool:
    """Whether a part has what a node of a config has, perhaps with further settings."""
    if isinstance(part, dict) and isinstance(node, dict):
        return all(key in part and _holds(part[key], node[key]) for key in node)
    return _equal(part, node)


def _equal(first: Any, second: Any) -> bool:
    try:
        return bool(first == second)
    except (ValueError, RuntimeError):  # arrays
        return first is second
