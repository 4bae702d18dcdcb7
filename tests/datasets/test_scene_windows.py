# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import warnings
from collections import Counter

import numpy as np
import pytest
import rasterio
import shapely
import torch
from mmengine.dataset import default_collate
from PIL import Image
from torch.utils.data import DataLoader

from cmid_mm.datasets import ResumableSampler, SceneWindows, imagery
from cmid_mm.datasets.imagery import TooManyUnreadableError
from cmid_mm.datasets.scene_windows import NoWindowError
from cmid_mm.images import notices
from cmid_mm.labels.errors import LabelError

SIZE = 32
LOAD = dict(type='LoadImagery')


def write_scene(path, height=96, width=96, **profile):
    """A scene whose pixels tell their place: row, column, and 1."""
    rows, columns = np.mgrid[:height, :width]
    bands = np.stack([rows, columns, np.ones_like(rows)]).astype(np.uint16) + 1
    data = profile.pop('data', None)
    if data is not None:
        bands[:, ~data] = profile['nodata']
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        with rasterio.open(
            *(path, 'w', 'GTiff'),
            height=height,
            width=width,
            count=3,
            dtype='uint16',
            **profile,
        ) as file:
            file.write(bands)
    return path


def scene_windows(root, **options):
    options.setdefault('pipeline', [dict(LOAD, value_range=(0, 255))])
    options.setdefault('tile_size', SIZE)
    return SceneWindows(str(root), **options)


def places(dataset, keys):
    """Scene and window of samples."""
    samples = [dataset[key] for key in keys]
    return [(sample['sample_idx'], sample['window']) for sample in samples]


def keys_of(dataset, epoch, seed=0, start=0):
    sampler = ResumableSampler(dataset, seed=seed)
    sampler.set_epoch(epoch, start)
    return list(sampler)


@pytest.fixture
def warned(monkeypatch):
    messages = []
    for module in (imagery, notices):
        monkeypatch.setattr(
            module, 'print_log', lambda message, *_, **__: messages.append(message)
        )
    return messages


@pytest.fixture
def root(tmp_path):
    write_scene(tmp_path / 'a.tif')
    write_scene(tmp_path / 'b' / 'c.tif', 96, 192)
    return tmp_path


# -- Windows -----------------------------------------------------------------------


def test_a_window_holds_its_part_of_the_scene(root):
    dataset = scene_windows(root)
    for key in range(20):
        sample = dataset[key]
        top, left, height, width = sample['window']
        assert sample['img'].shape == (height, width, 3) == (SIZE, SIZE, 3)
        np.testing.assert_allclose(sample['img'][0, :, 1], np.arange(width) + left + 1)
        np.testing.assert_allclose(sample['img'][:, 0, 0], np.arange(height) + top + 1)


def test_an_epoch_covers_the_area_once_or_has_a_stated_length(root):
    assert len(scene_windows(root)) == 3 * 96 * 96 // SIZE**2
    assert len(scene_windows(root, per_epoch=5)) == 5
    assert scene_windows(root, per_epoch=5).num_scenes == 2


def test_every_epoch_and_seed_has_windows_of_its_own(root):
    dataset = scene_windows(root, per_epoch=20)
    first = places(dataset, keys_of(dataset, 0))
    assert places(dataset, keys_of(dataset, 0)) == first
    for epoch, seed in [(1, 0), (0, 1)]:
        others = places(dataset, keys_of(dataset, epoch, seed))
        assert len(set(first) & set(others)) < 3


