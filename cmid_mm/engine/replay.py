# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Repeating a skipped iteration, to see where its numbers ceased to be finite."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import OPTIM_WRAPPERS, init_default_scope
from torch import Tensor, nn

from ..checkpoints.fitting import load_weights
from ..configs import build_model, is_type, load_config
from .batch_files import decode, read_batch, set_clock
from .optimizers import BFloat16OptimWrapper


@dataclass
class Replay:
    """What a repeated iteration came to.

    Attributes:
        content: What the file of the batch says of the iteration; ``'losses'`` as they
            were in the run.
        losses: Losses and statistics by name.
        first: What was the first not to be finite among ``'input'``, ``'feature'``,
            ``'loss'`` and ``'gradient'``; those without a fault are left out.
        parameters: Names of the parameters whose gradients are not finite.
    """

    content: dict[str, Any]
    losses: dict[str, float] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)
    parameters: list[str] = field(default_factory=list)

    def note(self, kind: str, name: str, values: Any) -> None:
        """Look at tensors, and note a kind of fault that has not been noted before."""
        if kind in self.first:
            return
        for place, tensor in tensors_in(values, name):
            faults = (~tensor.isfinite()).nonzero()
            if len(faults):
                at = (
                    f'[{", ".join(map(str, faults[0].tolist()))}]'
                    if tensor.ndim
                    else ''
                )
                self.first[kind] = (
                    f'{place}{at}, {len(faults)} of {tensor.numel()} numbers'
                )
                return


def replay_batch(
    path: str | Path, config: str | None = None, device: str = 'cpu'
) -> Replay:
    """Repeat the iteration of a file that a run saved when it skipped the iteration.

    Args:
        path: The file.
        config: The config of the run. None for the one in its work folder.
        device: Where to compute. On another kind of device than the run's, random
            choices of the network differ.

    Raises:
        CheckpointError: If the file is no such batch, or does not fit the config.
        FileNotFoundError: If there is no config.
    """
    path = Path(path)
    content = read_batch(path)
    file = config or str(path.resolve().parents[1] / Path(content['config']).name)
    if not config and not Path(file).is_file():
        raise FileNotFoundError(
            f'{file}, the config of the run, is not there; name it with --config'
        )
    cfg = load_config(file)
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    model = revert_sync_batchnorm(build_model(cfg))
    order_alike(model, list(content['state_dict']))
    load_weights(model, path)
    model.to(device).train()
    for name, value in content['numbers'].items():
        place, _, attribute = name.rpartition('.')
        setattr(model.get_submodule(place), attribute, value)
    replay = Replay(content)
    batch = decode(content['batch'])
    replay.note('input', 'batch', batch)
    set_clock(content['clock'])
    content['random_state'].restore()
    with watched(model, replay):
        with precision(cfg, device):
            losses = model._run_forward(model.data_preprocessor(batch, True), 'loss')
        total, log = model.parse_losses(losses)
        log = {name: value.detach() for name, value in log.items()}
        replay.losses = {name: float(value) for name, value in log.items()}
        # The first is the sum of the others.
        parts = {name: log[name] for name in list(log)[1:] if 'loss' in name}
        replay.note('loss', '', parts or log)
        (total * content['loss_scale']).backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            replay.parameters.append(name)
            replay.note('gradient', name, parameter.grad)  # if no feature's was
    return replay


def order_alike(model: nn.Module, names: list[str]) -> None:
    """Put parts that are called by name in the order of a run.

    The config in a work folder is sorted. In another order random numbers and sums are
    others.

    Args:
        model: Changed in place.
        names: Those of the run's weights.
    """
    for place, module in model.named_modules():
        if isinstance(module, nn.ModuleDict):
            first = f'{place}.' if place else ''
            found = [name[len(first) :] for name in names if name.startswith(first)]
            order = dict.fromkeys(name.partition('.')[0] for name in found)
            parts = {part: module.pop(part) for part in list(module)}
            module.update({part: parts.pop(part) for part in order if part in parts})
            module.update(parts)


def precision(cfg: Config, device: str) -> torch.autocast:
    """The context of the forward pass that the optimiser wrapper of a config has."""
    wrapper: Any = cfg.get('optim_wrapper') or {}
    kind = torch.device(device).type
    if is_type(OPTIM_WRAPPERS, wrapper.get('type'), BFloat16OptimWrapper):
        return torch.autocast(kind, torch.bfloat16)
    if str(wrapper.get('type')).endswith('AmpOptimWrapper'):
        name = wrapper.get('dtype') or 'float16'
        return torch.autocast(kind, getattr(torch, name))
    return torch.autocast(kind, enabled=False)


@contextmanager
def watched(model: nn.Module, replay: Replay) -> Iterator[None]:
    """Note the first features and gradients inside a model that are not finite."""

    def hook(name: str) -> Any:
        def look(module: nn.Module, inputs: Any, outputs: Any) -> None:
            replay.note('feature', name, outputs)
            for place, tensor in tensors_in(outputs):
                if tensor.requires_grad:
                    at = f'{name}{place}'
                    tensor.register_hook(
                        lambda g, at=at: replay.note('gradient', at, g)
                    )

        return look

    inside = [
        module.register_forward_hook(hook(name))
        for name, module in model.named_modules()
        if name and not name.startswith('data_preprocessor')
    ]
    try:
        yield
    finally:
        for handle in inside:
            handle.remove()


def tensors_in(value: Any, place: str = '') -> Iterator[tuple[str, Tensor]]:
    """Tensors of real numbers in containers and samples, with where they are."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield place, value
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from tensors_in(item, f'{place}[{index}]')
    elif isinstance(value, Mapping) or hasattr(value, 'metainfo_items'):
        for key, item in value.items():
            yield from tensors_in(item, f'{place}.{key}' if place else str(key))
    elif isinstance(getattr(value, 'tensor', None), Tensor):  # boxes
        yield from tensors_in(value.tensor, place)
