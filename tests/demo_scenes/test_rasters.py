# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Georeferenced procedural scenes: images and label layers lie on each other."""

import numpy as np
import pytest

from cmid_mm.demo_scenes import MAP_CLASSES, rasters, write_demo_data
from cmid_mm.images import ImageFile, Reading, find_images, load_image
from cmid_mm.labels.layers import LabelLayer

OTHER, TREE, WATER = (MAP_CLASSES.index(name) for name in ('other', 'tree', 'water'))


def test_polygons_are_the_cover_of_the_aerial_images(tmp_path):
    pytest.importorskip('geopandas')
    folder = write_demo_data(tmp_path, tasks=['aerial'], progress=False)['aerial']
    size, metres = rasters._AERIAL_SIZE, rasters._AERIAL_METRES
    first = rasters._places([['residential']], 0, 2, size, metres)[0][0]
    layer = LabelLayer(folder / 'labels.gpkg', field='class', background='other')
    assert set(layer.classes) == set(MAP_CLASSES)
    with ImageFile(folder / 'images/residential.tif') as image:
        found = np.array(layer.classes)[layer.window(image, (0, 0, size, size))]
    expected = np.array(MAP_CLASSES)[rasters._CLASS_OF_COVER[first.cover]]
    np.testing.assert_array_equal(found, expected)
    # Side by side: as one they are a block of two by three.
    whole = load_image(folder / 'all.mosaic', Reading())
    assert whole.shape == (2 * size, 3 * size, 3)
    np.testing.assert_array_equal(whole[:size, :size], first.image)


def test_sentinel2_folders_have_the_spectra_of_their_labels(tmp_path):
    folder = write_demo_data(tmp_path, tasks=['satellite'], progress=False)['satellite']
    scenes = find_images(folder / 'images')
    layer = LabelLayer(folder / 'labels.tif', classes=MAP_CLASSES)
    assert [path.name[38:44] for path in scenes] == ['T32TPL', 'T32TPM'] + [
        'T32TQL',
        'T32TQM',
    ]
    reading = Reading(bands=['B04', 'B08'], value_range=(0, 10000), nodata=0)
    with ImageFile(scenes[1]) as image:  # the river
        assert image.header.num_bands == 13
        side = image.header.height
        classes = layer.window(image, (0, 0, side, side))
    red, infrared = np.moveaxis(load_image(scenes[1], reading), -1, 0).astype(float)
    ratio = infrared / red
    # Leaves are bright in the near infrared, water is dark. Labels of 20 m miss a few.
    assert np.median(ratio[classes == TREE]) > 4
    assert np.median(ratio[classes == WATER]) < 1
    assert set(np.unique(classes)) <= set(range(len(MAP_CLASSES)))
