# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch

from cmid_mm.evaluation.collapse import effective_rank, spread


def along_axes(*lengths: float) -> torch.Tensor:
    """Features of mean zero, a pair of opposite ones along each axis."""
    axes = torch.diag(torch.tensor(lengths))
    return torch.cat((axes, -axes)) + 5.0


@pytest.mark.parametrize(
    ('features', 'expected'),
    [
        (along_axes(1, 1, 1), 3),
        (along_axes(1, 0, 0), 1),
        # Shares 3/4 and 1/4: exp(-3/4 ln 3/4 - 1/4 ln 1/4).
        (along_axes(3, 1, 0), math.exp(0.75 * math.log(4 / 3) + 0.25 * math.log(4))),
        (torch.full((6, 4), 0.1), 0),
    ],
)
def test_effective_rank(features, expected):
    assert effective_rank(features) == pytest.approx(expected, rel=1e-4)


def test_spread_is_1_in_all_directions_and_0_in_one_point():
    features = torch.randn(4000, 32)
    assert spread(features) == pytest.approx(1, abs=0.02)
    assert spread(features[:1].expand(9, -1)) == 0
    # Lengths do not count.
    scaled = features * torch.rand(4000, 1)
    assert spread(scaled) == pytest.approx(spread(features), rel=1e-4)
