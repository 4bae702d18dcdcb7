# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What holds of all windows and reductions of rasters, and of all joined strips."""

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from cmid_mm.images import ImageFile, Reading
from cmid_mm.images.strips import Content, StripWriter, join_strips

pytestmark = pytest.mark.properties
SEEDS = st.integers(0, 2**32 - 1)
NODATA = 7


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('rasters')


@st.composite
def rasters(draw):
    """Values of a few kinds, some of them missing, and how they are stored."""
    height, width = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(SEEDS))
    dtype = draw(st.sampled_from(['uint8', 'int16', 'float32']))
    values = rng.integers(8, 200, (3, height, width)).astype(dtype)
    if draw(st.booleans()):
        values[rng.random(values.shape) < 0.2] = NODATA
    options = draw(
        st.sampled_from([{}, dict(tiled=True, blockxsize=16, blockysize=16)])
    )
    return values, options


def write(folder, values, options):
    path = folder / 'raster.tif'
    count, height, width = values.shape
    shape = dict(count=count, height=height, width=width, dtype=values.dtype)
    with rasterio.open(
        path, 'w', driver='GTiff', nodata=NODATA, **shape, **options
    ) as f:
        f.write(values)
    return path


@given(rasters(), st.data())
def test_a_window_is_that_part_of_the_whole(folder, raster, data):
    values, options = raster
    height, width = values.shape[1:]
    top, left = (data.draw(st.integers(0, side - 1)) for side in (height, width))
    rows = data.draw(st.integers(1, height - top))
    columns = data.draw(st.integers(1, width - left))
    place = np.s_[top : top + rows, left : left + columns]
    with ImageFile(write(folder, values, options)) as image:
        whole = image.read(Reading())
        part = image.read(Reading(), (top, left, rows, columns))
    expected = np.moveaxis(values != NODATA, 0, -1)
    for pixels, valid in ((whole, expected), (part, expected[place])):
        assert pixels.values.shape == valid.shape
        # None says that all are valid.
        assert (pixels.valid is None) == valid.all()
        assert pixels.valid is None or (pixels.valid == valid).all()
    stored = np.moveaxis(values, 0, -1)
    assert (whole.values == stored)[expected].all()
    assert (part.values == stored[place])[expected[place]].all()


@given(rasters(), st.integers(1, 40))
def test_reduced_pixels_are_between_those_that_they_stand_for(folder, raster, side):
    values, options = raster
    with ImageFile(write(folder, values, options)) as image:
        reduced = image.read(Reading(), min_size=side)
    shape = values.shape[1:]
    factor = max(min(shape) // side, 1)
    for length, whole in zip(reduced.values.shape, shape, strict=False):
        assert length >= min(side, whole)
        assert whole // factor <= length <= -(-whole // factor)
    valid = reduced.valid
    if valid is None:
        valid = np.ones(reduced.values.shape, bool)
    for band, found, known in zip(
        values,
        np.moveaxis(reduced.values, -1, 0),
        np.moveaxis(valid, -1, 0),
        strict=True,
    ):
        data = band[band != NODATA]
        if not len(data):
            assert not known.any()
        elif known.any():
            assert found[known].min() >= data.min() - 0.5
            assert found[known].max() <= data.max() + 0.5


@given(st.integers(1, 50), st.integers(1, 40), SEEDS, st.data())
def test_strips_in_any_order_make_the_whole(folder, height, width, seed, data):
    """Those that are lacking hold no data."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 5, (height, width)).astype(np.uint8)
    content = Content(nodata=255)
    inner = data.draw(st.sets(st.integers(1, height), max_size=4)) - {height}
    starts = [0, *sorted(inner)]
    ends = [*starts[1:], height]
    order = data.draw(st.permutations(range(len(starts))))
    kept = order[: data.draw(st.integers(1, len(order)))]
    expected = np.full_like(values, 255)
    strips = {}
    for index in kept:
        start, end = starts[index], ends[index]
        strips[start] = folder / f'strip{index}.tif'
        with StripWriter(strips[start], end - start, width, content) as strip:
            cut = (end - start) // 2
            for row, part in (
                (cut, values[start + cut : end]),
                (0, values[start : start + cut]),
            ):
                if len(part):
                    strip.write(part, row, 0)
        expected[start:end] = values[start:end]
    path = folder / 'joined.tif'
    join_strips(strips, path, (height, width), content, None)
    with rasterio.open(path) as file:
        assert (file.read(1) == expected).all()
