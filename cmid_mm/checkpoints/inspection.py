# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What a checkpoint holds, told without running anything of it."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from .containers import abbreviate, state_dict_of
from .downstream import recognize_network
from .finding import FoundBackbone, find_backbone
from .fitting import shape_of
from .inert import InertObject, ModuleWeights
from .reading import CheckpointError, read_content
from .stored_images import as_stored, normalization, stored_reading


def inspect_checkpoint(path: str | os.PathLike[str]) -> list[str]:
    """Describe a checkpoint.

    Args:
        path: A file of ``torch.save``, whole pickled modules included, or of
            safetensors.

    Returns:
        Lines: what stands at the top, backbones with their layout, architecture and
        bands, classes, normalisation, and what was left inert.

    Raises:
        CheckpointError: If the file cannot be read.
    """
    inert = read_content(path, mmap=True)
    content = inert.content
    lines = [f'{path} ({os.path.getsize(path):,} bytes) holds']
    lines += [f'  {key}: {_describe(value)}' for key, value in _top(content)]
    lines += [f'{kind}: {text}' for kind, text in _findings(content, path)]
    if inert.left:
        objects = [f'{name} ({count})' for name, count in inert.left.items()]
        lines.append(f'left inert, none of it was run: {abbreviate(objects, 20)}')
    return lines


def _top(content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What stands at the top of a file; the tensors there as one state dict."""
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)}
    if tensors:
        yield 'at the top', tensors
    yield from ((str(k), v) for k, v in content.items() if k not in tensors)


def _describe(value: Any) -> str:
    if isinstance(value, InertObject):
        return f'object of {value.full_name}, inert'
    if isinstance(value, Mapping):
        tensors = [v for v in value.values() if isinstance(v, Tensor)]
        if tensors:
            numbers = sum(tensor.numel() for tensor in tensors)
            types = sorted({str(t.dtype).removeprefix('torch.') for t in tensors})
            text = f'{len(tensors)} tensors, {numbers:,} numbers, {", ".join(types)}'
            if isinstance(value, ModuleWeights):
                text += f', of a whole module of {value.module}'
            return text
        return f'dict of {abbreviate([str(key) for key in value])}'
    if isinstance(value, Tensor):
        return f'tensor {shape_of(value)}'
    if isinstance(value, (list, tuple, set)):
        return f'{type(value).__name__} of {len(value)}'
    text = ' '.join(repr(value).split())
    return text if len(text) <= 80 else f'{text[:77]}...'


def _findings(
    content: Mapping[str, Any], path: str | os.PathLike[str]
) -> Iterator[tuple[str, str]]:
    """What was recognised, each with its kind."""
    yield from _backbones(content, path)
    try:
        state = state_dict_of(content, path)
    except CheckpointError:
        return
    network = recognize_network(state)
    if network is not None:
        yield 'network', f'{network.task}, {network.num_classes(state) or "no"} classes'
    if classes := _classes(content.get('meta')):
        yield 'classes', abbreviate([str(name) for name in classes], 50)
    for name, values in normalization(content).items():
        yield name, str(values)
    if reading := stored_reading(content):
        settings = as_stored(reading).items()
        yield 'images', ', '.join(f'{k}={v}' for k, v in settings if v is not None)


def _backbones(
    content: Mapping[str, Any], path: str | os.PathLike[str]
) -> Iterator[tuple[str, str]]:
    """All backbones, each by the source that loads it."""
    reasons = []
    for first in ('student', 'teacher'):
        try:
            found = find_backbone(content, path, first)
        except CheckpointError as error:
            reasons.append(error)
            continue
        yield f'backbone, source={first!r}', _describe_backbone(found)
        for other in found.others:
            found = find_backbone(content, path, other)
            yield f'backbone, source={other!r}', _describe_backbone(found)
        return
    yield 'backbone', f'none ({reasons[0]})'


def _describe_backbone(found: FoundBackbone) -> str:
    text = f'{found.architecture or "of an unknown family"}, {found.origin}'
    if found.layout is not None:
        text += f', {found.layout.family} names of {found.layout.name}'
    return f'{text}, {len(found.state)} tensors at {found.place!r}'


def _classes(meta: Any) -> Sequence[Any]:
    """Names of classes, as mmcv 1.x and mmengine keep them."""
    if not isinstance(meta, Mapping):
        return ()
    stored = meta.get('dataset_meta')
    return meta.get('CLASSES') or (
        stored.get('classes') or () if isinstance(stored, Mapping) else ()
    )