def test_windows_do_not_depend_on_workers_nor_on_what_was_loaded(tmp_path, warned):
    data = np.zeros((96, 96), bool)
    data[:, :40] = True
    write_scene(tmp_path / 'a.tif', data=data, nodata=0)
    write_scene(tmp_path / 'b.tif')
    (tmp_path / 'c.tif').write_bytes((tmp_path / 'b.tif').read_bytes()[:20000])
    options = dict(per_epoch=40, max_unreadable=1)
    keys = keys_of(scene_windows(tmp_path, **options), epoch=3)
    runs = []
    for workers in (0, 2):
        dataset = scene_windows(tmp_path, **options)
        loader = DataLoader(
            dataset, 4, sampler=keys, num_workers=workers, collate_fn=list
        )
        runs.append([sample['window'] for batch in loader for sample in batch])
        assert dataset.unreadable_paths() == [str(tmp_path / 'c.tif')]
        assert dataset.empty_count > 5
    assert runs[0] == runs[1] and len(runs[0]) == 40
    resumed = scene_windows(tmp_path, **options)
    rest = places(resumed, keys_of(resumed, epoch=3, start=28))
    assert [window for _, window in rest] == runs[0][28:]


def test_windows_are_drawn_by_valid_area(tmp_path, warned):
    data = np.zeros((128, 128), bool)
    data[:, :64] = True
    write_scene(tmp_path / 'half.tif', 128, 128, data=data, nodata=0)
    write_scene(tmp_path / 'small.tif', 64, 64)
    dataset = scene_windows(tmp_path, tile_size=16, per_epoch=600)
    seen = Counter()
    for scene, (top, left, *_) in places(dataset, range(600)):
        if scene == 0:
            assert left + 8 <= 64  # at least half of it is data
            seen['top' if top + 8 < 64 else 'bottom'] += 1
        else:
            seen['small'] += 1
    # Valid areas are 2 : 1; standard deviations are at most 12.2.
    for part in ('top', 'bottom', 'small'):
        assert abs(seen[part] - 200) < 4 * 12
    # Of the half scene, about every second window was drawn again.
    assert 250 < dataset.empty_count < 550
    assert len(warned) == 1 and 'drawn at random' in warned[0]


@pytest.mark.parametrize('least', [0.0, 0.25, 1.0])
def test_share_of_valid_pixels(tmp_path, warned, least):
    data = np.zeros((96, 96), bool)
    data[:48] = True
    write_scene(tmp_path / 'a.tif', data=data, nodata=0)
    dataset = scene_windows(tmp_path, per_epoch=120, min_valid=least)
    tops = [top for _, (top, *_) in places(dataset, range(120))]
    most = 48 - SIZE * least if least else 47  # one row of data has to be there
    assert most - 6 <= max(tops) <= most


def test_weights_by_name_pattern_and_list(root):
    dataset = scene_windows(root, weights={'a.tif': 0})
    assert {scene for scene, _ in places(dataset, range(20))} == {1}
    dataset = scene_windows(root, weights={'b/*': 0.0, '*': 3.0})
    assert {scene for scene, _ in places(dataset, range(20))} == {0}
    (root / 'list.txt').write_text('a.tif\t0\nb/c.tif\n')
    dataset = scene_windows(root, ann_file='list.txt')
    assert {scene for scene, _ in places(dataset, range(20))} == {1}
    dataset = scene_windows(root, ann_file='list.txt', weights={'a.tif': 1000})
    assert 0 in {scene for scene, _ in places(dataset, range(20))}


def test_small_scenes_and_photographs_are_taken_whole(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 40, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'a.png')
    dataset = scene_windows(tmp_path, pipeline=[LOAD])
    for key in range(8):
        sample = dataset[key]
        top, left, height, width = sample['window']
        assert (top, height, width) == (0, 20, SIZE)
        np.testing.assert_array_equal(sample['img'], pixels[:, left : left + SIZE])


def test_samples_for_the_method(root):
    pipeline = [
        dict(LOAD, size=64, value_range=(0, 200)),
        dict(type='ViewPair', size=64),
        dict(type='PhotometricNoise'),
        dict(type='MaskPair', size=64, patch_size=16),
        dict(type='PackViewPair'),
    ]
    dataset = scene_windows(root, pipeline=pipeline)
    batch = default_collate([dataset[3], dataset[4]])
    assert batch['inputs'].shape == (2, 2, 3, 64, 64)
    again = default_collate([dataset[3], dataset[4]])
    assert all(torch.equal(batch[key], again[key]) for key in batch)


# -- Scenes that give none ---------------------------------------------------------


