# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Values of settings that mmengine and torch take unseen: checked before a run."""

import math
import re
from typing import Any, NamedTuple

from mmengine.config import Config

from ..explaining import nodes_of


class Range(NamedTuple):
    """What a setting may be.

    Attributes:
        what: A number of which kind.
        low: Least value.
        is_open: Whether it must be above ``low``.
        may_be_none: Whether None is taken, too.
    """

    what: type
    low: float
    is_open: bool = False
    may_be_none: bool = True

    def __str__(self) -> str:
        kind = 'a whole number' if self.what is int else 'a number'
        bound = 'above' if self.is_open else 'of at least'
        return f'{kind} {bound} {self.low:g}'

    def has(self, value: Any) -> bool:
        """Whether a value is within it."""
        if value is None:
            return self.may_be_none
        kinds = int if self.what is int else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds):
            return False
        if not math.isfinite(value):
            return False
        return value > self.low if self.is_open else value >= self.low


_COUNT = Range(int, 1)
_INDEX = Range(int, 0)
_SHARE = Range(float, 0)
_POSITIVE = Range(float, 0, is_open=True)

#: By the path of the setting, ``*`` being anything; classes of this package check their
#: own.
_RANGES = {
    re.compile(path.replace('.', r'\.').replace('*', '.*')): found
    for path, found in {
        'randomness.seed': _INDEX,
        'optim_wrapper.accumulative_counts': _COUNT._replace(may_be_none=False),
        'optim_wrapper.optimizer.lr': _SHARE,
        'optim_wrapper.optimizer.weight_decay': _SHARE,
        'optim_wrapper.clip_grad.max_norm': _POSITIVE,
        'auto_scale_lr.base_batch_size': _COUNT,
        '*_dataloader.num_workers': _INDEX._replace(may_be_none=False),
        '*_dataloader.batch_size': _COUNT,
        '*_dataloader.prefetch_factor': _COUNT,
        'param_scheduler*.begin': _INDEX,
        'param_scheduler*.end': _COUNT,
        'param_scheduler*.T_max': _COUNT,
        'param_scheduler*.total_steps': _COUNT,
        'param_scheduler*.step_size': _COUNT,
        'param_scheduler*.start_factor': _POSITIVE,
        'param_scheduler*.end_factor': _SHARE,
        'param_scheduler*.gamma': _POSITIVE,
        'param_scheduler*.eta_min': _SHARE,
        'param_scheduler*.eta_min_ratio': _SHARE,
        'param_scheduler*.power': _POSITIVE,
    }.items()
}
_INDICES = re.compile(r'\w+_dataloader\.(.+\.)?dataset\.indices')


def check_settings(cfg: Config) -> None:
    """Refuse values that would fail late, or unseen, in other packages.

    Args:
        cfg: The config of a run.

    Raises:
        ValueError: If a value is not of the kind or within the range that is sensible;
            names its key.
    """
    for place, node in nodes_of(cfg):
        for key, value in node.items():
            _check(f'{place}.{key}', value)


def _check(path: str, value: Any) -> None:
    for pattern, expected in _RANGES.items():
        if pattern.fullmatch(path) and not expected.has(value):
            raise ValueError(f'{path}={value!r}: expected {expected}')
    if _INDICES.fullmatch(path) and not _are_indices(value):
        raise ValueError(
            f'{path}={value!r}: expected how many images to take, other than 0 '
            '(below 0: of the last), or a list of their numbers'
        )


def _are_indices(value: Any) -> bool:
    if value is None:
        return True
    if isinstance(value, list | tuple):
        return len(value) > 0 and all(_is_whole(index) for index in value)
    return _is_whole(value) and value != 0


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
