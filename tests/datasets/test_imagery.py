# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import os
import warnings
from collections import Counter

import numpy as np
import pytest
import rasterio
import torch
from mmengine.dataset import default_collate
from PIL import Image
from torch.utils.data import DataLoader

from cmid_mm.datasets import ImageryDataset, imagery
from cmid_mm.datasets.imagery import TooManyUnreadableError
from cmid_mm.datasets.transforms import BandMismatchError
from cmid_mm.images import notices

SIZE = 64
PIPELINE = [
    dict(type='LoadImagery', size=SIZE),
    dict(type='ViewPair', size=SIZE),
    dict(type='PhotometricNoise'),
    dict(type='MaskPair', size=SIZE, patch_size=16),
    dict(type='PackViewPair'),
]


def write(path, height=80, width=80, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def write_raster(path, pixels, **profile):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        with rasterio.open(
            path,
            'w',
            driver='GTiff',
            height=pixels.shape[0],
            width=pixels.shape[1],
            count=pixels.shape[2],
            dtype=pixels.dtype,
            **profile,
        ) as target:
            target.write(pixels.transpose(2, 0, 1))


def truncate(path, share=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


@pytest.fixture
def folder(tmp_path):
    for number in range(6):
        write(tmp_path / 'images' / f'{number}.jpg', seed=number)
    return tmp_path / 'images'


@pytest.fixture
def warned(monkeypatch):
    messages = []
    for module in (imagery, notices):
        monkeypatch.setattr(
            module, 'print_log', lambda message, *_, **__: messages.append(message)
        )
    return messages


def names(dataset):
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    return [os.path.relpath(info['img_path'], dataset.data_root) for info in infos]


def same(first, second):
    return all(torch.equal(first[key], second[key]) for key in first)


# -- Finding files -----------------------------------------------------------------


def test_any_depth_any_case_sorted(tmp_path):
    for name in ('b/2.JPG', 'b/1.jpeg', 'a.png', 'b/c/d/x.TIFF', 'c.tif'):
        write(tmp_path / name)
    for name in ('notes.txt', 'b/._2.jpg', '.cache/y.png', 'world.tfw'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('no image')
    dataset = ImageryDataset(str(tmp_path))
    assert names(dataset) == ['a.png', 'b/1.jpeg', 'b/2.JPG', 'b/c/d/x.TIFF', 'c.tif']


def test_linked_folders_are_searched_once(tmp_path, folder):
    root = tmp_path / 'root'
    root.mkdir()
    (root / 'data').symlink_to(folder)
    (folder / 'loop').symlink_to(root)
    assert len(ImageryDataset(str(root))) == 6


def test_list_of_paths(tmp_path, folder):
    (folder / 'list.txt').write_text('# two of them\n\n3.jpg\n  1.jpg \n')
    dataset = ImageryDataset(str(folder), 'list.txt')
    assert names(dataset) == ['3.jpg', '1.jpg']
    absolute = tmp_path / 'absolute.txt'
    absolute.write_text(f'{folder}/0.jpg\n')
    assert names(ImageryDataset(str(folder), str(absolute))) == ['0.jpg']


def test_indices_choose_a_subset(folder):
    assert names(ImageryDataset(str(folder), indices=2)) == ['0.jpg', '1.jpg']


@pytest.mark.parametrize(('name', 'found'), [('3.jpg', '3'), ('[24].jpg', '24')])
def test_one_scene_or_a_pattern(folder, name, found):
    dataset = ImageryDataset(str(folder / name))
    paths = [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]
    assert paths == [str(folder / f'{number}.jpg') for number in found]


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'absent.*does not exist.*\.jpg'):
        ImageryDataset(str(tmp_path / 'absent'))


def test_empty_folder(tmp_path):
    (tmp_path / 'a.gif').write_text('')
    with pytest.raises(FileNotFoundError, match=r'holds no image.*\.tif'):
        ImageryDataset(str(tmp_path))


def test_missing_list(folder):
    with pytest.raises(FileNotFoundError, match=r'list\.txt.*does not exist'):
        ImageryDataset(str(folder), 'list.txt')


def test_empty_list(folder):
    (folder / 'list.txt').write_text('# nothing\n')
    with pytest.raises(ValueError, match=r'list\.txt lists nothing'):
        ImageryDataset(str(folder), 'list.txt')


def test_listed_files_absent(folder):
    (folder / 'list.txt').write_text('0.jpg\n8.jpg\n9.jpg\n')
    with pytest.raises(FileNotFoundError, match=r'2 of 3 files.*8\.jpg.*data_root'):
        ImageryDataset(str(folder), 'list.txt')


def test_listed_file_of_another_kind(folder):
    (folder / 'list.txt').write_text('0.jpg\nlist.txt\n')
    with pytest.raises(ValueError, match=r"first 'list\.txt'"):
        ImageryDataset(str(folder), 'list.txt')


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(tile_size=0), 'tile_size'),
        (dict(tile_size=8, tile_overlap=8), 'tile_overlap'),
        (dict(tile_overlap=8), 'tile_overlap'),
        (dict(max_unreadable=2), 'max_unreadable'),
    ],
)
def test_settings_out_of_range(folder, settings, message):
    with pytest.raises(ValueError, match=message):
        ImageryDataset(str(folder), **settings)


