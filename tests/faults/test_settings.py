# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Settings that make no sense."""

import copy
from types import SimpleNamespace

from mmengine.runner import Runner

from tests.end_to_end.pretraining import toy_run
from tests.engine.settings.test_rules import FAULTS
from tests.faults.rows import fault
from tests.wrong_values import check, numeric_settings, training


@fault(
    'Settings',
    'a number outside its range, of another type, NaN or infinite, in each numeric '
    'setting of a pre-training',
    'refused by its name before the first step, or trains to finite numbers',
)
def test_numbers(tmp_path, record_property):
    cfg = training(tmp_path)
    counts = check(cfg, numeric_settings(cfg), 5)
    record_property('tries', sum(counts.values()))


@fault(
    'Settings',
    'misspelt keys, and settings that contradict each other, in a config of a notebook',
    'refused by their names before anything of the training is built',
)
def test_contradictions(tmp_path, record_property):
    for changes, message in FAULTS:
        cfg = toy_run(tmp_path / 'images', tmp_path / 'work')
        cfg.merge_from_dict(copy.deepcopy(changes))
        try:
            # Not built: of some models only what contradicts is there.
            Runner.train(SimpleNamespace(cfg=cfg))
        except ValueError as error:
            assert str(error).startswith(message)
        else:
            raise AssertionError(message)
    record_property('tries', len(FAULTS))
