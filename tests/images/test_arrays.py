# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Images in memory are read as the same images in files."""

import numpy as np
import pytest
import rasterio

from cmid_mm.datasets.transforms import LoadImagery
from cmid_mm.images import (
    BandMismatchError,
    Reading,
    load_array,
    load_image,
    write_image,
)


@pytest.mark.parametrize(
    ('dtype', 'count', 'options'),
    [
        (np.uint8, 3, {}),
        (np.uint8, 1, {}),
        (np.uint8, 5, dict(bands=(4, 2, 1), size=16)),
        (np.uint16, 5, dict(num_bands=5, value_range=(100, 2500))),
        (np.float32, 2, dict(num_bands=2, value_range=((0, 900), (0, 2000)), size=40)),
    ],
)
def test_as_from_a_file(tmp_path, dtype, count, options):
    values = np.random.default_rng(0).uniform(0, 255, (count, 24, 32))
    values = (values if dtype == np.uint8 else values * 10).astype(dtype)
    if dtype == np.float32:
        values[:, :5, :7] = np.nan
    profile = dict(height=24, width=32, count=count, dtype=values.dtype)
    with rasterio.open(
        tmp_path / 'a.tif', 'w', driver='GTiff', photometric='minisblack', **profile
    ) as file:
        file.write(values)
    reading = Reading(**options)
    expected = load_image(tmp_path / 'a.tif', reading)
    found = load_array(values.transpose(1, 2, 0), reading)
    assert found.dtype == expected.dtype and expected.std() > 0
    np.testing.assert_array_equal(found, expected)


def test_three_bands_come_blue_first_and_others_in_order(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 9, 3), np.uint8)
    write_image(tmp_path / 'a.png', pixels)
    file = LoadImagery()(dict(img_path=str(tmp_path / 'a.png')))
    array = LoadImagery()(dict(img=pixels[..., ::-1]))
    assert (file['img'] == pixels).all() and (array['img'] == pixels).all()
    assert array['ori_shape'] == array['img_shape'] == (8, 9)
    four = np.concatenate((pixels, pixels[..., :1]), axis=2)
    assert (LoadImagery(num_bands=4)(dict(img=four))['img'] == four).all()
    with pytest.raises(BandMismatchError, match='array: found 4 bands, expected 3'):
        LoadImagery()(dict(img=four))