# -- Samples -----------------------------------------------------------------------


def test_sample_format(folder):
    sample = ImageryDataset(str(folder), pipeline=PIPELINE)[4]
    assert sample['inputs'].shape == (2, 3, SIZE, SIZE)
    assert sample['inputs'].dtype == torch.uint8
    assert sample['masks'].shape == (2, 4, 4)
    assert sample['masks'].sum().item() == 2 * 10
    assert sample['boxes'].shape == (2, 5)
    assert sample['index'].item() == 4


def test_key_folds_in_the_epoch(folder):
    dataset = ImageryDataset(str(folder), pipeline=PIPELINE)
    epoch = (12345 * 2**20 + 7) * 6  # beyond 32 bits
    assert dataset[epoch + 2]['index'] == 2
    assert same(dataset[epoch + 2], dataset[epoch + 2])
    assert not same(dataset[epoch + 2], dataset[epoch + 6 + 2])
    assert not same(dataset[epoch + 2], dataset[2])


def test_sample_depends_neither_on_order_nor_on_global_state(folder):
    dataset = ImageryDataset(str(folder), pipeline=PIPELINE)
    expected = [dataset[key] for key in range(6)]
    np.random.seed(99)
    for key in reversed(range(6)):
        assert same(dataset[key], expected[key])


def test_workers_give_the_same_samples(folder):
    dataset = ImageryDataset(str(folder), pipeline=PIPELINE)
    keys = [6 * 3 + index for index in (5, 0, 3, 1, 4, 2)]
    batches = []
    for workers in (0, 2):
        loader = DataLoader(
            dataset, 2, sampler=keys, num_workers=workers, collate_fn=default_collate
        )
        batches.append(list(loader))
    assert len(batches[0]) == 3
    for alone, together in zip(*batches, strict=True):
        assert same(alone, together)


def test_multispectral_16_bit(tmp_path):
    for number in range(2):
        pixels = np.full((70, 70, 8), 1000 * (number + 1), np.uint16)
        write_raster(tmp_path / f'{number}.tif', pixels)
    load = dict(type='LoadImagery', size=SIZE, num_bands=8, value_range=(0, 10000))
    dataset = ImageryDataset(str(tmp_path), pipeline=[load, *PIPELINE[1:]])
    batch = default_collate([dataset[0], dataset[1]])
    assert batch['inputs'].shape == (2, 2, 8, SIZE, SIZE)
    assert batch['inputs'].dtype == torch.float32
    assert torch.allclose(batch['inputs'][1, 0], torch.tensor(51.0))


# -- Tiles -------------------------------------------------------------------------


def test_tiles_cover_large_images_at_full_size(tmp_path):
    write(tmp_path / 'a.tif', 100, 250)
    write(tmp_path / 'b.png', 90, 64)
    write(tmp_path / 'c.jpg', 60, 100)
    dataset = ImageryDataset(str(tmp_path), tile_size=100, tile_overlap=20)
    windows = {}
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        windows.setdefault(os.path.basename(info['img_path']), []).append(
            tuple(info['window'])
        )
    assert windows == {
        'a.tif': [(0, 0, 100, 100), (0, 80, 100, 100), (0, 150, 100, 100)],
        'b.png': [(0, 0, 90, 64)],
        'c.jpg': [(0, 0, 60, 100)],
    }


