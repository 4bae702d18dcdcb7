# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import random

import numpy as np
import torch
from torch import nn

from cmid_mm.isolation import buffers_unchanged, modes_unchanged, rng_unchanged


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_random_numbers_go_on_as_if_nothing_was_drawn():
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    expected = draw()

    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    with rng_unchanged():
        inside = draw()
        torch.manual_seed(5)
    assert inside == expected
    assert draw() == expected


def test_random_state_is_restored_after_an_error():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    try:
        with rng_unchanged():
            torch.rand(3)
            raise KeyError
    except KeyError:
        pass
    assert torch.equal(torch.get_rng_state(), state)


def test_modes_of_single_modules_survive():
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm1d(2), nn.ReLU()))
    model.train()
    model[1][0].eval()
    with modes_unchanged(model):
        model.eval()
        assert not model[0].training
    assert model.training and model[0].training and model[1].training
    assert not model[1][0].training


def test_buffers_keep_values_and_identity():
    model = nn.BatchNorm1d(2)
    running_mean = model.running_mean
    with buffers_unchanged(model):
        model(torch.tensor([[1.0, 2.0], [3.0, 5.0]]))
        assert model.num_batches_tracked == 1
        assert running_mean.tolist() != [0, 0]
    assert model.num_batches_tracked == 0
    assert model.running_mean is running_mean
    assert running_mean.tolist() == [0, 0]
    assert model.running_var.tolist() == [1, 1]
