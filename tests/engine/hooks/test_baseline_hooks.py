# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace

import pytest
import torch

from cmid_mm.engine.hooks import FixedPredictorRateHook


def test_predictor_keeps_its_first_rate():
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [dict(params=[parameters[0]], fix_lr=True), dict(params=[parameters[1]])]
    optimizer = torch.optim.SGD(groups, lr=0.2)
    for group in optimizer.param_groups:
        group.update(initial_lr=0.2, lr=0.1)
    runner = SimpleNamespace(optim_wrapper=optimizer)
    hook = FixedPredictorRateHook()
    hook.before_train(runner)
    hook.before_train_iter(runner, 0)
    assert [group['lr'] for group in optimizer.param_groups] == [0.2, 0.1]


def test_hook_without_a_marked_parameter_is_refused():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2)
    with pytest.raises(ValueError, match='no parameter is marked'):
        FixedPredictorRateHook().before_train(SimpleNamespace(optim_wrapper=optimizer))
