# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import rasterio
import torch

from cmid_mm.embeddings.dense import Basis, DenseEmbedding
from cmid_mm.images import load_image
from cmid_mm.inference.saving import Saver
from tests.inference.tiny_segmentation import write_raster

from .tiny_encoder import STRIDE, loaded


def dense(path, components=None, bits=16):
    """The task, with a basis of an image."""
    task = DenseEmbedding(loaded(), bits)
    task.basis = task.fit_basis([path], components, 32)
    return task


def write(task, folder, path, window=32):
    (saved,) = Saver(task, folder, {}).predict([path], 3, window, 8, True)
    return saved.files[0]


def read(path):
    with rasterio.open(path) as source:
        values = source.read().astype(np.float64)
        values = values * source.scales[0] + source.offsets[0]
        return values, source.profile, source.read_masks(1) > 0


@pytest.mark.parametrize('window', [32, 0])
def test_raster_is_the_feature_map(tmp_path, window):
    """Of an encoder that sees no further than a position, windows change nothing."""
    path = write_raster(tmp_path / 'a.tif', 130, 97)
    task = dense(path)
    out = write(task, tmp_path / 'out', path, window)
    values, profile, valid = read(out)
    assert values.shape == (8, 130 // STRIDE, 97 // STRIDE)
    pixels = load_image(path)[: 130 // STRIDE * STRIDE, : 97 // STRIDE * STRIDE]
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    expected = task.model.maps(images)[0].detach().numpy()
    # Rows 60 to 100 hold no data from column 30 on, 32 being the next position.
    missing = np.zeros(values.shape[1:], bool)
    missing[15:25, 8:] = True
    assert (valid == ~missing).all()
    whole = ~missing
    whole[15:25, 7] = False  # half of its pixels are filled, by the mean of a window
    assert np.abs(values - expected)[:, whole].max() < 2e-3
    assert profile['transform'] == rasterio.Affine(2, 0, 5e5, 0, -2, 3e6)
    with rasterio.open(out) as source:
        assert source.tags(ns='IMAGE_STRUCTURE')['LAYOUT'] == 'COG'
        assert source.dtypes[0] == 'uint16'


def test_eight_bits_have_a_scale(tmp_path):
    path = write_raster(tmp_path / 'a.tif', 96, 96)
    sixteen, _, valid = read(write(dense(path), tmp_path / '16', path))
    task = dense(path, bits=8)
    eight, profile, same = read(write(task, tmp_path / '8', path))
    assert profile['dtype'] == 'uint8' and profile['nodata'] == 0
    assert (same == valid).all() and 0 < valid.mean() < 1
    step = task.basis.largest / 127
    held = np.abs(sixteen) <= task.basis.largest
    assert np.abs(eight - sixteen)[held & valid].max() < 0.52 * step


def test_components_are_of_greatest_variance(tmp_path):
    """On one basis for all images, which is kept."""
    path = write_raster(tmp_path / 'a.tif', 96, 96)
    task = dense(path, 2)
    values, *_, valid = read(write(task, tmp_path / 'out', path))
    assert values.shape[0] == 2
    first, second = values[:, valid].var(1)
    assert first > second and 0.5 < task.basis.explained <= 1
    task.basis.write(tmp_path / 'basis.npz')
    assert Basis.read(tmp_path / 'basis.npz').digest == task.basis.digest
    with pytest.raises(ValueError, match='9 components of .* with 8 channels'):
        dense(path, 9)
    (tmp_path / 'basis.npz').write_bytes(b'PK')
    with pytest.raises(ValueError, match='is no basis of cmid-mm embed'):
        Basis.read(tmp_path / 'basis.npz')


def test_stopped_and_gone_on_with_is_the_same(tmp_path):
    path = write_raster(tmp_path / 'a.tif', 200, 96)
    task = dense(path, 3)
    whole = write(task, tmp_path / 'whole', path)
    task.model.backbone.fails_after = task.model.backbone.calls + 5
    with pytest.raises(RuntimeError, match='stopped'):
        write(task, tmp_path / 'out', path)
    assert list((tmp_path / 'out').rglob('*.done'))
    task.model.backbone.fails_after = None
    resumed = write(task, tmp_path / 'out', path)
    assert resumed.read_bytes() == whole.read_bytes()


def test_windows_of_whole_positions(tmp_path):
    task = dense(write_raster(tmp_path / 'a.tif', 64, 64))
    assert task.check_window(None, None) == (256, 64)
    with pytest.raises(ValueError, match='window=30 .* multiples of 4'):
        task.check_window(30, 0)
    with pytest.raises(ValueError, match='smaller than a position, 4 pixels'):
        task.open(write_raster(tmp_path / 'b.tif', 3, 64))
