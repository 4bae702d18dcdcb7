# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Labelled windows of scenes as files."""

import errno
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio

pytest.importorskip('mmseg')
pytest.importorskip('geopandas')

from mmengine.registry import init_default_scope

from cmid_mm.datasets.segmentation import IndexMaskFolder
from cmid_mm.images import writing
from cmid_mm.labels.dota import read_boxes
from tests.datasets.windowed.ground import (
    EAST,
    NORTH,
    PIXEL,
    classes_of,
    write_polygons,
    write_raster,
)

TOOL = Path(__file__).parents[2] / 'tools' / 'prepare_data.py'
BOXES = {(10, 5, 45, 30): 1, (60, 20, 90, 55): 2}
MASK = classes_of(BOXES, 60, 100)


@pytest.fixture
def ground(tmp_path: Path) -> Path:
    image = np.random.default_rng(0).integers(1, 9000, (5, 60, 100)).astype(np.uint16)
    image[:, :, 96:] = 0
    write_raster(tmp_path / 'scenes' / 'a.tif', image, nodata=0)
    write_polygons(tmp_path / 'fields.gpkg', list(BOXES), crop=['rye', 'hay'])
    return tmp_path


@pytest.fixture
def run(ground, monkeypatch):
    def tiles(*options: object, images: str = 'scenes') -> object:
        words = ['tiles', ground / images, '--out', ground / 'out', *options]
        monkeypatch.setattr(sys, 'argv', ['prepare_data.py', *map(str, words)])
        try:
            runpy.run_path(str(TOOL), run_name='__main__')
        except SystemExit as stop:
            return stop.code
        return None

    return tiles


def fields(ground: Path) -> list[object]:
    return [
        *('--labels', ground / 'fields.gpkg', '--field', 'crop', '--window', 32),
        *('--background', 'other', '--classes', 'other', 'rye', 'hay'),
    ]


def test_tiles_keep_bands_type_place_and_missing_pixels(ground, run, capsys):
    assert run(*fields(ground)) is None
    printed = capsys.readouterr().out
    images = sorted((ground / 'out' / 'images').iterdir())
    assert len(images) == 8 and 'all: 8 tiles' in printed
    with rasterio.open(ground / 'scenes' / 'a.tif') as source:
        whole = source.read()
    for path in images:
        left, top = (int(word) for word in path.stem.split('__32__')[1].split('___'))
        mask_path = ground / 'out' / 'masks' / path.name
        with rasterio.open(path) as image, rasterio.open(mask_path) as mask:
            assert (image.count, image.dtypes[0], image.nodata) == (5, 'uint16', 0)
            np.testing.assert_array_equal(
                image.read(), whole[:, top : top + 32, left : left + 32]
            )
            corner = EAST + left * PIXEL, NORTH - top * PIXEL
            for file in (image, mask):
                assert file.xy(0, 0, offset='ul') == corner
                assert file.crs.to_epsg() == 32632
            expected = MASK[top : top + 32, left : left + 32].copy()
            expected[:, 96 - left :] = 255 if left > 64 else 0
            np.testing.assert_array_equal(mask.read(1), expected)


def test_the_result_is_an_ordinary_data_set(ground, run, capsys):
    assert run(*fields(ground)) is None
    snippet = capsys.readouterr().out.strip().splitlines()[-1]
    init_default_scope('mmseg')
    arguments = eval(snippet.replace(', ...', ''))
    assert arguments.pop('type') == 'IndexMaskFolder'
    pipeline = [
        dict(type='LoadImagery', num_bands=5),
        dict(type='LoadIndexMask'),
        dict(type='PackSegInputs'),
    ]
    dataset = IndexMaskFolder(**arguments, pipeline=pipeline)
    assert dataset.metainfo['classes'] == ('other', 'rye', 'hay')
    found = set()
    for sample in dataset:
        found |= set(np.unique(sample['data_samples'].gt_sem_seg.data).tolist())
    assert len(dataset) == 8 and found == {0, 1, 2, 255}


def test_a_full_disk_leaves_no_broken_file_and_the_command_goes_on(
    ground, run, monkeypatch
):
    calls = []
    write_bytes = writing.write_bytes

    def failing(path: Path, content: bytes) -> None:
        calls.append(path)
        if len(calls) == 6:
            raise OSError(errno.ENOSPC, 'No space left on device', str(path))
        write_bytes(path, content)

    monkeypatch.setattr(writing, 'write_bytes', failing)
    assert 'No space left on device' in str(run(*fields(ground)))
    assert len(list((ground / 'out').rglob('*.tif'))) == 5
    monkeypatch.setattr(writing, 'write_bytes', write_bytes)
    assert run(*fields(ground)) is None
    assert len(list((ground / 'out').rglob('*.tif'))) == 16


