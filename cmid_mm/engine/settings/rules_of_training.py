# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Rules of settings, of what trains and what watches it: see :mod:`.rules`."""

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.registry import HOOKS, OPTIMIZERS

from ...configs import is_type, type_name
from .places import default_of, hooks_of

#: Optimisers whose steps have the length of the rate whatever the gradient is.
_ADAPTIVE = ('Adam', 'Adan', 'AdamW', 'BlockwiseAdan', 'Lamb', 'Lion', 'NAdam', 'RAdam')
#: Rates that no training stands: a step of 1 exceeds any weight there is; the largest
#: rates in use otherwise are those of linear probes, of some tens.
_MOST_ADAPTIVE_RATE, _MOST_RATE = 1, 1000


def learning_rate(cfg: Config) -> Iterator[str]:
    """Rates that no training stands."""
    optimizer = _optimizer_of(cfg)
    rate = optimizer.get('lr')
    adaptive = type_name(optimizer) in _ADAPTIVE
    most = _MOST_ADAPTIVE_RATE if adaptive else _MOST_RATE
    if adaptive and 'lr' in optimizer and rate is None:
        yield (
            f'optim_wrapper.optimizer.lr=None: {type_name(optimizer)} expects a number;'
            ' set one, or leave lr out'
        )
    if isinstance(rate, int | float) and rate > most:
        why = ', which moves each weight by about the rate' if adaptive else ''
        yield (
            f'optim_wrapper.optimizer.lr={rate!r}: expected at most {most} of '
            f'{type_name(optimizer) or "an optimizer"}{why}; set lr lower'
        )


def betas(cfg: Config) -> Iterator[str]:
    """As many as the optimiser has averages."""
    optimizer = _optimizer_of(cfg)
    usual = default_of(optimizer, 'betas', OPTIMIZERS)
    found = optimizer.get('betas', usual)
    if isinstance(usual, tuple) and len(found) != len(usual):
        yield (
            f'optim_wrapper.optimizer.betas={found!r}: {type_name(optimizer)} expects '
            f'{len(usual)} numbers, such as its default {usual}'
        )


def monitored(cfg: Config) -> Iterator[str]:
    """Metrics that something waits for, and validations that yield them."""
    train_cfg: Any = cfg.get('train_cfg')
    if not train_cfg:
        return
    length = train_cfg.get('max_epochs') or train_cfg.get('max_iters')
    begin = train_cfg.get('val_begin', 1)
    if not cfg.get('val_dataloader') or not cfg.get('val_evaluator'):
        problem = 'the config has no val_dataloader and val_evaluator'
        advice = 'give them (metrics of evaluation hooks do not count)'
    elif isinstance(length, int) and begin > length:
        problem = f'train_cfg.val_begin={begin} is behind the end of the run, {length}'
        advice = 'set it lower'
    else:
        return
    for path, hook in hooks_of(cfg):
        kind = hook.get('type')
        if is_type(HOOKS, kind, CheckpointHook) and hook.get('save_best'):
            setting, otherwise = f'save_best={hook.save_best!r}', 'save_best=None'
        elif is_type(HOOKS, kind, EarlyStoppingHook):
            setting, otherwise = f'monitor={hook.get("monitor")!r}', 'remove the hook'
        else:
            continue
        yield (
            f'{path}.{setting}, but {problem}: no metric would ever come; {advice}, or '
            f'{otherwise}'
        )


def hooks_in_epochs(cfg: Config) -> Iterator[str]:
    """Hooks that count epochs of a run that has only one."""
    iterations = (cfg.get('train_cfg') or {}).get('max_iters')
    if not iterations:
        return
    for path, hook in hooks_of(cfg):
        interval = hook.get('interval', default_of(hook, 'interval', HOOKS))
        by_epoch = hook.get('by_epoch', default_of(hook, 'by_epoch', HOOKS))
        if by_epoch is True and isinstance(interval, int) and interval > 0:
            yield (
                f'{path} ({type_name(hook)}) counts epochs, but train_cfg.max_iters='
                f'{iterations}: nothing would happen before the end; set '
                f'{path}.by_epoch=False, and its interval in iterations'
            )


def _optimizer_of(cfg: Config) -> Any:
    return (cfg.get('optim_wrapper') or {}).get('optimizer') or {}
