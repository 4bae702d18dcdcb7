# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Segmentation straight from scenes."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip('mmseg')
pytest.importorskip('geopandas')

from mmengine.dataset import ClassBalancedDataset
from mmengine.registry import init_default_scope

from cmid_mm.datasets.windowed.segmentation import WindowedSegmentation
from cmid_mm.labels.errors import LabelError
from tests.datasets.windowed.ground import classes_of, write_polygons, write_raster

HEIGHT, WIDTH = 60, 100
BOXES = {(10, 5, 45, 30): 1, (60, 20, 90, 55): 2}
MASK = classes_of(BOXES, HEIGHT, WIDTH)
PIPELINE = [
    dict(type='LoadImagery', num_bands=4, value_range=(0, 10000)),
    dict(type='LoadWindowLabels'),
    dict(type='PackSegInputs', meta_keys=('img_path', 'window')),
]
FIELDS = dict(
    path='fields.gpkg',
    field='crop',
    background='other',
    classes=['other', 'rye', 'hay'],
)


@pytest.fixture(autouse=True)
def _scope(_seeded):
    init_default_scope('mmseg')


@pytest.fixture
def ground(tmp_path: Path) -> Path:
    """A scene whose first band says the class, and the fields as polygons."""
    rng = np.random.default_rng(0)
    bands = rng.integers(1, 9000, (4, HEIGHT, WIDTH)).astype(np.uint16)
    bands[0] = 1000 * (MASK.astype(np.uint16) + 1)
    write_raster(tmp_path / 'scenes' / 'a.tif', bands)
    write_polygons(tmp_path / 'fields.gpkg', list(BOXES), crop=['rye', 'hay'])
    write_raster(tmp_path / 'fields.tif', MASK)
    return tmp_path


def load(root: Path, **options: Any) -> WindowedSegmentation:
    arguments = dict(images='scenes', labels=FIELDS, window=32, pipeline=PIPELINE)
    return WindowedSegmentation(data_root=str(root), **{**arguments, **options})


