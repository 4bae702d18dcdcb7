# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""How the images of a run were read and normalised, as its checkpoint tells."""

import ast
import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from mmengine.logging import print_log
from pydantic import TypeAdapter

from ..configs import first_reading
from ..images import Reading

#: Tells types apart; files of other programs may have any.
_READING = TypeAdapter(Reading)


def normalization(checkpoint: Mapping[str, Any]) -> dict[str, list[float]]:
    """Mean and standard deviation of the bands, as far as a checkpoint tells.

    Args:
        checkpoint: What the file held.

    Returns:
        ``mean`` and ``std``, 0-255 scale; empty if unknown, or if what is said there
        normalises no image.
    """
    meta = meta_of(checkpoint)
    return _normalization(meta) or config_normalization(stored_config(meta))


def config_normalization(cfg: Mapping[str, Any]) -> dict[str, list[float]]:
    """Mean and standard deviation of the bands by a config, as :func:`normalization`.

    Args:
        cfg: The config.
    """
    return _normalization(*parts_named('data_preprocessor', cfg))


def _normalization(*places: Mapping[str, Any]) -> dict[str, list[float]]:
    for settings in places:
        mean, std = _numbers(settings.get('mean')), _numbers(settings.get('std'))
        if mean and len(mean) == len(std) and min(std) > 0:
            return dict(mean=mean, std=std)
    return {}


def _numbers(values: Any) -> list[float]:
    """Finite numbers; none if there is anything else among the values."""
    try:
        numbers = [] if isinstance(values, str) else [float(v) for v in values]
    except (TypeError, ValueError):
        return []
    return numbers if all(map(math.isfinite, numbers)) else []


def stored_reading(checkpoint: Mapping[str, Any]) -> Reading | None:
    """How the training images of a checkpoint became numbers.

    An exported backbone says so itself, a run by the first step of its pipeline.

    Args:
        checkpoint: What the file held.

    Returns:
        None if unknown.
    """
    meta = meta_of(checkpoint)
    try:
        if isinstance(meta.get('reading'), Mapping):
            _READING.validate_python(meta['reading'])
            return Reading(**meta['reading'])
        return first_reading(stored_config(meta), 'train')
    except (AttributeError, TypeError, ValueError):
        return None  # written by other means than this package's


def compare_reading(path: Any, stored: Reading | None, own: Reading | None) -> None:
    """Warn if images are read otherwise than those that a checkpoint learnt from.

    Args:
        path: The checkpoint, for the message.
        stored: Its reading, as of :func:`stored_reading`.
        own: How images are read now. Where one of the two is unknown, nothing is
            said.
    """
    if stored is None or own is None or stored.is_like(own):
        return
    options = [as_stored(reading) for reading in (stored, own)]
    # Those that are rarely set are named where they are.
    rare = [name for name in ('gsd', 'quality') if not any(o[name] for o in options)]
    named = [name for name in options[0] if name not in ('size', *rare)]
    then, now = (', '.join(f'{name}={o[name]}' for name in named) for o in options)
    print_log(
        f'{path} learnt from images read with {then}; here they are read with {now}. '
        'If the values mean the same, read them as then: set these options of '
        'LoadImagery (LoadImagePair), or --bands, --value-range and --nodata of '
        'tools/evaluate_features.py',
        'current',
        level=logging.WARNING,
    )


def as_stored(reading: Reading) -> dict[str, Any]:
    """A reading as the metadata of a checkpoint keeps it, of JSON's types alone."""

    def as_lists(value: Any) -> Any:
        return list(map(as_lists, value)) if isinstance(value, tuple) else value

    return {name: as_lists(value) for name, value in asdict(reading).items()}


def meta_of(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a checkpoint says of itself."""
    meta = checkpoint.get('meta')
    return meta if isinstance(meta, Mapping) else {}


def stored_config(meta: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a run: Python source, which is parsed and never run."""
    source = meta.get('cfg')
    try:
        statements = ast.parse(source).body if isinstance(source, str) else []
    except (SyntaxError, ValueError):
        return {}
    return {
        target.id: _literal(statement.value)
        for statement in statements
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }


def _literal(node: ast.expr) -> Any:
    """What a node of a config's source stands for; None if it is no literal."""
    if isinstance(node, ast.Call):
        return {
            keyword.arg: _literal(keyword.value)
            for keyword in node.keywords
            if keyword.arg
        }
    if isinstance(node, ast.List | ast.Tuple):
        return [_literal(element) for element in node.elts]
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        return None


def parts_named(name: str, config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every mapping of a config that stands under a name, the outermost first."""
    level: list[Mapping[str, Any]] = [config]
    while level:
        yield from (part[name] for part in level if isinstance(part.get(name), Mapping))
        level = [
            inner
            for part in level
            for inner in part.values()
            if isinstance(inner, Mapping)
        ]
