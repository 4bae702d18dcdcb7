# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Change detection straight from scenes of two dates."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip('mmseg')
pytest.importorskip('geopandas')

from mmengine.registry import init_default_scope

from cmid_mm.datasets import WindowedChangeDetection
from tests.datasets.windowed.ground import classes_of, write_polygons, write_raster

BOXES = {(10, 5, 45, 30): 1, (60, 20, 90, 55): 1}
MASK = classes_of(BOXES, 60, 100)
CHANGES = dict(path='changes.gpkg', background='unchanged')
PIPELINE = [
    dict(type='ShiftWindow'),
    dict(type='LoadImagePair'),
    dict(type='LoadWindowLabels'),
    dict(type='PackSegInputs', meta_keys=('img_path', 'img_path2', 'window')),
]


@pytest.fixture
def ground(tmp_path: Path) -> Path:
    """Two dates that differ where the mask says."""
    init_default_scope('mmseg')
    before = np.random.default_rng(0).integers(0, 100, (3, 60, 100)).astype(np.uint8)
    write_raster(tmp_path / 'before' / 'x_2020.tif', before)
    write_raster(tmp_path / 'after' / 'x_2024.tif', before + 100 * MASK)
    write_polygons(tmp_path / 'changes.gpkg', list(BOXES))
    write_raster(tmp_path / 'changes.tif', 255 * MASK)
    return tmp_path


def load(root: Path, **options: Any) -> WindowedChangeDetection:
    arguments = dict(images='before', images2='after', window=32, pipeline=PIPELINE)
    return WindowedChangeDetection(data_root=str(root), **{**arguments, **options})


@pytest.mark.parametrize(
    'labels', [CHANGES, dict(path='changes.tif', label_map={255: 1})], ids=str
)
def test_both_dates_and_the_mask_are_of_one_window(ground, labels):
    dataset = load(ground, labels=labels)
    assert dataset.metainfo['classes'] == ('unchanged', 'changed')
    assert len(dataset) == 8
    for sample in dataset:
        image = sample['inputs'].numpy().astype(int)
        mask = sample['data_samples'].gt_sem_seg.data.numpy()[0]
        top, left, height, width = sample['data_samples'].window
        np.testing.assert_array_equal(
            mask, MASK[top : top + height, left : left + width]
        )
        for band in range(3):
            np.testing.assert_array_equal(image[3 + band] - image[band], 100 * mask)


def test_pixels_that_one_date_lacks_are_ignored(ground):
    after = np.full((3, 60, 100), 90, np.uint8)
    after[:, :, :20] = 0
    write_raster(ground / 'after' / 'x_2024.tif', after, nodata=0)
    dataset = load(ground, labels=CHANGES, pipeline=PIPELINE[1:])
    first = dataset[0]['data_samples'].gt_sem_seg.data.numpy()[0]
    np.testing.assert_array_equal((first == 255).all(axis=0), np.arange(32) < 20)


def test_dates_of_different_numbers_of_scenes_are_refused(ground):
    with pytest.raises(FileNotFoundError, match='images names 2 .* and images2 1'):
        load(
            ground,
            labels=CHANGES,
            images=['before/x_2020.tif', 'after/x_2024.tif'],
        )