@pytest.mark.parametrize('tile, overlap', [(64, 0), (64, 16), (100, 99), (128, 3)])
def test_tiles_leave_no_pixel_out(tmp_path, tile, overlap):
    write(tmp_path / 'a.png', 131, 128)
    dataset = ImageryDataset(str(tmp_path), tile_size=tile, tile_overlap=overlap)
    covered = np.zeros((131, 128), int)
    for index in range(len(dataset)):
        top, left, height, width = dataset.get_data_info(index)['window']
        assert (height, width) == (tile, tile)
        covered[top : top + height, left : left + width] += 1
    assert covered.min() >= 1


def test_tiles_at_a_distance_on_the_ground(tmp_path):
    """Scenes of two zones and two distances give tiles of one."""
    generator = np.random.default_rng(0)
    for name, crs, distance, side in (
        ('a.tif', 'EPSG:32650', 10, 128),
        ('b.tif', 'EPSG:32651', 20, 96),
    ):
        pixels = generator.integers(1, 255, (side, side, 3), np.uint8)
        transform = rasterio.transform.from_origin(5e5, 3e6, distance, distance)
        write_raster(tmp_path / name, pixels, crs=crs, transform=transform)
    loader = dict(type='LoadImagery', gsd=20)
    dataset = ImageryDataset(str(tmp_path), tile_size=64, pipeline=[loader])
    windows = [dataset.get_data_info(i)['window'] for i in range(len(dataset))]
    # The finer one is 64 pixels wide at that distance.
    assert windows[0] == (0, 0, 64, 64)
    assert windows[1:] == [(i, j, 64, 64) for i in (0, 32) for j in (0, 32)]
    assert {dataset[i]['img'].shape for i in range(5)} == {(64, 64, 3)}
    with rasterio.open(tmp_path / 'a.tif') as source:
        fine = source.read().transpose(1, 2, 0).reshape(64, 2, 64, 2, 3)
    np.testing.assert_allclose(dataset[0]['img'], fine.mean(axis=(1, 3)), atol=0.51)


def test_no_distance_without_a_place(tmp_path):
    write(tmp_path / 'a.png')
    loader = dict(type='LoadImagery', gsd=20)
    with pytest.raises(ValueError, match=r'a\.png: gsd needs a place'):
        ImageryDataset(str(tmp_path), tile_size=64, pipeline=[loader])


def test_tile_holds_its_part_of_the_image(tmp_path):
    pixels = write(tmp_path / 'a.tif', 2 * SIZE, 2 * SIZE)
    dataset = ImageryDataset(
        str(tmp_path), tile_size=SIZE, pipeline=[dict(type='LoadImagery', size=SIZE)]
    )
    assert len(dataset) == 4
    np.testing.assert_array_equal(dataset[1]['img'], pixels[:SIZE, SIZE:])
    np.testing.assert_array_equal(dataset[2]['img'], pixels[SIZE:, :SIZE])


def test_empty_tiles_are_replaced_by_others_drawn_evenly(tmp_path, warned):
    # 25 windows, of which the 10 in the middle of the scene hold no data.
    pixels = np.full((5 * SIZE, 5 * SIZE, 3), 9, np.uint8)
    pixels[SIZE : 3 * SIZE] = 0
    write_raster(tmp_path / 'a.tif', pixels, nodata=0)
    dataset = ImageryDataset(
        str(tmp_path), tile_size=SIZE, pipeline=PIPELINE, max_unreadable=0
    )
    epochs = 20
    seen = Counter(int(dataset[key]['index']) for key in range(25 * epochs))
    assert sorted(seen) == [*range(5), *range(15, 25)]
    assert (dataset.empty_count, dataset.unreadable_count) == (10, 0)
    assert len(warned) == 1 and 'no valid pixel in window' in warned[0]
    # Each usable window stands in for 10 / 15 others an epoch, wherever it lies; the
    # standard deviation of that is sqrt(2 / 3 * 20) = 3.7 in all.
    mean = epochs * (1 + 10 / 15)
    assert max(abs(count - mean) for count in seen.values()) < 4 * 3.7


# -- Unreadable files --------------------------------------------------------------


