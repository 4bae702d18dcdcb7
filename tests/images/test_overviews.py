# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Reads at reduced size average all pixels, with overviews or without."""

import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling

from cmid_mm.images import ImageFile, Reading, load_image, read_values, reducing

from .miniatures import write_raster

SIDE = 256
CHECKERBOARD = (np.indices((SIDE, SIDE)).sum(0)[..., None] % 2 * 200).astype(np.uint8)
#: Ways in which GDAL makes overviews.
MADE_BY = (
    *('nearest', 'bilinear', 'cubic', 'cubic_spline', 'lanczos', 'average', 'mode'),
    *('gauss', 'rms'),
)


def with_overviews(path, resampling):
    with rasterio.open(path, 'r+') as target:
        target.build_overviews([2, 4, 8], resampling)
    return path


@pytest.mark.parametrize('made_by', [None, *MADE_BY])
@pytest.mark.parametrize('size', [16, 32, 100])
def test_checkerboard_is_grey(tmp_path, made_by, size):
    path = write_raster(tmp_path / 'a.tif', CHECKERBOARD)
    if made_by is not None:
        with_overviews(path, Resampling[made_by])
    values = read_values(path, Reading(num_bands=1), min_size=size).values
    assert abs(values.astype(int) - 100).max() <= 2


def test_overviews_that_are_averages_spare_reading(tmp_path, monkeypatch):
    path = with_overviews(
        write_raster(tmp_path / 'a.tif', CHECKERBOARD), Resampling.average
    )
    with rasterio.open(path, 'r+') as target:
        # Not what the overviews hold, so that one sees which are read.
        target.write(np.zeros((1, SIDE, SIDE), np.uint8))
    assert (read_values(path, Reading(num_bands=1), min_size=64).values == 100).all()
    assert (read_values(path, Reading(num_bands=1), min_size=SIDE).values == 0).all()


def test_single_black_bands_count(tmp_path):
    """The marker in one band of a pixel with data is a value, reduced or not."""
    values = np.full((64, 64, 3), 50, np.uint8)
    values[..., 0] = np.indices((64, 64)).sum(0) % 2 * 100
    path = write_raster(tmp_path / 'a.tif', values, nodata=0)
    reduced = read_values(path, min_size=16)
    assert (reduced.values == 50).all() and reduced.valid is None


def test_large_reads_go_in_strips(tmp_path, monkeypatch):
    values = np.random.default_rng(0).integers(1, 255, (300, 200, 3), np.uint8)
    values[:40, :50] = 0
    path = write_raster(tmp_path / 'a.tif', values, nodata=0, tiled=True)
    whole = read_values(path, min_size=50)
    heights = []
    original = rasterio.DatasetReader.read
    with ImageFile(path) as image:
        monkeypatch.setattr(reducing, 'STRIP_BYTES', 50_000)

        class Spy:
            def __getattr__(self, name):
                return getattr(image._source._levels[0], name)

            def read(self, bands, window):
                heights.append(window.height)
                return original(source, bands, window=window)

        source = image._source.source
        image._source._levels[0] = source
        image._source._levels[1] = Spy()
        parts = image.read(Reading(), min_size=50)
    assert len(heights) > 3 and sum(heights) == 300 and max(heights) < 100
    np.testing.assert_array_equal(parts.values, whole.values)
    np.testing.assert_array_equal(parts.valid, whole.valid)


@pytest.mark.parametrize('dtype', [np.uint8, np.int32])
def test_loading_at_a_size_reads_reduced(tmp_path, dtype):
    values = CHECKERBOARD.repeat(3, 2).astype(dtype)
    path = write_raster(tmp_path / 'a.tif', values)
    # Zero lies in the middle of the whole range of signed integers.
    middle = 100 if dtype == np.uint8 else 127.5
    loaded = load_image(path, Reading(size=100)).astype(float)
    assert abs(loaded - middle).max() <= 2
