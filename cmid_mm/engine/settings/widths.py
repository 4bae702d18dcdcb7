# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Feature maps that necks and heads are set for, and those that they are given."""

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS
from mmpretrain.models import BaseClassifier
from mmpretrain.utils import get_ori_model
from torch import Tensor, nn

from ...building import BuildStep, accepted_names
from ...models.measuring import black_image, input_bands, run_unchanged
from .places import model_of, parts_of

#: Side of the image that most backbones take, however large theirs are.
_SIDE = 128
#: Parts behind the neck, of all kinds of models but classifiers.
_HEADS = ('decode_head', 'auxiliary_head', 'rpn_head', 'bbox_head')


def inputs_of_heads(cfg: Config) -> Iterator[str]:
    """Widths and indices of the maps that a head of mmseg takes: as many of each."""
    for name in ('decode_head', 'auxiliary_head'):
        for path, head in parts_of(model_of(cfg).get(name), f'model.{name}'):
            widths, index = head.get('in_channels'), head.get('in_index', -1)
            if 'in_index' not in accepted_names(BuildStep(MODELS, head).type):
                continue
            if widths is not None and _count(widths) != _count(index):
                yield (
                    f'{path}.in_channels={widths!r}, but {path}.in_index={index!r}: '
                    'expected a number each, or lists of the same length'
                )


def faults_of_widths(model: nn.Module, cfg: Config) -> Iterator[str]:
    """Necks and heads that do not take what the backbone gives.

    The parts themselves say so: the backbone is given a black image, and a part what it
    returns. Nothing is said of models that are not made of such parts.

    Args:
        model: As it was built.
        cfg: The config of the run.

    Yields:
        Texts that name the key.
    """
    model, settings = get_ori_model(model), model_of(cfg)
    backbone, neck = (getattr(model, name, None) for name in ('backbone', 'neck'))
    if not isinstance(settings, dict) or not isinstance(backbone, nn.Module):
        return
    if input_bands(backbone) is None:
        return
    modules = dict(model.named_modules())
    outputs = None
    for side in (_SIDE, None):
        if outputs is None:
            outputs = _outputs(backbone, black_image(backbone, side))
    maps = _Maps(backbone, outputs)
    if isinstance(neck, nn.Module):
        for path, part in [*parts_of(settings.get('neck'), 'neck')][:1]:
            for key in ('in_channels', 'embed_dim'):  # mmseg's pyramid has the latter
                yield from maps.faults_of(modules.get(path), path, part, key)
        maps = _Maps(neck, _outputs(neck, maps.outputs))
    # Other models may have a head that is set for the bands of images.
    names = ('head',) if isinstance(model, BaseClassifier) else _HEADS
    parts = {name: settings.get(name) for name in names}
    head = settings.get('head')
    parts['head.predictor'] = isinstance(head, dict) and head.get('predictor')
    for name, found in parts.items():
        for path, part in parts_of(found, name):
            yield from maps.faults_of(modules.get(path), path, part)
    yield from _faults_of_regions(settings.get('roi_head') or {}, maps)


class _Maps:
    """Feature maps, or vectors, that a part returns; none if it is of another kind."""

    def __init__(self, giver: nn.Module, outputs: Any) -> None:
        self.giver = type(giver).__name__
        self.outputs = outputs
        listed = [outputs] if isinstance(outputs, Tensor) else outputs
        self.widths: list[int] = []
        if isinstance(listed, list | tuple) and all(map(_has_width, listed)):
            self.widths = [m.shape[-1 if m.ndim == 3 else 1] for m in listed]

    def faults_of(
        self, module: Any, path: str, part: Any, key: str = 'in_channels'
    ) -> Iterator[str]:
        """Whether a part takes them."""
        wanted, place = part.get(key), f'model.{path}'
        if module is None or wanted is None or not self.widths:
            return
        fault, count = None, len(self.widths)
        index = part.get('in_index', -1)
        if isinstance(wanted, list | tuple) and 'in_index' not in part:
            index = list(range(count))
        indices = [*index] if isinstance(index, list | tuple) else [index]
        if any(not -count <= i < count for i in indices):
            fault = (
                f'{place}.in_index={index!r}, but {self.giver} gives {count} map(s): '
                f'expected {-count} to {count - 1}'
            )
        else:
            found = [self.widths[i] for i in indices]
            if found != ([*wanted] if isinstance(wanted, list | tuple) else [wanted]):
                found = found if isinstance(index, list | tuple) else found[0]
                fault = (
                    f'{place}.{key}={wanted!r}, but what it takes of {self.giver} has '
                    f'{found} channels; set {place}.{key}={found}'
                )
        # Some take maps in another order.
        if fault and _outputs(module, self.outputs) is None:
            yield fault


def _faults_of_regions(head: Any, maps: _Maps) -> Iterator[str]:
    """What the second stage of a detector takes out of the maps."""
    if not maps.widths or head.get('shared_head'):
        return
    for name, key in (
        ('bbox_roi_extractor', 'out_channels'),
        ('bbox_head', 'in_channels'),
    ):
        for path, part in parts_of(head.get(name), f'model.roi_head.{name}'):
            wanted = part.get(key)
            if isinstance(wanted, int) and wanted not in maps.widths:
                yield (
                    f'{path}.{key}={wanted}, but the maps of {maps.giver} have '
                    f'{maps.widths[0]} channels; set {path}.{key}={maps.widths[0]}'
                )


def _has_width(output: Any) -> bool:
    return (
        isinstance(output, Tensor)
        and output.is_floating_point()
        and output.ndim in (2, 3, 4)
    )


def _outputs(module: nn.Module, inputs: Any) -> Any:
    """What a module returns; None if it takes something else."""
    try:
        return run_unchanged(module, inputs)
    except Exception:  # of any kind, as what the module is
        return None


def _count(value: Any) -> int | None:
    return len(value) if isinstance(value, list | tuple) else None
