# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""How the images of a pre-training were normalised."""

import ast
from collections.abc import Iterator, Mapping
from typing import Any


def normalization(checkpoint: Mapping[str, Any]) -> dict[str, list[float]]:
    """Mean and standard deviation of the bands, as far as a checkpoint tells.

    The config in an mmengine checkpoint is Python source; it is parsed, never run.

    Args:
        checkpoint (Mapping): What the file held.

    Returns:
        dict[str, list[float]]: ``mean`` and ``std``, 0-255 scale; empty if unknown.
    """
    meta = checkpoint.get('meta')
    if not isinstance(meta, Mapping):
        return {}
    if 'mean' in meta and 'std' in meta:
        return dict(mean=meta['mean'], std=meta['std'])
    config = meta.get('cfg')
    if not isinstance(config, str):
        return {}
    try:
        for settings in _preprocessor_settings(ast.parse(config)):
            if 'mean' in settings and 'std' in settings:
                return {
                    name: [float(v) for v in ast.literal_eval(settings[name])]
                    for name in ('mean', 'std')
                }
    except (SyntaxError, ValueError, TypeError):
        pass  # written by other means than mmengine's; the numbers stay unknown
    return {}


def _preprocessor_settings(config: ast.Module) -> Iterator[dict[str | None, ast.expr]]:
    """Keywords of every ``data_preprocessor = dict(...)`` in a config."""
    for node in ast.walk(config):
        names: list[str | None]
        if isinstance(node, ast.Assign):
            names = [
                target.id for target in node.targets if isinstance(target, ast.Name)
            ]
        elif isinstance(node, ast.keyword):
            names = [node.arg]
        else:
            continue
        if 'data_preprocessor' in names and isinstance(node.value, ast.Call):
            yield {keyword.arg: keyword.value for keyword in node.value.keywords}
