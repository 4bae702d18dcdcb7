# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from cmid_mm.evaluation.dense import LabelledWindows
from cmid_mm.images import Reading, UnreadableImageError
from cmid_mm.labels.errors import LabelError
from tests.datasets.windowed.ground import classes_of, write_polygons, write_raster

from .made import SIZE, windows_of, write_tiles


def test_windows_of_tiles_cover_each_pixel_once(tmp_path):
    windows = list(windows_of(write_tiles(tmp_path, 2)))
    assert [index for index, *_ in windows] == [0] * 4 + [1] * 4
    counted = sum(int((mask != 255).sum()) for _, _, mask in windows)
    assert counted == 2 * (SIZE[0] - 4) * SIZE[1]
    for _, image, mask in windows:
        assert image.shape == (3, *mask.shape)
        bright = image.float().mean(0) > 120
        known = mask != 255
        assert (bright == (mask == 1))[known].float().mean() > 0.97  # of a JPEG


def test_a_mask_that_is_missing_is_named(tmp_path):
    (write_tiles(tmp_path, 2) / 'ann/1.png').unlink()
    with pytest.raises(UnreadableImageError, match=r'ann/1\.png: No such file'):
        list(windows_of(tmp_path))


BOXES = {(10, 5, 45, 30): 1, (60, 20, 90, 55): 2}
CLASSES = ['other', 'rye', 'hay']


@pytest.fixture
def ground(tmp_path):
    """A scene of four bands without data in a corner, fields on it, an area."""
    pytest.importorskip('geopandas')
    mask = classes_of(BOXES, 60, 100)
    bands = np.full((4, 60, 100), 3000, np.uint16)
    bands[0] = 1000 * (mask.astype(np.uint16) + 1)
    bands[:, :10, :20] = 0
    write_raster(tmp_path / 'a.tif', bands, nodata=0)
    write_raster(tmp_path / 'fields.tif', mask)
    write_polygons(tmp_path / 'fields.gpkg', list(BOXES), crop=CLASSES[1:])
    write_polygons(tmp_path / 'left.gpkg', [(0, 0, 50, 60)])
    return tmp_path, mask


@pytest.mark.parametrize(
    'labels',
    [
        dict(path='fields.gpkg', field='crop', background='other'),
        dict(path='fields.tif'),
    ],
    ids=['vector', 'raster'],
)
def test_windows_of_scenes(ground, labels):
    folder, expected = ground
    windows = LabelledWindows(
        'a.tif',
        dict(labels, classes=CLASSES),
        32,
        'left.gpkg',
        str(folder),
        Reading(4, value_range=(0, 10000)),
    )
    assert windows.classes == ('other', 'rye', 'hay')
    counts = torch.zeros(3, dtype=torch.long)
    for _, image, mask in windows:
        known = mask != 255
        # The first band says the class.
        torch.testing.assert_close(
            image[0][known], 25.5 * (mask[known] + 1.0), atol=0.01, rtol=0
        )
        counts += mask[known].long().bincount(minlength=3)
    expected = expected[:, :50].copy()
    expected[:10, :20] = 255  # no data
    assert counts.tolist() == [int((expected == c).sum()) for c in range(3)]


def test_windows_without_labels_are_refused(ground):
    folder, _ = ground
    labels = dict(path='fields.tif', classes=CLASSES, ignore=[0, 1, 2])
    windows = LabelledWindows(
        'a.tif', labels, 32, None, str(folder), Reading(4, value_range=(0, 10000))
    )
    with pytest.raises(LabelError, match='none of the 8 windows'):
        list(windows)
