# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import sys

import numpy as np
import pytest
import torch

from cmid_mm.embeddings.index import Index
from cmid_mm.embeddings.task import Embedding
from cmid_mm.images import load_image_and_mask
from cmid_mm.inference.saving import Saver
from tests.inference.tiny_segmentation import write_raster

from .tiny_encoder import embedding

pytest.importorskip('pyarrow')
pytest.importorskip('shapely')


def write(task: Embedding, folder, paths, window=32, overlap=0):
    saver = Saver(task, folder, {'model': task.digest})
    return list(saver.predict(paths, 3, window, overlap, True))


def direct(task: Embedding, path, window):
    """The vector of a window by a plain forward pass."""
    pixels, valid = load_image_and_mask(path, task.reading, window)
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    encoder = task.model
    features = encoder.backbone((images - encoder.mean) / encoder.std)[0][0]
    weights = torch.ones(features.shape[1:])
    if valid is not None:
        held = torch.from_numpy(valid.all(2)).float()
        weights = torch.nn.functional.avg_pool2d(held[None], 4)[0]
    vector = (features * weights).sum((1, 2)) / weights.sum()
    return (vector / vector.norm()).detach().numpy()


def test_vectors_are_those_of_a_forward_pass(tmp_path):
    """Of each window that holds data, weighted by what of it does."""
    path = write_raster(tmp_path / 'a.tif', 130, 96)
    task = embedding()
    write(task, tmp_path / 'out', [path])
    index = Index(tmp_path / 'out')
    (block,) = index.blocks()
    # Rows 64 to 96 hold no data from column 32 on.
    windows = [tuple(map(int, window)) for window in block.windows]
    assert len(index) == 5 * 3 - 2
    assert (64, 0, 32, 32) in windows and (64, 32, 32, 32) not in windows
    for row in (0, windows.index((64, 0, 32, 32)), len(windows) - 1):
        expected = direct(task, path, windows[row])
        assert np.allclose(block.vectors[row], expected, atol=1e-5)
    assert block.valid[windows.index((64, 0, 32, 32))] == pytest.approx(30 / 32)
    assert index.digest == 'one'


def test_polygons_are_where_the_windows_lie(tmp_path):
    """In longitude and latitude; the image's own system is named."""
    geopandas = pytest.importorskip('geopandas')
    path = write_raster(tmp_path / 'a.tif', 32, 64)
    (saved,) = write(embedding(), tmp_path / 'out', [path])
    frame = geopandas.read_parquet(saved.files[0])
    assert frame.crs == 'EPSG:4326'
    assert list(frame['crs']) == ['EPSG:32650'] * 2
    back = frame.geometry.to_crs('EPSG:32650').bounds.to_numpy()
    expected = [[5e5, 3e6 - 16, 5e5 + 16, 3e6], [5e5 + 16, 3e6 - 16, 5e5 + 32, 3e6]]
    assert np.abs(back - expected).max() < 1e-3
    assert list(frame['bands']) == ['1,2,3'] * 2 and frame['file'][0] == str(path)


@pytest.mark.parametrize(('window', 'calls'), [(32, 0), (0, 1)])
def test_a_missing_package_is_no_fault_of_images(window, calls, tmp_path, monkeypatch):
    """It is said once, before windows are embedded, and nothing is left."""
    paths = [write_raster(tmp_path / f'{name}.tif', 64, 64) for name in 'ab']
    monkeypatch.setitem(sys.modules, 'pyarrow', None)
    task, failed = embedding(), []
    saver = Saver(task, tmp_path / 'out', {})
    with pytest.raises(ImportError, match='pip install pyarrow'):
        list(saver.predict(paths, 1, window, 0, True, lambda *error: failed.append(1)))
    assert not failed and task.model.backbone.calls == calls
    assert not [path for path in tmp_path.rglob('out/*') if path.name != '.lock']


def test_an_image_without_a_place(tmp_path):
    """It has an npz file and no polygons, and is found beside others."""
    without = write_raster(tmp_path / 'b.tif', 32, 64, crs=None, transform=None)
    located = write_raster(tmp_path / 'a.tif', 32, 32)
    saved = write(embedding(), tmp_path / 'out', [located, without])
    assert [each.files[0].suffix for each in saved] == ['.parquet', '.npz']
    blocks = list(Index(tmp_path / 'out').blocks())
    assert [(b.first, len(b.valid), b.corners is None) for b in blocks] == [
        (0, 1, False),
        (1, 2, True),
    ]


@pytest.mark.parametrize('options', [{}, dict(crs=None, transform=None)])
def test_stopped_and_gone_on_with_is_the_same(tmp_path, options):
    path = write_raster(tmp_path / 'a.tif', 200, 128, **options)
    (whole,) = write(embedding(), tmp_path / 'whole', [path], overlap=8)
    task = embedding()
    task.model.backbone.fails_after = 4
    with pytest.raises(RuntimeError, match='stopped'):
        write(task, tmp_path / 'out', [path], overlap=8)
    marks = list((tmp_path / 'out').rglob('*.done'))
    assert marks and not list((tmp_path / 'out').glob('a.*'))
    task = embedding()
    (resumed,) = write(task, tmp_path / 'out', [path], overlap=8)
    assert task.model.backbone.calls < 13  # not all of them again
    assert resumed.files[0].read_bytes() == whole.files[0].read_bytes()
    assert not list((tmp_path / 'out').glob('.*'))


def test_least_share(tmp_path):
    """Windows with less data than asked for have no vector."""
    path = write_raster(tmp_path / 'a.tif', 96, 64)
    write(embedding(), tmp_path / 'all', [path])
    write(embedding(0.9), tmp_path / 'few', [path])
    assert (len(Index(tmp_path / 'all')), len(Index(tmp_path / 'few'))) == (5, 4)


@pytest.mark.parametrize('pooling', ['mean', 'max', 'gem'])
def test_pooling(pooling):
    maps = torch.tensor([[[1.0, 2.0], [3.0, 8.0]]])[None]
    encoder = embedding(pooling=pooling, unit=False).model
    expected = dict(mean=3.5, max=8.0, gem=(548 / 4) ** (1 / 3))[pooling]
    assert encoder.pool(maps).item() == pytest.approx(expected, rel=1e-5)
    missing = torch.zeros(1, 4, 4, dtype=torch.bool)
    missing[:, 2:, 2:] = True
    expected = dict(mean=2.0, max=3.0, gem=(36 / 3) ** (1 / 3))[pooling]
    assert encoder.pool(maps, missing).item() == pytest.approx(expected, rel=1e-5)
