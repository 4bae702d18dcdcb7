# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Splits by space."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('mmseg')
pytest.importorskip('geopandas')

import geopandas
import shapely
from mmengine.registry import init_default_scope

from cmid_mm.datasets.windowed.scenes import LayersOfScenes
from cmid_mm.datasets.windowed.segmentation import WindowedSegmentation
from cmid_mm.datasets.windowed.splits import Length, split_ground
from cmid_mm.labels.errors import LabelError
from cmid_mm.labels.layers import LabelLayer
from tests.datasets.windowed.ground import EAST, NORTH, PIXEL, write_raster

TOOL = Path(__file__).parents[3] / 'tools' / 'split_dataset.py'
CLASSES = ['other', 'rye', 'hay']
SHARES = dict(train=0.6, val=0.2, test=0.2)


@pytest.fixture
def ground(tmp_path: Path) -> Path:
    """Two scenes side by side, the second with a rare class in two places."""
    rng = np.random.default_rng(0)
    mask = rng.integers(0, 2, (200, 400)).astype(np.uint8)
    mask[90:96, 210:216] = mask[150:153, 300:303] = 2
    write_raster(tmp_path / 'labels.tif', mask)
    for name, left in (('a', 0), ('b', 200)):
        image = np.full((3, 200, 200), 9, np.uint8)
        write_raster(tmp_path / 'scenes' / f'{name}.tif', image, left)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *options: object) -> object:
    monkeypatch.setattr(sys, 'argv', ['split_dataset.py', *map(str, options)])
    try:
        runpy.run_path(str(TOOL), run_name='__main__')
    except SystemExit as stop:
        return stop.code
    return None


def options(root: Path, **changes: object) -> list[object]:
    given = {
        'labels': root / 'labels.tif',
        'classes': CLASSES,
        'block': '50px',
        'guard': '4px',
        'train-ratio': 0.6,
        'val-ratio': 0.2,
        'out': root / 'split',
        **changes,
    }
    words: list[object] = [root / 'scenes']
    for name, value in given.items():
        words += [f'--{name}', *(value if isinstance(value, list) else [value])]
    return words


def test_windows_of_parts_keep_the_guard_strip_between_them(
    ground, monkeypatch, capsys
):
    assert run(monkeypatch, *options(ground)) is None
    printed = capsys.readouterr().out
    assert 'windows of up to 46 pixels' in printed
    init_default_scope('mmseg')
    windows = {}
    for part in SHARES:
        dataset = WindowedSegmentation(
            images='scenes',
            labels=dict(path='labels.tif', classes=CLASSES),
            window=20,
            overlap=5,
            aoi=f'split/{part}.gpkg',
            data_root=str(ground),
            pipeline=[dict(type='LoadImagery'), dict(type='LoadWindowLabels')],
        )
        shapes = []
        for i in range(len(dataset)):
            info = dataset.get_data_info(i)
            top, left = info['window'][:2]
            left += 200 * info['img_path'].endswith('b.tif')
            shapes.append(shapely.box(left, top, left + 20, top + 20))
            assert (dataset[i]['gt_seg_map'] != 255).all()
        windows[part] = shapely.union_all(shapes)
    assert windows['train'].distance(windows['test']) == 4
    assert windows['train'].distance(windows['val']) == 4
    assert sum(shape.area for shape in windows.values()) > 0.8 * 200 * 400


def test_the_report_says_the_shares_and_what_a_part_lacks(ground, monkeypatch, capsys):
    assert run(monkeypatch, *options(ground)) is None
    printed = capsys.readouterr().out
    blocks = [int(line.split()[-2]) for line in printed.splitlines()[:3]]
    assert sum(blocks) == 32
    lines = [line.split() for line in printed.splitlines() if '%' in line]
    rows = {words[0]: words[1:] for words in lines}
    assert list(rows) == [*CLASSES, 'of']
    shares = np.array([[float(cell.rstrip('%')) for cell in rows[c]] for c in CLASSES])
    np.testing.assert_allclose(shares.sum(axis=0), 100, atol=0.02)
    np.testing.assert_allclose(shares[:2], 50, atol=2)
    of_all = [float(cell.rstrip('%')) for cell in rows['of'][1:]]
    np.testing.assert_allclose(of_all, [100, 60, 20, 20], atol=4)
    assert 'has no hay: only 2 of 32 blocks have' in printed


