# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Oriented boxes straight from scenes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip('mmrotate')
pytest.importorskip('geopandas')
import shapely
from mmengine.registry import init_default_scope

from cmid_mm.datasets.windowed.boxes import WindowedOrientedBoxes
from tests.datasets.windowed.ground import write_polygons, write_raster

PIPELINE = [
    dict(type='LoadImagery'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True, box_type='qbox'),
    dict(type='ConvertBoxType', box_type_mapping=dict(gt_bboxes='rbox')),
    dict(type='mmdet.PackDetInputs', meta_keys=('img_id', 'img_path')),
]
SHIPS = dict(path='ships.gpkg', field='kind')
#: x, y, length and width in pixels, and an angle in degrees.
BARGE, TUG = (20, 30, 24, 6, 30), (70, 40, 10, 4, -45)


def hull(x: float, y: float, length: float, width: float, angle: float) -> Any:
    box = shapely.box(x - length / 2, y - width / 2, x + length / 2, y + width / 2)
    return shapely.affinity.rotate(box, angle, origin=(x, y))


@pytest.fixture
def ground(tmp_path: Path) -> Path:
    init_default_scope('mmrotate')
    image = np.random.default_rng(0).integers(1, 255, (3, 60, 100)).astype(np.uint8)
    write_raster(tmp_path / 'harbour.tif', image)
    shapes = [hull(*BARGE), hull(*TUG)]
    write_polygons(tmp_path / 'ships.gpkg', shapes, kind=['barge', 'tug'])
    return tmp_path


def load(root: Path, **options: Any) -> WindowedOrientedBoxes:
    arguments = dict(images='harbour.tif', labels=SHIPS, window=50, pipeline=PIPELINE)
    return WindowedOrientedBoxes(data_root=str(root), **{**arguments, **options})


def boxes(sample: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    found = sample['data_samples'].gt_instances
    return found.bboxes.tensor.numpy(), found.labels.numpy()


def test_boxes_are_in_pixels_of_the_window(ground):
    dataset = load(ground)
    assert dataset.metainfo['classes'] == ('barge', 'tug')
    assert [dataset.get_data_info(i)['window'][:2] for i in range(len(dataset))] == [
        (0, 0),
        (0, 50),
        (10, 0),
        (10, 50),
    ]
    for index, (x, y, length, width, _), kind, top, left in (
        (0, BARGE, 0, 0, 0),
        (3, TUG, 1, 10, 50),
    ):
        sample = dataset[index]
        assert sample['inputs'].shape == (3, 50, 50)
        (box,), (label,) = boxes(sample)
        assert label == kind and dataset.get_cat_ids(index) == [kind]
        np.testing.assert_allclose(box[:2], (x - left, y - top), atol=0.01)
        np.testing.assert_allclose(sorted(box[2:4]), (width, length), atol=0.01)
    assert dataset[3]['data_samples'].img_id == 'harbour__50__50___10'


def test_windows_without_boxes_are_kept_only_in_a_test(ground):
    assert len(load(ground, window=40)) == 4
    test = load(ground, window=40, test_mode=True)
    assert len(test) == 6
    assert sum(len(boxes(sample)[0]) == 0 for sample in test) == 2


def test_boxes_outside_the_area_are_ignored(ground):
    write_polygons(ground / 'area.gpkg', [(10, 10, 40, 50)])
    dataset = load(ground, window=60, aoi='area.gpkg', pipeline=PIPELINE[:1])
    assert [info['ignore_flag'] for info in dataset[0]['instances']] == [0]
    wide = shapely.Polygon([(0, 0), (99, 0), (0, 59)])
    write_polygons(ground / 'area.gpkg', [wide])
    dataset = load(ground, window=60, aoi='area.gpkg', pipeline=PIPELINE[:1])
    flags = {
        (info['bbox_label'], info['ignore_flag'])
        for sample in dataset
        for info in sample['instances']
    }
    assert flags == {(0, 0), (1, 1)}
