# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import torch
from mmpretrain.models.heads import LatentCrossCorrelationHead

from cmid_mm.models.heads import CrossCorrelationHead

ARGS = dict(in_channels=64, loss=dict(type='CrossCorrelationLoss'))


def test_values_are_mmpretrains():
    x, y = torch.randn(2, 16, 64)
    expected = LatentCrossCorrelationHead(**ARGS).loss(x, y)
    assert torch.equal(CrossCorrelationHead(**ARGS).loss(x, y), expected)


def test_float32_under_autocast():
    x, y = torch.randn(2, 16, 64).bfloat16()
    expected = CrossCorrelationHead(**ARGS).loss(x.float(), y.float())
    with torch.autocast('cpu', torch.bfloat16):
        mine = CrossCorrelationHead(**ARGS).loss(x, y)
        theirs = LatentCrossCorrelationHead(**ARGS).loss(x, y)
    assert torch.equal(mine, expected)
    # What the head is there for.
    assert (theirs.float() - expected).abs() > 1e-3 * expected
