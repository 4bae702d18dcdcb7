# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Checking the settings of a run before any part of it is built.

Three questions, in this order: do the parts that are of this package know their
settings, and are these of the right type (:mod:`.parts`); are numbers of other
packages within their range (:mod:`.ranges`); does one setting contradict another
(:mod:`.rules`). Of the model, once it is built: do its parts take what its backbone
gives (:mod:`.widths`). The commands ask, and a comparison of each of its trainings.
Once cmid_mm is imported so do every ``Runner.from_cfg`` and ``Runner.train``: the
first of what any run builds, the second of what only a training does, so that a
checkpoint can be tested whose training would be refused.
"""

import functools
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner
from torch import nn

from .parts import faults_of_parts
from .ranges import faults_of_ranges
from .rules import faults_of_rules
from .widths import faults_of_widths

__all__ = ['check_settings', 'faults_of_settings']

#: What a run reads only to train.
_OF_TRAINING = (
    *('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler'),
    'auto_scale_lr',
)


def faults_of_settings(cfg: Config) -> Iterator[str]:
    """What is wrong with the settings of a run.

    Args:
        cfg: The config.

    Yields:
        Texts that name the keys. A question is asked only where those before it found
        nothing.
    """
    for find in (faults_of_parts, faults_of_ranges, faults_of_rules):
        faults = list(find(cfg))
        yield from faults
        if faults:
            return


def check_settings(cfg: Config, trains: bool = True) -> None:
    """Refuse settings that would fail late, or unseen.

    Args:
        cfg: The config of a run.
        trains: Whether the run trains; otherwise settings of the training may be
            anything.

    Raises:
        ValueError: With the first fault; names its key.
    """
    if not trains:
        cfg = Config({key: cfg[key] for key in cfg if key not in _OF_TRAINING})
    for fault in faults_of_settings(cfg):
        raise ValueError(fault)


# Whoever starts a run from a config, a notebook or a script of another package, is told
# what the commands of this one tell.
_original_from_cfg = Runner.from_cfg.__func__
_original_train = Runner.train


@functools.wraps(_original_from_cfg)
def _from_cfg(cls: type[Runner], cfg: Any) -> Runner:
    cfg_to_check = cfg if isinstance(cfg, Config) else Config(dict(cfg))
    check_settings(cfg_to_check, trains=False)
    runner = _original_from_cfg(cls, cfg)
    for fault in faults_of_widths(runner.model, cfg_to_check):
        raise ValueError(fault)
    return runner


@functools.wraps(_original_train)
def _train(self: Runner) -> nn.Module:
    check_settings(self.cfg)
    return _original_train(self)


Runner.from_cfg = classmethod(_from_cfg)
Runner.train = _train
