# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Values of numeric settings that make no sense; of all settings with ``-m slow``."""

import random

import pytest

from tests.wrong_values import WRONG, check, numeric_settings, training


@pytest.fixture(scope='module')
def cfg(tmp_path_factory):
    return training(tmp_path_factory.mktemp('values'))


def test_values_of_some_settings(cfg):
    settings = numeric_settings(cfg)
    assert len(settings) > 100
    counts = check(cfg, random.Random(0).sample(settings, 20), 2)
    assert min(counts.values()) > 5


@pytest.mark.slow
def test_values_of_all_settings(cfg, capsys):
    settings = numeric_settings(cfg)
    counts = check(cfg, settings, len(WRONG))
    with capsys.disabled():
        print(f'\n{len(settings)} settings: {counts}')
