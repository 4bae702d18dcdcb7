# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Similarity and principal components."""

import numpy as np
import pytest
import torch

from cmid_mm.visualization.figures.pca import (
    component_maps,
    pca_figure,
    shared_basis,
)
from cmid_mm.visualization.figures.similarity import (
    feature_at,
    similarity_figure,
    similarity_map,
)

from .made import CELL, colour_encoder, colours, write_cells, write_raster


def test_similarity_is_the_cosine_with_the_cell_of_the_point(tmp_path):
    cells = colours(4, 6)
    path = write_cells(tmp_path / 'a.png', cells)
    encoder = colour_encoder(3 * CELL)  # in windows
    point = np.array([4.6 * CELL, 2.1 * CELL])
    feature = feature_at(encoder, encoder.see(path), point)
    vectors = cells.astype(float) - 127.5
    expected = vectors @ vectors[2, 4] / np.linalg.norm(vectors, axis=-1)
    expected /= np.linalg.norm(vectors[2, 4])
    found = similarity_map(encoder, path, feature)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.argmax() == 2 * 6 + 4


def test_similarity_where_there_is_no_data(tmp_path):
    cells = colours(2, 4)
    cells[:, 0] = 0
    path = write_raster(tmp_path / 'a.tif', cells, nodata=0)
    found = similarity_map(colour_encoder(), path, torch.ones(3))
    assert np.isnan(found[:, 0]).all() and not np.isnan(found[:, 1:]).any()


def test_similarity_in_other_images_by_coordinates(tmp_path):
    cells = colours(2, 4)
    first = write_raster(tmp_path / 'a.tif', cells)
    second = write_cells(tmp_path / 'b.png', cells[::-1])
    figure = similarity_figure(
        colour_encoder(), [first, second], (500000 + 40, 5200000 - 40), 'EPSG:32632'
    )
    own, other = (figure.axes[i].images[0].get_array() for i in (1, 3))
    assert own[1, 1] == pytest.approx(1) and other[0, 1] == pytest.approx(1)
    assert figure.axes[-1].get_xlabel() == 'cosine similarity of features'


def test_basis_is_that_of_all_features():
    features = torch.randn(6, 40, dtype=torch.float64) * torch.arange(1, 7)[:, None]
    basis = shared_basis(iter(features.split(13, 1)))
    centred = features - features.mean(1, keepdim=True)
    left, values, _ = torch.linalg.svd(centred, full_matrices=False)
    torch.testing.assert_close(basis.components.abs(), left.T[:3].abs())
    share = values.square() / values.square().sum()
    torch.testing.assert_close(basis.share, share[:3])
    largest = basis.components.abs().argmax(1)
    assert (basis.components[range(3), largest] > 0).all()
    with pytest.raises(ValueError, match='3 cells with data, of 6 channels'):
        shared_basis(iter([features[:, :3]]))


def test_equal_cells_of_several_images_have_equal_components(tmp_path):
    cells = colours(3, 4)
    whole = write_cells(tmp_path / 'a.png', cells)
    part = write_cells(tmp_path / 'b.png', cells[1:, :2])
    maps, basis = component_maps(colour_encoder(), [whole, part])
    np.testing.assert_allclose(maps[1], maps[0][1:, :2], atol=1e-4)
    assert basis.share.sum() == pytest.approx(1)
    # Alone, the part would have others.
    alone, _ = component_maps(colour_encoder(), [part])
    assert np.abs(alone[0] - maps[1]).max() > 1


def test_the_figure_draws_components_on_one_scale(tmp_path):
    cells = colours(3, 4)
    paths = [
        write_cells(tmp_path / 'a.png', cells),
        write_cells(tmp_path / 'b.png', cells[:2]),
    ]
    figure = pca_figure(colour_encoder(), paths)
    first, second = (figure.axes[i].images[0].get_array() for i in (1, 4))
    np.testing.assert_allclose(second, first[:2], atol=1e-5)
    assert figure.axes[1].get_title() == 'PCA 1-3: 100 %'