def pixels_and_labels(sample: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    image, mask = sample['inputs'], sample['data_samples'].gt_sem_seg.data
    return image.numpy(), mask.numpy()[0]


LABELS = [FIELDS, dict(path='fields.tif', classes=['other', 'rye', 'hay'])]


def test_two_orders_of_the_classes_are_refused(ground):
    names = dict(classes=('hay', 'rye', 'other'), palette=[[0] * 3, [1] * 3, [2] * 3])
    with pytest.raises(LabelError, match='other, rye, hay, and hay, rye, other'):
        load(ground, metainfo=names)
    assert len(load(ground, metainfo=dict(classes=FIELDS['classes']))) == 8


@pytest.mark.parametrize('labels', LABELS, ids=['vector', 'raster'])
def test_windows_cover_the_scene_with_the_labels_of_its_pixels(ground, labels):
    dataset = load(ground, labels=labels)
    assert dataset.metainfo['classes'] == ('other', 'rye', 'hay')
    assert len(dataset) == 8
    seen = np.full((HEIGHT, WIDTH), 255)
    for sample in dataset:
        image, mask = pixels_and_labels(sample)
        assert image.shape == (4, 32, 32)
        np.testing.assert_allclose(image[0], 25.5 * (mask + 1), atol=0.01)
        top, left, height, width = sample['data_samples'].window
        seen[top : top + height, left : left + width] = mask
    np.testing.assert_array_equal(seen, MASK)


def starts(length: int, size: int) -> list[int]:
    return [*range(0, length - size, size), length - size]


def test_windows_without_labels_are_left_out_and_the_classes_of_others_known(ground):
    labels = {**FIELDS, 'background': None, 'classes': ['rye', 'hay']}
    dataset = load(ground, labels=labels, window=16)
    inside = {
        (top, left, 16, 16): np.unique(MASK[top : top + 16, left : left + 16])
        for top in starts(HEIGHT, 16)
        for left in starts(WIDTH, 16)
    }
    expected = {
        window: (found[found > 0] - 1).tolist()
        for window, found in inside.items()
        if found.any()
    }
    assert len(expected) < len(inside)
    assert {
        dataset.get_data_info(i)['window']: dataset.get_cat_ids(i)
        for i in range(len(dataset))
    } == expected


def test_windows_stay_in_the_rectangles_of_the_area_and_so_do_labels(ground):
    import shapely

    # A block, a triangle that is larger than a window, a spot that is smaller.
    triangle = shapely.Polygon([(50, 0), (90, 0), (50, 40)])
    shapes = [(4, 20, 44, 56), triangle, (70.2, 45.2, 80.8, 55.8)]
    write_polygons(ground / 'area.gpkg', shapes, crs='EPSG:4326')
    dataset = load(ground, aoi='area.gpkg', window=16)
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert {info['bounds'] for info in infos} == {
        (20, 4, 36, 40),
        (0, 50, 40, 40),
        (42, 68, 16, 16),
    }
    for info, sample in zip(infos, dataset, strict=True):
        top, left, height, width = info['window']
        low, first, rows, columns = info['bounds']
        assert low <= top <= low + rows - height
        assert first <= left <= first + columns - width
        _, mask = pixels_and_labels(sample)
        y, x = np.mgrid[top : top + height, left : left + width] + 0.5
        in_area = np.isin(shapely.contains_xy(shapely.box(*shapes[0]), x, y), True)
        for shape in (triangle, shapely.box(*shapes[2])):
            in_area |= shapely.contains_xy(shape, x, y)
        expected = np.where(in_area, MASK[top : top + height, left : left + width], 255)
        # Of a pixel on an edge, rounding decides.
        assert (mask != expected).mean() <= 16 / 256
        assert (mask != 255).any()


def test_a_strip_that_is_not_worth_a_window_gets_none(ground):
    write_polygons(ground / 'area.gpkg', [(0, 0, 33, 36)])
    dataset = load(ground, aoi='area.gpkg', window=16)
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    # Of one pixel there is none, of four there is.
    assert [info['window'][:2] for info in infos] == [
        (top, left) for top in (0, 16, 20) for left in (0, 16)
    ]
    assert infos[0]['bounds'] == (0, 0, 36, 33)


def test_shifted_windows_take_any_position_and_know_their_labels(ground):
    pipeline = [dict(type='ShiftWindow'), *PIPELINE]
    dataset = load(ground, pipeline=pipeline, window=32, overlap=4)
    tops, lefts = set(), set()
    for _ in range(40):  # 320 of 69 and 29 positions
        for sample in dataset:
            image, mask = pixels_and_labels(sample)
            np.testing.assert_allclose(image[0], 25.5 * (mask + 1), atol=0.01)
            top, left, *shape = sample['data_samples'].window
            assert shape == [32, 32]
            tops.add(top)
            lefts.add(left)
    assert len(tops) == 29 and max(tops) == HEIGHT - 32
    assert len(lefts) > 60 and max(lefts) == WIDTH - 32


def test_pixels_where_the_image_holds_no_data_are_ignored(ground):
    image = np.full((4, HEIGHT, WIDTH), 500, np.uint16)
    image[:, :, :40] = 0
    write_raster(ground / 'scenes' / 'a.tif', image, nodata=0)
    for test_mode in (False, True):
        dataset = load(ground, window=16, test_mode=test_mode)
        for sample in dataset:
            _, mask = pixels_and_labels(sample)
            left = sample['data_samples'].window[1]
            columns = np.arange(left, left + 16)
            np.testing.assert_array_equal((mask == 255).all(axis=0), columns < 40)
            assert left > 24
        # In training another window stands in for an empty one.
        assert len(dataset) == (4 * 5 if test_mode else 4 * 7)


def test_each_scene_may_have_a_file_of_labels(ground):
    write_raster(ground / 'scenes' / 'b.tif', np.full((4, 40, 40), 5, np.uint16), 200)
    write_raster(ground / 'labels' / 'b.tif', np.full((40, 40), 2, np.uint8), 200)
    write_raster(ground / 'labels' / 'a.tif', MASK)
    labels = dict(path='labels/{stem}.tif', classes=['other', 'rye', 'hay'])
    dataset = load(ground, labels=labels, window=40)
    found = [pixels_and_labels(sample)[1] for sample in dataset]
    assert len(found) == 7
    assert (found[-1] == 2).all() and (found[0] == MASK[:40, :40]).all()


def test_scenes_apart_from_the_labels_are_left_out_or_refused(ground, caplog):
    write_raster(ground / 'scenes' / 'b.tif', np.ones((4, 60, 60), np.uint16), 500)
    assert len(load(ground)) == 8
    with pytest.raises(LabelError, match=r'all scenes, 1, .*b\.tif, lie apart from'):
        load(ground, images='scenes/b.tif')
    write_polygons(ground / 'far.gpkg', [(300, 300, 350, 350)])
    with pytest.raises(LabelError, match=r'have no room .* within .*far\.gpkg'):
        load(ground, aoi='far.gpkg')


def test_labels_that_leave_nothing_to_learn_are_refused(ground):
    labels = dict(LABELS[1], ignore=[0, 1, 2])
    with pytest.raises(LabelError, match=r'none of the 8 windows .*fields\.tif'):
        load(ground, labels=labels)


def test_a_value_without_a_class_is_refused(ground):
    with pytest.raises(LabelError, match=r'fields\.tif .*2'):
        load(ground, labels=dict(LABELS[1], classes=['other', 'rye']))


def test_a_pipeline_that_cannot_read_windows_is_refused(ground):
    with pytest.raises(ValueError, match='LoadImagery'):
        load(ground, pipeline=[dict(type='LoadImageFromFile')])


def test_rare_classes_are_drawn_more_often_by_mmengine(ground):
    write_polygons(
        ground / 'fields.gpkg', [(0, 0, 100, 60), (2, 2, 6, 6)], crop=['rye', 'hay']
    )
    dataset = load(ground, window=10)
    balanced = ClassBalancedDataset(dataset, oversample_thr=0.3)
    assert len(dataset) == 60
    hay = [2 in balanced.get_cat_ids(i) for i in range(len(balanced))]
    # The root of 0.3 / (1 / 60), rounded up.
    assert sum(hay) == 5 and len(hay) == 64


@pytest.mark.parametrize('labels', LABELS, ids=['vector', 'raster'])
def test_windows_and_labels_are_on_the_pixels_that_the_loader_reads(ground, labels):
    loader = dict(PIPELINE[0], gsd=4.0)
    dataset = load(ground, labels=labels, window=20, pipeline=[loader, *PIPELINE[1:]])
    # 120 x 200 metres.
    assert len(dataset) == 2 * 3
    rows, columns = np.mgrid[1:60:2, 1:100:2]
    expected = np.zeros((30, 50), int)
    for (left, top, right, bottom), value in BOXES.items():
        inside = (left < columns) & (columns < right) & (top < rows) & (rows < bottom)
        expected[inside] = value
    for sample in dataset:
        image, mask = pixels_and_labels(sample)
        assert image.shape == (4, 20, 20)
        top, left, *_ = sample['data_samples'].window
        there = expected[top : top + 20, left : left + 20]
        # Some edges run through the middles of pixels, which may go either way.
        assert (mask != there).mean() < 0.1
        even = np.abs(image[0] - 25.5 * (mask + 1)) < 0.01
        assert even.mean() > 0.85


def test_few_of_many_label_files_stay_open(tmp_path):
    """A process may hold about a thousand files open."""
    for index in range(40):
        write_raster(tmp_path / 'scenes' / f'{index}.tif', np.ones((3, 8, 8), np.uint8))
        write_raster(tmp_path / 'labels' / f'{index}.tif', np.ones((8, 8), np.uint8))
    labels = dict(path='labels/{stem}.tif', classes=['other', 'rye'])
    pipeline = [dict(type='LoadImagery'), *PIPELINE[1:]]
    dataset = load(tmp_path, labels=labels, pipeline=pipeline)
    assert len(dataset) == 40
    links = [Path('/proc/self/fd', name) for name in os.listdir('/proc/self/fd')]
    opened = [os.readlink(link) for link in links if link.is_symlink()]
    assert 0 < sum(str(tmp_path / 'labels') in name for name in opened) < 20