def test_unreadable_scenes_are_reported_once(root, warned):
    (root / 'd.tif').write_bytes(b'no image')  # found by its header
    cut = write_scene(root / 'e.tif')  # found by its pixels
    cut.write_bytes(cut.read_bytes()[:20000])
    dataset = scene_windows(root, max_unreadable=1)
    assert dataset.unreadable_paths() == [str(root / 'd.tif')]
    scenes = {scene for scene, _ in places(dataset, range(40))}
    assert scenes == {0, 1}
    assert dataset.unreadable_count == 2 and dataset.empty_count == 0
    assert len(warned) == 2
    strict = scene_windows(root, max_unreadable=0.25)
    with pytest.raises(TooManyUnreadableError, match='2 of 4 images'):
        places(strict, range(40))


def test_no_scene_can_be_read(tmp_path, warned):
    (tmp_path / 'd.tif').write_bytes(b'no image')
    with pytest.raises(
        TooManyUnreadableError, match=r'no scene of .*d\.tif: .*not rec'
    ):
        len(scene_windows(tmp_path))


def test_no_window_with_enough_data(tmp_path, warned):
    data = np.zeros((96, 96), bool)
    data[::2] = True
    write_scene(tmp_path / 'a.tif', data=data, nodata=0)
    dataset = scene_windows(tmp_path, min_valid=0.6)
    with pytest.raises(NoWindowError, match=r'min_valid=0\.6.*a\.tif.*Lower'):
        dataset[0]


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(tile_size=0), 'tile_size'),
        (dict(per_epoch=0), 'per_epoch'),
        (dict(min_valid=1.5), 'min_valid is a share'),
        (dict(weights={'a.tif': -1}), r"weights\['a.tif'\] must be"),
        (dict(weights={'d.tif': 1}), "'d.tif', but no scene.*closest is 'a.tif'"),
        (dict(weights={'*': 0}), 'all scenes have the weight 0'),
    ],
)
def test_settings_out_of_range(root, settings, message):
    with pytest.raises(ValueError, match=message):
        scene_windows(root, **settings)


@pytest.mark.parametrize('text', ['much', '-1', 'nan'])
def test_weight_of_the_list_is_no_number(root, text):
    (root / 'list.txt').write_text(f'a.tif\nb/c.tif\t{text}\n')
    with pytest.raises(ValueError, match=r'list\.txt, line 2: the weight'):
        scene_windows(root, ann_file='list.txt')


# -- Polygons to draw from ---------------------------------------------------------

ZONE = dict(crs='EPSG:32632', nodata=0)


@pytest.fixture
def placed_root(tmp_path):
    """Two scenes side by side, pixels of 10 m, and one in the next zone far away."""
    for number, left in enumerate([500000, 500960]):
        transform = rasterio.transform.from_origin(left, 5000000, 10, 10)
        write_scene(tmp_path / f'{number}.tif', transform=transform, **ZONE)
    transform = rasterio.transform.from_origin(500000, 5000000, 10, 10)
    write_scene(tmp_path / '2.tif', transform=transform, crs='EPSG:32633')
    return tmp_path


def write_area(path, *boxes, crs='EPSG:4326'):
    """Boxes (left, bottom, right, top) in metres of zone 32, written in a system."""
    geopandas = pytest.importorskip('geopandas')
    frame = geopandas.GeoDataFrame(
        geometry=[shapely.box(*edges) for edges in boxes], crs='EPSG:32632'
    )
    frame.to_crs(crs).to_file(path)
    return str(path)


@pytest.mark.parametrize('name', ['area.geojson', 'area.gpkg', 'area.shp'])
def test_centres_lie_in_the_polygons(placed_root, name):
    # Columns 40 to 96 of the first scene and 0 to 28 of the second, rows 30 to 60.
    area = (500400, 5000000 - 600, 501240, 5000000 - 300)
    write_area(placed_root / name, area)
    dataset = scene_windows(placed_root, aoi=name, per_epoch=120)
    seen = places(dataset, range(120))
    for scene, (top, left, *_) in seen:
        assert 29 <= top + SIZE / 2 <= 61
        column = 96 * scene + left + SIZE / 2
        # At the edge between both, windows are shifted by up to half of their side.
        assert 39 <= column <= 96 - SIZE / 2 or 96 + SIZE / 2 <= column <= 125
    shares = np.bincount([scene for scene, _ in seen]) / 120
    # By the area of the polygon in each: 2 to 1.
    assert len(shares) == 2 and abs(shares[0] - 2 / 3) < 4 * 0.043


