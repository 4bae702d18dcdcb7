# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch
import torch.nn.functional as F

from cmid_mm.models.heads import PairedViews, SpreadHead, koleo


def pair_of(*student):
    nothing = (torch.zeros(1), torch.zeros(1))
    return PairedViews(nothing, nothing, nothing, student, None)


def on_a_circle(*degrees):
    angles = torch.tensor(degrees).deg2rad()
    return torch.stack((angles.cos(), angles.sin()), 1)


def test_distances_to_the_nearest_by_hand():
    found = koleo(on_a_circle(0.0, 60.0, 180.0))
    # The first two are 1 apart; the third's nearest is the second, 120 degrees off.
    expected = -(math.log(1) + math.log(1) + math.log(math.sqrt(3))) / 3
    torch.testing.assert_close(found, torch.tensor(expected))


def test_descent_spreads_vectors():
    angles = torch.tensor([0.0, 5.0, 9.0], requires_grad=True)
    optimizer = torch.optim.SGD([angles], lr=200.0)
    for _ in range(400):
        turned = angles.deg2rad()
        loss = koleo(torch.stack((turned.cos(), turned.sin()), 1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    gaps = angles.detach().remainder(360).sort().values
    gaps = (gaps.roll(-1) - gaps).remainder(360)
    assert gaps.min() > 90


def test_the_nearest_is_found_in_half_precision_too():
    torch.manual_seed(0)
    vectors = F.normalize(1 + 0.02 * torch.randn(64, 32), dim=1)  # a near collapse
    with torch.autocast('cpu', torch.bfloat16):
        found = koleo(vectors)
    torch.testing.assert_close(found, koleo(vectors), rtol=0, atol=0)


def test_equal_vectors_are_finite():
    vectors = F.normalize(torch.ones(3, 4), dim=1).requires_grad_()
    loss = koleo(vectors)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(vectors.grad).all()


def test_each_view_by_itself():
    """Views of one image may be equal: that costs nothing."""
    maps = torch.randn(4, 8, 2, 2)
    head = SpreadHead()
    alone = koleo(F.normalize(maps.mean((2, 3)), dim=1))
    loss = head.loss(pair_of(maps, maps))['loss_spread']
    torch.testing.assert_close(loss, alone)
    assert not head.uses_teacher and not list(head.parameters())


def test_one_image_has_no_neighbour():
    maps = torch.randn(1, 8, 2, 2)
    with pytest.raises(ValueError, match='set batch_size=2 or more'):
        SpreadHead().loss(pair_of(maps, maps))
