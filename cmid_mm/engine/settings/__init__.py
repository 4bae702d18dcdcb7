# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Checking the settings of a run before any part of it is built.

Three questions, in this order: do the parts that are of this package know their
settings, and are these of the right type (:mod:`.parts`); are numbers of other
packages within their range (:mod:`.ranges`); does one setting contradict another
(:mod:`.rules`). The commands ask them, a comparison asks them of each of its trainings,
and so does every ``Runner.from_cfg`` once cmid_mm is imported.
"""

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from .parts import faults_of_parts
from .ranges import faults_of_ranges
from .rules import faults_of_rules

__all__ = ['check_settings', 'faults_of_settings']


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


def check_settings(cfg: Config) -> None:
    """Refuse settings that would fail late, or unseen.

    Args:
        cfg: The config of a run.

    Raises:
        ValueError: With the first fault; names its key.
    """
    for fault in faults_of_settings(cfg):
        raise ValueError(fault)


_original_from_cfg = Runner.from_cfg.__func__


def _from_cfg(cls: type[Runner], cfg: Any) -> Runner:
    check_settings(cfg if isinstance(cfg, Config) else Config(dict(cfg)))
    return _original_from_cfg(cls, cfg)


# Whoever starts a run from a config, a notebook or a script of another package, is told
# what the commands of this one tell.
_from_cfg.__doc__ = Runner.from_cfg.__doc__
Runner.from_cfg = classmethod(_from_cfg)
