# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""A run of another length than the config's, its schedules with it."""

from collections.abc import Iterable
from typing import Any

from mmengine.config import Config
from mmengine.registry import HOOKS

from ..configs import scope_of
from .hooks.periodic_hook import PeriodicHook

_UNITS = {'max_epochs': 'epochs', 'max_iters': 'iterations'}
#: Of parameter schedulers: what counts epochs or iterations.
_LENGTHS = (
    'begin',
    'end',
    'T_max',
    'total_steps',
    'milestones',
    'step_size',
    'periods',
)


def set_run_length(
    cfg: Config,
    max_epochs: int | None = None,
    max_iters: int | None = None,
    options: Iterable[str] = (),
) -> None:
    """Make a run shorter or longer, in the unit of its config.

    All lengths of the parameter schedulers, warm-up included, are scaled by the same
    factor to whole epochs or iterations; of what a short run has no room for, nothing
    is left. Intervals of validation, checkpoints, logs and our hooks that would exceed
    the run become its length. The teacher's momentum follows the run by itself;
    schedules that a model counts by itself, such as ``temperature_epochs`` of the
    assignment head, stay.

    Args:
        cfg: The config, changed in place.
        max_epochs: New length of a run that counts epochs. None keeps it.
        max_iters: New length of a run that counts iterations. None keeps it.
        options: Paths of settings that were given beside it.

    Raises:
        ValueError: If both are given, one is not positive or not in the unit of the
            config, or one of the options sets what would be scaled.
    """
    if max_epochs is not None and max_iters is not None:
        raise ValueError(
            f'--max-epochs {max_epochs} and --max-iters {max_iters}: give one of them'
        )
    if max_epochs is not None:
        key, length = 'max_epochs', max_epochs
    elif max_iters is not None:
        key, length = 'max_iters', max_iters
    else:
        return
    flag = f'--{key.replace("_", "-")}'
    if length < 1:
        raise ValueError(f'{flag} must be at least 1, got {length}')
    for path in options:
        names = path.split('.')
        first, last = names[0], names[-1]
        scaled = first == 'param_scheduler' and (
            last in _LENGTHS or last.isdigit() or last == first
        )
        if scaled or path == f'train_cfg.{key}':
            raise ValueError(
                f'{flag} scales the schedule of the config, and --cfg-options {path} '
                'sets it; give one of them'
            )
    before, by_epoch = _length_before(cfg, key), key == 'max_epochs'
    cfg.train_cfg[key] = length
    schedulers: Any = cfg.get('param_scheduler') or []
    if hasattr(schedulers, 'keys'):
        schedulers = [schedulers]
    cfg.param_scheduler = [
        scheduler
        for scheduler in schedulers
        if _scale(scheduler, before, length, by_epoch)
    ]
    _shorten_intervals(cfg, length, by_epoch)


def _length_before(cfg: Config, key: str) -> int:
    train_cfg: Any = cfg.get('train_cfg') or {}
    if train_cfg.get(key):
        return train_cfg[key]
    flag = f'--{key.replace("_", "-")}'
    for other, unit in _UNITS.items():
        if train_cfg.get(other):
            raise ValueError(
                f'{flag}: the config counts {unit} (train_cfg.{other}='
                f'{train_cfg[other]}); give --{other.replace("_", "-")}'
            )
    raise ValueError(f'{flag}: the config has no train_cfg.{key} to scale')


def _scale(scheduler: Any, before: int, after: int, by_epoch: bool) -> bool:
    """Scale a scheduler in place; whether anything is left of it."""
    same_unit = scheduler.get('by_epoch', True) == by_epoch

    def boundary(value: int) -> int:
        # Up, so that a warm-up stays, but never to the whole run.
        scaled = -(-value * after // before)
        return min(scaled, after - 1) if same_unit and value < before else scaled

    begin, end = scheduler.get('begin', 0), scheduler.get('end')
    new_begin = boundary(begin)
    if 'begin' in scheduler:
        scheduler.begin = new_begin
    if end is not None:
        scheduler.end = boundary(end)
    for name in ('T_max', 'total_steps'):
        if scheduler.get(name):
            reached = boundary(begin + scheduler[name])
            scheduler[name] = max(1, reached - new_begin)
    for name in ('milestones', 'periods'):
        if name in scheduler:
            scheduler[name] = [_rounded(n, before, after) for n in scheduler[name]]
    if 'step_size' in scheduler:
        scheduler.step_size = _rounded(scheduler.step_size, before, after)
    if end is None:
        return True
    # The first of mmengine's steps is where a schedule starts, so that one alone would
    # leave a warm-up there for good. An epoch counted in iterations has more.
    steps = 1 if scheduler.get('convert_to_iter_based') else 2
    return scheduler.end - new_begin >= steps


def _rounded(value: int, before: int, after: int) -> int:
    return max(1, round(value * after / before))


def _shorten_intervals(cfg: Config, length: int, by_epoch: bool) -> None:
    parts: list[Any] = []
    hooks: Any = cfg.get('default_hooks') or {}
    if 'val_interval' in cfg.train_cfg:
        cfg.train_cfg.val_interval = min(cfg.train_cfg.val_interval, length)
    if hooks.get('checkpoint') and hooks.checkpoint.get('by_epoch', True) == by_epoch:
        parts.append(hooks.checkpoint)
    if hooks.get('logger') and not by_epoch:
        parts.append(hooks.logger)
    with scope_of(cfg):
        for hook in cfg.get('custom_hooks') or ():
            kind: Any = HOOKS.get(hook['type'])
            if (
                isinstance(kind, type)
                and issubclass(kind, PeriodicHook)
                and hook.get('by_epoch', True) == by_epoch
            ):
                parts.append(hook)
    for part in parts:
        # One of another type is refused when the hook is built.
        if isinstance(part.get('interval'), int):
            part['interval'] = min(part['interval'], length)