def test_unreadable_file_is_replaced_and_reported_once(folder, warned):
    truncate(folder / '2.jpg')
    dataset = ImageryDataset(str(folder), pipeline=PIPELINE)
    first = dataset[2]
    assert first['index'] != 2
    assert same(dataset[2], first)
    assert dataset[6 + 2]['index'] != 2
    assert len(warned) == 1
    assert '2.jpg' in warned[0] and 'truncated' in warned[0]
    assert dataset.unreadable_count == 1
    assert dataset.unreadable_paths() == [str(folder / '2.jpg')]


def test_replacement_does_not_depend_on_what_is_known(folder, warned):
    truncate(folder / '5.jpg')
    fresh = ImageryDataset(str(folder), pipeline=PIPELINE)[5]
    dataset = ImageryDataset(str(folder), pipeline=PIPELINE)
    _ = dataset[11]
    assert fresh['index'] != 5
    assert same(dataset[5], fresh)


def test_workers_share_what_they_find(folder, warned):
    truncate(folder / '2.jpg')
    dataset = ImageryDataset(str(folder), pipeline=PIPELINE)
    loader = DataLoader(dataset, 2, num_workers=2, collate_fn=default_collate)
    indices = torch.cat([batch['index'] for batch in loader])
    assert [0, 1, 3, 4, 5] == sorted(set(indices.tolist())) and len(indices) == 6
    assert dataset.unreadable_paths() == [str(folder / '2.jpg')]
    # Known here too, so it is not tried again.
    assert dataset[2]['index'] != 2
    assert warned == []


def test_image_without_valid_pixel_is_unreadable(tmp_path, warned):
    write(tmp_path / 'a.png')
    write_raster(tmp_path / 'b.tif', np.zeros((70, 70, 3), np.uint8), nodata=0)
    dataset = ImageryDataset(str(tmp_path), pipeline=PIPELINE)
    assert dataset[1]['index'] == 0
    assert dataset.unreadable_paths() == [str(tmp_path / 'b.tif')]
    assert 'no valid pixel' in warned[0]


def test_unreadable_tiled_file_counts_once(tmp_path, warned):
    write(tmp_path / 'a.png', 2 * SIZE, 2 * SIZE)
    write(tmp_path / 'b.png', 2 * SIZE, 2 * SIZE)
    truncate(tmp_path / 'a.png')
    dataset = ImageryDataset(str(tmp_path), tile_size=SIZE, pipeline=PIPELINE)
    assert len(dataset) == 8
    assert dataset[2]['index'] >= 4
    assert dataset[0]['index'] >= 4
    assert len(warned) == 1
    assert dataset.unreadable_paths() == [str(tmp_path / 'a.png')]


def test_too_many_unreadable_files_stop_training(folder, warned):
    for number in (0, 2, 3):
        truncate(folder / f'{number}.jpg')
    dataset = ImageryDataset(str(folder), pipeline=PIPELINE, max_unreadable=0.4)
    with pytest.raises(TooManyUnreadableError) as caught:
        for key in range(6):
            assert dataset[key]['index'] not in (0, 2, 3)
    message = str(caught.value)
    for part in ('3 of 6', '0.jpg', '2.jpg', '3.jpg', 'max_unreadable'):
        assert part in message


def test_no_tolerance(folder, warned):
    truncate(folder / '0.jpg')
    dataset = ImageryDataset(str(folder), pipeline=PIPELINE, max_unreadable=0)
    with pytest.raises(TooManyUnreadableError, match='1 of 6'):
        dataset[0]


def test_nothing_readable(folder, warned):
    for number in range(6):
        truncate(folder / f'{number}.jpg')
    dataset = ImageryDataset(str(folder), pipeline=PIPELINE, max_unreadable=1)
    with pytest.raises(TooManyUnreadableError, match='None of the 6 samples'):
        dataset[0]


@pytest.mark.parametrize('workers', [0, 1])
def test_wrong_band_count_stops_the_run(tmp_path, workers, warned):
    write_raster(tmp_path / 'a.tif', np.ones((70, 70, 8), np.uint8))
    dataset = ImageryDataset(str(tmp_path), pipeline=PIPELINE)
    with pytest.raises(BandMismatchError, match='found 8 bands, expected 3'):
        next(iter(DataLoader(dataset, num_workers=workers)))
    assert dataset.unreadable_count == 0