def test_the_same_seed_splits_alike_and_files_are_not_overwritten(ground, monkeypatch):
    def blocks(*more: object) -> list[str]:
        assert run(monkeypatch, *options(ground), *more) is None
        frame = geopandas.read_file(ground / 'split' / 'test.gpkg')
        return sorted(frame.to_wkt().geometry)

    first = blocks()
    assert 'exists' in str(run(monkeypatch, *options(ground)))
    assert blocks('--overwrite') == first
    assert blocks('--overwrite', '--seed', 3) != first


def test_blocks_fill_the_scenes_and_metres_are_metres(ground):
    scenes = [str(ground / 'scenes' / f'{name}.tif') for name in 'ab']
    layers = LayersOfScenes(
        LabelLayer, dict(path='labels.tif', classes=CLASSES), str(ground), scenes
    )
    split = split_ground(scenes, layers, Length(90, 'm'), Length(4, 'm'), SHARES)
    # 800 x 400 metres: eight and four blocks of 100.
    sides = np.ptp(np.array(split.blocks).reshape(-1, 2, 2), axis=1)
    assert len(split.blocks) == 32 and sides.max() == 98 and sides.min() == 96
    assert split.blocks[0] == (EAST, NORTH - 98, EAST + 98, NORTH)
    assert split.counts.sum() * PIXEL**2 == sides.prod(axis=1).sum()


def test_scenes_in_degrees_are_divided_in_metres(ground):
    import rasterio
    from rasterio import Affine

    path = ground / 'degrees.tif'
    with rasterio.open(
        path,
        'w',
        driver='GTiff',
        height=100,
        width=100,
        count=1,
        dtype='uint8',
        crs='EPSG:4326',
        transform=Affine(2e-5, 0, 9.0, 0, -2e-5, 48.75),
    ) as target:
        target.write(np.ones((1, 100, 100), np.uint8))
    layers = LayersOfScenes(
        LabelLayer, dict(path=str(path), classes=CLASSES), '', [str(path)]
    )
    split = split_ground([str(path)], layers, Length(70, 'm'), Length(2, 'm'), SHARES)
    assert split.crs.to_epsg() == 32632
    # 147 x 222 metres.
    assert len(split.blocks) == 2 * 3


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(block='300px'), r'1 of 1 blocks of 300px have labels'),
        (dict(guard='50px'), r'guard=50px leaves nothing of blocks of 50px'),
        (dict(block='5km'), r'5k'),
        ({'val-ratio': 0.5}, r'something remains for the test'),
    ],
    ids=str,
)
def test_a_split_that_cannot_be_is_refused(ground, monkeypatch, changes, message):
    import re

    assert re.search(message, str(run(monkeypatch, *options(ground, **changes))))
    assert not (ground / 'split').exists()


def test_a_scene_without_a_place_is_refused(ground):
    path = write_raster(ground / 'c.tif', np.ones((8, 8), np.uint8), crs=None)
    layers = LayersOfScenes(LabelLayer, dict(path=path, classes=CLASSES), '', [path])
    with pytest.raises(LabelError, match='is not georeferenced'):
        split_ground([path], layers, Length(4, 'px'), Length(1, 'px'), SHARES)


def test_a_misspelt_option_of_labels_is_named():
    labels = dict(path='labels.gpkg', feild='class')
    with pytest.raises(LabelError, match="'feild'; did you mean 'field'"):
        LayersOfScenes(LabelLayer, labels, '', ['a.tif'])