def test_the_epoch_covers_the_polygons_once(placed_root):
    # 64 x 64 pixels, drawn twice over each other.
    area = (500160, 5000000 - 800, 500800, 5000000 - 160)
    write_area(placed_root / 'area.gpkg', area, area)
    assert len(scene_windows(placed_root, aoi='area.gpkg')) == 4


def test_polygons_apart_from_all_scenes(placed_root):
    write_area(placed_root / 'area.gpkg', (600000, 5000000, 600100, 5000100))
    with pytest.raises(LabelError, match=r'none of the 3 scenes.*0\.tif \(EPSG:32632'):
        scene_windows(placed_root, aoi='area.gpkg')


def test_polygons_and_a_scene_without_place(placed_root):
    write_scene(placed_root / '3.tif')
    write_area(placed_root / 'area.gpkg', (500000, 4999000, 500400, 5000000))
    with pytest.raises(LabelError, match=r'upon .*3\.tif, which is not georef'):
        scene_windows(placed_root, aoi='area.gpkg')


def test_missing_polygons(placed_root):
    with pytest.raises(FileNotFoundError, match=r'absent\.gpkg'):
        scene_windows(placed_root, aoi='absent.gpkg')


# -- Distance on the ground, and masks beside scenes -------------------------------


def test_windows_are_in_pixels_of_the_distance(placed_root):
    (placed_root / '2.tif').unlink()
    pipeline = [dict(LOAD, value_range=(0, 255), gsd=20)]
    dataset = scene_windows(placed_root, pipeline=pipeline, tile_size=16)
    # Two scenes of 48 x 48 pixels of 20 m.
    assert len(dataset) == 2 * 9
    for key in range(10):
        sample = dataset[key]
        top, left, *_ = sample['window']
        assert max(top, left) <= 48 - 16
        # Each the mean of two of the file's, which count from 1.
        columns = 2 * (np.arange(16) + left) + 1.5
        np.testing.assert_allclose(sample['img'][0, :, 1], columns, atol=0.51)


def test_centres_lie_in_polygons_at_a_distance(placed_root):
    (placed_root / '2.tif').unlink()
    # Columns 40 to 56 and rows 30 to 60 of the first scene.
    write_area(placed_root / 'area.gpkg', (500400, 4999400, 500560, 4999700))
    pipeline = [dict(LOAD, value_range=(0, 255), gsd=20)]
    dataset = scene_windows(
        placed_root, pipeline=pipeline, tile_size=8, aoi='area.gpkg', per_epoch=30
    )
    for scene, (top, left, *_) in places(dataset, range(30)):
        assert scene == 0
        assert 19 <= left + 4 <= 29 and 14 <= top + 4 <= 31


def test_pixels_under_a_mask_do_not_count(tmp_path, warned):
    write_scene(tmp_path / 'images' / 'a.tif', **ZONE)
    mask = np.zeros((1, 96, 96), np.uint8)
    mask[:, :, 48:] = 3
    with rasterio.open(
        *(tmp_path / 'a_cloud.tif', 'w', 'GTiff'),
        height=96,
        width=96,
        count=1,
        dtype='uint8',
    ) as file:
        file.write(mask)
    quality = dict(file='../{stem}_cloud.tif', values=[3])
    pipeline = [dict(LOAD, value_range=(0, 255), quality=quality)]
    dataset = scene_windows(
        tmp_path / 'images', pipeline=pipeline, tile_size=16, min_valid=0.75
    )
    lefts = [left for _, (_, left, *_) in places(dataset, range(60))]
    assert 30 <= max(lefts) <= 48 - 12
