# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Files of a batch and all that its training iteration depended on.

They hold numbers and names alone: whoever reads one runs no code from it.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import MessageHub
from mmengine.runner import Runner, weights_to_cpu
from mmengine.structures import BaseDataElement
from mmpretrain.utils import get_ori_model
from torch import Tensor

from ..checkpoints import CheckpointError, read_checkpoint
from ..files import whole_file
from ..isolation import RandomState
from .step_guard import StepGuard, numbers_of

#: Marks a mapping that stands for an object.
_KIND = '__kind__'
#: What schedules within models read from the message hub.
_CLOCK = ('epoch', 'iter', 'max_epochs', 'max_iters')


def save_batch(
    path: Path,
    runner: Runner,
    wrapper: StepGuard,
    data_batch: Any,
    losses: Mapping[str, float],
    names: list[str],
) -> None:
    """Save a batch after an iteration that left no trace in the model.

    Args:
        path: The file.
        runner: The runner.
        wrapper: Its optimiser wrapper, which knows the random state.
        data_batch: As the data loader gave it.
        losses: What the iteration logged.
        names: Files of the images.

    Raises:
        OSError: If it cannot be written; then no part of it is left.
    """
    scaler = getattr(wrapper, 'loss_scaler', None)
    info = runner.message_hub.runtime_info
    model = get_ori_model(runner.model)
    numbers = numbers_of(model)
    content = {
        'config': Path(runner.cfg.filename or f'{runner.timestamp}.py').name,
        'iteration': runner.iter + 1,
        'sick': list(wrapper.sick),
        'losses': dict(losses),
        'file_names': names,
        'random_state': encode(vars(wrapper.random_state)),
        'loss_scale': scaler.get_scale() if scaler is not None else 1.0,
        'clock': {name: info[name] for name in _CLOCK if name in info},
        'batch': encode(data_batch),
        'state_dict': weights_to_cpu(model.state_dict()),
        # Those alone that are not what the config says.
        'numbers': {
            name: value
            for name, value in numbers.items()
            if value != wrapper.numbers.get(name)
        },
    }
    with whole_file(path) as part:
        torch.save(content, part)


def read_batch(path: Path) -> dict[str, Any]:
    """Read what :func:`save_batch` wrote, without running code from it.

    The batch itself remains encoded: what it consists of may be known only when the
    packages of the config are imported.

    Raises:
        CheckpointError: If it is no such file.
    """
    content = read_checkpoint(path)
    expected = {'batch', 'random_state', 'state_dict', 'config', 'numbers'}
    if not expected <= content.keys():
        raise CheckpointError(
            f'{path} is no batch of a skipped iteration; expected a file of '
            'WORK_DIR/sick_batches'
        )
    content['random_state'] = RandomState(**decode(content['random_state']))
    return content


def set_clock(clock: Mapping[str, int]) -> None:
    """Make the time of the run that of a batch, for schedules within models."""
    for name, value in clock.items():
        MessageHub.get_current_instance().update_info(name, value)


def encode(value: Any) -> Any:
    """A batch as containers, tensors, numbers and text."""
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in 'biuf':
        wide = np.float64 if value.dtype.kind == 'f' else np.int64
        numbers = torch.from_numpy(value.astype(wide))
        return {_KIND: 'array', 'values': numbers, 'dtype': value.dtype.str}
    if isinstance(value, Mapping):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(map(encode, value))
    if isinstance(value, list):
        return list(map(encode, value))
    if isinstance(value, BaseDataElement):
        return {
            _KIND: 'element',
            'class': _name(type(value)),
            'meta': encode(dict(value.metainfo_items())),
            'fields': encode(dict(value.items())),
        }
    if hasattr(value, 'box_dim') and isinstance(value.tensor, Tensor):
        from mmdet.structures.bbox import get_box_type

        return {
            _KIND: 'boxes',
            'type': get_box_type(type(value))[0],
            'values': encode(value.tensor),
        }
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def decode(value: Any) -> Any:
    """What :func:`encode` was given; objects of unknown kinds are text."""
    if isinstance(value, list | tuple):
        return type(value)(map(decode, value))
    if not isinstance(value, Mapping):
        return value
    kind = value.get(_KIND)
    if kind == 'array':
        return value['values'].numpy().astype(value['dtype'])
    if kind == 'boxes':
        from mmdet.structures.bbox import get_box_type

        return get_box_type(value['type'])[1](value['values'])
    if kind == 'element':
        classes = {_name(known): known for known in _subclasses(BaseDataElement)}
        element = classes[value['class']](metainfo=decode(value['meta']))
        for name, field in value['fields'].items():
            setattr(element, name, decode(field))
        return element
    return {key: decode(item) for key, item in value.items()}


def _name(kind: type) -> str:
    return f'{kind.__module__}.{kind.__qualname__}'


def _subclasses(kind: type) -> Iterator[type]:
    yield kind
    derived: type
    for derived in kind.__subclasses__():
        yield from _subclasses(derived)


def file_names(data_batch: Any, dataset: Any) -> list[str]:
    """Paths of the images of a batch, as far as the batch or its data set knows them.

    Args:
        data_batch: As the data loader gave it.
        dataset: The data set it came from.
    """
    if not isinstance(data_batch, Mapping):
        return []
    samples = data_batch.get('data_samples')
    if isinstance(samples, list | tuple):
        names = (getattr(sample, 'img_path', None) for sample in samples)
        return [
            ' and '.join(map(str, name))
            if isinstance(name, list | tuple)
            else str(name)
            for name in names
        ]
    if 'index' in data_batch and hasattr(dataset, 'get_data_info'):
        indices = data_batch['index'].tolist()
        return [str(dataset.get_data_info(index)['img_path']) for index in indices]
    return []
