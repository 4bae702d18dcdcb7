# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from torch import nn

from cmid_mm.images import Reading
from cmid_mm.visualization.figures import FigureEncoder

from .made import CELL, centred, colour_encoder, colours, write_cells, write_raster


def test_windows_make_the_map_of_the_whole(tmp_path):
    cells = colours(9, 11)
    path = write_cells(tmp_path / 'a.png', cells)
    for window in (512, 4 * CELL, CELL):
        found = colour_encoder(window).map_of(path, 100)
        torch.testing.assert_close(found, centred(cells), rtol=0, atol=1e-3)


def test_cells_without_data_are_not_covered(tmp_path):
    cells = colours(3, 5)
    cells[:, 3:] = 0
    path = write_raster(tmp_path / 'a.tif', cells, nodata=0)
    covered = np.zeros((3, 5), bool)
    for part in colour_encoder(2 * CELL).blocks(path):
        top, left, height, width = part.window
        covered[top : top + height, left : left + width] = part.covered
    assert covered[:, :3].all() and not covered[:, 3:].any()


def test_too_many_cells(tmp_path):
    path = write_cells(tmp_path / 'a.png', colours(2, 6))
    with pytest.raises(ValueError, match=r'a.png has 12 cells .* at most 11 .*--gsd'):
        colour_encoder().map_of(path, 11)


def test_a_point_by_its_coordinates(tmp_path):
    path = write_raster(tmp_path / 'a.tif', colours(2, 4), metres=2.0)
    seen = colour_encoder().see(path)
    assert seen.pixel((7, 50)).tolist() == [7, 50]
    # Twenty pixels of two metres to the right, ten down.
    np.testing.assert_allclose(seen.pixel((500040, 5199980), 'EPSG:32632'), (20, 10))
    longitude, latitude = 9.000526, 46.953279  # about the same in degrees
    column, row = seen.pixel((longitude, latitude), 'EPSG:4326')
    assert 0 <= column < 4 * CELL and 0 <= row < 2 * CELL
    with pytest.raises(ValueError, match=r'\(0, 0\), pixel .* lies outside of .*a.tif'):
        seen.pixel((0, 0), 'EPSG:32632')
    with pytest.raises(ValueError, match=r'\(500040, 5199980\) lies .* need .*--crs'):
        seen.pixel((500040, 5199980))
    with pytest.raises(ValueError, match='unknown coordinate system .EPSG:9.'):
        seen.pixel((0, 0), 'EPSG:9')


def test_a_point_outside_and_a_place_unknown(tmp_path):
    seen = colour_encoder().see(write_cells(tmp_path / 'a.png', colours(1, 2)))
    with pytest.raises(ValueError, match=r'outside of .*a.png, which has 64 x 32'):
        seen.pixel((64, 0))
    with pytest.raises(ValueError, match=r'a.png says nothing of its place'):
        seen.pixel((1, 1), 'EPSG:4326')


def test_bands_to_show(tmp_path):
    path = write_cells(tmp_path / 'a.png', colours(2, 2))
    encoder = colour_encoder(show_bands=(3,))
    picture = encoder.see(path).picture
    assert (picture == picture[..., :1]).all()
    with pytest.raises(ValueError, match='bands must be one or three of 1 to 3'):
        colour_encoder(show_bands=(4,)).see(path)


def test_a_model_of_another_kind():
    with pytest.raises(TypeError, match='Linear is no pre-training model'):
        FigureEncoder(nn.Linear(1, 1), Reading())
