# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from cmid_mm.visualization.figures.correspondence import (
    Truth,
    correspondence_figure,
    mutual_matches,
    pair_of,
    views_of,
)

from .made import colour_encoder, colours, write_cells, write_raster


def matches_of(pair):
    return mutual_matches(*(m.flatten(1) for m in pair.maps))


def test_only_mutual_matches():
    first = torch.tensor([[1.0, 0], [0.9, 0.1], [0, 1]]).T
    second = torch.tensor([[0.0, 2], [3, 0.0]]).T
    found = mutual_matches(first, second)
    # The second cell prefers the one that the first has.
    assert found.first.tolist() == [0, 2] and found.second.tolist() == [1, 0]
    torch.testing.assert_close(found.similarity, torch.ones(2))


def test_cells_without_data_match_nothing():
    first = torch.tensor([[1.0, 0], [0, 0]]).T
    found = mutual_matches(first, torch.tensor([[0.0, 0], [1, 1]]).T)
    assert found.first.tolist() == [0] and found.second.tolist() == [1]


def test_views_of_one_image_match_where_they_overlap(tmp_path):
    path = write_cells(tmp_path / 'a.png', colours(8, 9))
    pair = views_of(colour_encoder(), path)
    found = matches_of(pair)
    sure = found.similarity > 1 - 1e-6
    # Views of 6 x 6 cells, two cells apart both ways.
    assert sure.sum() == 16
    assert pair.truth.right(found)[sure.numpy()].all()
    # The second view is mirrored.
    columns = found.first[sure] % 6, found.second[sure] % 6
    assert (columns[0] - 2 == 5 - columns[1]).all()
    with pytest.raises(ValueError, match='too few for two views'):
        views_of(colour_encoder(), write_cells(tmp_path / 'b.png', colours(2, 9)))


def test_georeferenced_images_know_the_truth(tmp_path):
    cells = colours(3, 8)
    first = write_raster(tmp_path / 'a.tif', cells[:, :5])
    second = write_raster(tmp_path / 'b.tif', cells[:, 3:], left=3 * 32.0)
    pair = pair_of(colour_encoder(), [first, second])
    found = matches_of(pair)
    sure = (found.similarity > 1 - 1e-6).numpy()
    assert sure.sum() == 6 and pair.truth.right(found)[sure].all()
    # And a place that is wrong makes them wrong.
    moved = write_raster(tmp_path / 'c.tif', cells[:, 3:], left=0.0)
    wrong = pair_of(colour_encoder(), [first, moved])
    assert not wrong.truth.right(found)[sure].any()
    assert (
        pair_of(colour_encoder(), [write_cells(tmp_path / 'd.png', cells), first]).truth
        is None
    )


def test_share_right_beside_chance():
    grid = np.array([[0.5, 0.5], [1.5, 0.5], [9.5, 0.5]])
    truth = Truth(grid, grid, np.ones(2))
    # Of nine pairs five lie within a cell of each other.
    assert truth.chance() == pytest.approx(5 / 9)
    cells = torch.arange(3)
    found = mutual_matches(torch.eye(3), torch.eye(3)[:, [0, 2, 1]])
    assert found.first.tolist() == cells.tolist()
    assert truth.right(found).tolist() == [True, False, False]


def test_the_figure_says_what_is_right(tmp_path):
    cells = colours(6, 6)
    first = write_cells(tmp_path / 'a.png', cells)
    second = write_cells(tmp_path / 'b.png', cells)
    figure = correspondence_figure(colour_encoder(), [first, second], True, most=5)
    text = figure.axes[0].get_title()
    assert text.startswith('36 mutual best matches, 5 drawn; 100 % right (chance')
    assert len(figure.axes[0].collections[0].get_segments()) == 5
    with pytest.raises(ValueError, match='two images, or of two views of one, got 3'):
        correspondence_figure(colour_encoder(), [first] * 3)