def test_a_complete_folder_is_left_and_other_settings_refused(ground, run, capsys):
    assert run(*fields(ground)) is None
    assert run(*fields(ground)) is None
    assert 'is complete' in capsys.readouterr().out
    assert 'was made with overlap=0, not with overlap=4;' in str(
        run(*fields(ground), '--overlap', 4)
    )


def test_tiles_of_other_labels_or_areas_are_not_mixed(ground, run):
    area = ground / 'split' / 'train.gpkg'
    area.parent.mkdir()
    write_polygons(area, [(0, 0, 60, 50)])
    options = (*fields(ground), '--split', area.parent)
    assert run(*options) is None
    assert run(*options) is None
    write_polygons(area, [(0, 50, 60, 100)])
    assert f'was made with content of {area}=' in str(run(*options))


def test_what_failed_before_the_first_tile_can_be_corrected(ground, run):
    values = np.zeros((1, 60, 100), np.uint8) + 2
    write_raster(ground / 'l.tif', values)
    options = ('--labels', ground / 'l.tif', '--window', 32, '--classes', 'a', 'b')
    assert '2 are none of the 2 classes' in str(run(*options))
    assert run(*options, 'c', '--label-map', '2=c', '1=255') is None


def test_parts_of_a_split_have_folders_of_their_own(ground, run, capsys):
    write_polygons(ground / 'split' / 'train.gpkg', [(0, 0, 60, 60)])
    write_polygons(ground / 'split' / 'test.gpkg', [(64, 0, 96, 60)])
    assert run(*fields(ground), '--split', ground / 'split') is None
    printed = capsys.readouterr().out
    assert 'train: 4 tiles' in printed and 'test: 2 tiles' in printed
    lefts = {
        part: {
            int(path.stem.split('__')[2])
            for path in (ground / 'out' / part).rglob('*')
            if path.suffix == '.tif'
        }
        for part in ('train', 'test')
    }
    assert lefts == {'train': {0, 28}, 'test': {64}}


def test_boxes_become_dota_text(ground, run):
    options = ['--labels', ground / 'fields.gpkg', '--field', 'crop', '--boxes']
    assert run(*options, '--window', 60) is None
    names = sorted(path.stem for path in (ground / 'out' / 'annfiles').iterdir())
    assert names == ['a__60__0___0', 'a__60__40___0']
    first, second = (
        read_boxes(ground / 'out' / 'annfiles' / f'{name}.txt', ('hay', 'rye'))
        for name in names
    )
    assert (first.classes, second.classes) == (('rye',), ('hay',))
    corners = first.corners.reshape(4, 2)
    assert corners.min(0).tolist() == [10, 5] and corners.max(0).tolist() == [45, 30]
    corners = second.corners.reshape(4, 2)
    assert corners.min(0).tolist() == [20, 20] and corners.max(0).tolist() == [50, 55]


def test_four_8_bit_bands_stay_four_bands_of_data(ground, run):
    image = np.random.default_rng(0).integers(0, 9, (4, 60, 100)).astype(np.uint8)
    write_raster(ground / 'scenes' / 'a.tif', image, photometric='MINISBLACK')
    assert run(*fields(ground)) is None
    with rasterio.open(ground / 'out' / 'images' / 'a__32__0___0.tif') as tile:
        assert tile.count == 4
        assert rasterio.enums.ColorInterp.alpha not in tile.colorinterp
        np.testing.assert_array_equal(tile.read(), image[:, :32, :32])


def test_tiles_at_a_distance_of_pixels(ground, run):
    assert run(*fields(ground), '--gsd', 4) is None
    names = sorted(path.name for path in (ground / 'out' / 'masks').iterdir())
    assert names == ['a__32__0___0.tif', 'a__32__18___0.tif']
    with rasterio.open(ground / 'out' / 'images' / names[1]) as tile:
        assert tile.transform[:6] == (4, 0, EAST + 18 * 4, 0, -4, NORTH)
        assert tile.shape == (30, 32)
        # 200 metres, of which the last eight hold no data.
        assert (tile.read() == 0).all(axis=(0, 1)).tolist() == [False] * 30 + [True] * 2


def test_scenes_of_one_name_are_refused(ground, run):
    write_raster(ground / 'scenes' / 'x' / 'a.tif', np.ones((5, 40, 40), np.uint16))
    assert '2 scenes are called a' in str(run(*fields(ground)))
    assert not (ground / 'out').exists()


def test_nothing_is_begun_where_scenes_lie_apart_from_labels(ground, run):
    write_polygons(ground / 'far.gpkg', [(500, 500, 520, 520)])
    assert 'lie apart from' in str(run('--labels', ground / 'far.gpkg'))
    assert not (ground / 'out').exists()


def test_windows_that_are_all_ignored_are_no_data_set(ground, run):
    image = np.zeros((5, 60, 100), np.uint16)
    write_raster(ground / 'scenes' / 'a.tif', image, nodata=0)
    assert 'none of the 8 windows of 32 x 32' in str(run(*fields(ground)))
