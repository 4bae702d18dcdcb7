# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from cmid_mm.evaluation.dense.sample import CellSample


def maps(count, shape=(5, 7)):
    """Maps whose features say which map, row and column a cell is of."""
    rows, columns = torch.meshgrid(*map(torch.arange, shape), indexing='ij')
    for index in range(count):
        labels = (rows + columns) % 3
        features = torch.stack([torch.full(shape, index), rows, columns]).float()
        yield features, torch.where(labels == 2, 255, labels)


def test_all_cells_are_kept_while_there_is_room():
    sample = CellSample(1000, 1, 0)
    expected = set()
    for features, labels in maps(3):
        sample.add(features, labels)
        known = labels != 255
        expected |= {tuple(cell) for cell in features[:, known].T.tolist()}
    assert len(sample.labels) == len(expected)
    assert {tuple(cell) for cell in sample.features[:, :, 0, 0].tolist()} == expected


def test_each_cell_is_drawn_equally_often_with_its_label():
    found = torch.zeros(40)
    for seed in range(30):
        sample = CellSample(100, 1, seed)
        for features, labels in maps(40):
            sample.add(features, labels)
        assert sample.features.shape == (100, 3, 1, 1)
        index, row, column = sample.features[:, :, 0, 0].T.long()
        cells = index * 35 + row * 7 + column
        assert len(cells.unique()) == 100
        assert torch.equal((row + column) % 3, sample.labels[:, 0, 0])
        found += index.bincount(minlength=40)
    # 3000 draws from 40 maps: 75 each, give or take four deviations.
    assert found.min() > 41
    assert found.max() < 109


def test_squares_at_the_edges_are_filled_up_and_ignored():
    sample = CellSample(10, 4, 0)
    ((features, labels),) = maps(1)
    sample.add(features, labels)
    assert sample.features.shape == (4, 3, 4, 4)
    assert int((sample.labels != 255).sum()) == int((labels != 255).sum())
    last = sample.features[:, 1].flatten(1).amax(1) == 4  # rows of the lower squares
    assert (sample.labels[last][:, 1:] == 255).all()
    assert (sample.features[last][:, 1] == 4).all()


def test_squares_without_labels_are_left_out():
    sample = CellSample(10, 4, 0)
    ((features, labels),) = maps(1)
    labels[:4, :4] = 255
    sample.add(features, labels)
    assert len(sample.labels) == 3


@pytest.mark.parametrize('seed', [0, 1])
def test_the_draw_is_that_of_the_seed(seed):
    drawn = []
    for number in (seed, seed, seed + 1):
        sample = CellSample(20, 1, number)
        for features, labels in maps(5):
            sample.add(features, labels)
        drawn.append(sample.features)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
