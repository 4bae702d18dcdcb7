# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cmid_mm.visualization.figures.embedding_map import (
    images_of,
    map_figure,
    neighbours_right,
    plane,
)

from .made import colour_encoder, colours, write_cells


@pytest.fixture
def encoder():
    encoder = colour_encoder()
    encoder.model.extract_feats = lambda images: images.float().mean((2, 3)) - 127.5
    return encoder


def folder_of(path, classes=('red', 'blue')):
    for number, name in enumerate(classes):
        (path / name).mkdir(parents=True)
        for index in range(4):
            cells = colours(1, 1, index) // 8
            cells[..., 2 * number] = 200 + 10 * index
            write_cells(path / name / f'{index}.png', cells)
    return path


def test_folders_are_classes_or_not(tmp_path):
    folder_of(tmp_path / 'labelled')
    paths, labels = images_of(tmp_path / 'labelled')
    assert labels == ['blue'] * 4 + ['red'] * 4 and len(paths) == 8
    paths, labels = images_of(tmp_path / 'labelled' / 'red')
    assert labels is None and len(paths) == 4
    with pytest.raises(FileNotFoundError, match='is not a folder'):
        images_of(tmp_path / 'labelled' / 'red' / '0.png')


def test_neighbours_right():
    features = F.normalize(torch.tensor([[1, 0.0], [1, 0.1], [0, 1], [0.2, 1]]))
    assert neighbours_right(features, ['a', 'a', 'b', 'b']) == 100
    assert neighbours_right(features, ['a', 'b', 'b', 'b']) == 50


def test_a_map_of_classes_with_thumbnails(tmp_path, encoder):
    folder = folder_of(tmp_path / 'images')
    figure = map_figure(encoder, folder, size=32, thumbnails=True)
    (ax,) = figure.axes
    assert ax.get_title() == 't-SNE of 8 images; nearest of same class: 100 %'
    assert [len(c.get_offsets()) for c in ax.collections] == [4, 4]
    assert 1 < len(ax.artists) <= 8
    # Near ones are of one class.
    blue, red = (np.asarray(c.get_offsets()) for c in ax.collections)
    spread = max(np.ptp(blue, 0).max(), np.ptp(red, 0).max())
    assert np.linalg.norm(blue.mean(0) - red.mean(0)) > spread / 2
    part = map_figure(encoder, folder, most=6, size=32)
    assert part.axes[0].get_title().startswith('t-SNE of 6 images')


def test_what_is_refused(monkeypatch):
    features = F.normalize(torch.randn(6, 3))
    with pytest.raises(ValueError, match='at least 5 images, got 4'):
        plane(features[:4])
    with pytest.raises(ValueError, match="one of .*'umap'.*, got 'pca'"):
        plane(features, 'pca')
    monkeypatch.setitem(sys.modules, 'umap', None)
    with pytest.raises(ImportError, match='pip install umap-learn, or take t-SNE'):
        plane(features, 'umap')
