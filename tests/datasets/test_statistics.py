# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from cmid_mm.datasets import ImageryDataset
from cmid_mm.datasets.statistics import (
    BandMoments,
    dataset_statistics,
    measure_values,
    reading_of,
    suggested_range,
)
from cmid_mm.images.errors import BandMismatchError, UnreadableImageError


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


def statistics_of(folder, *, tile_size=None, run=(), **options):
    """Statistics of a folder's images, read by these options."""
    dataset = ImageryDataset(str(folder), tile_size=tile_size)
    return dataset_statistics(dataset, reading_of(dataset, **options), **dict(run))


@pytest.fixture
def photographs(tmp_path):
    generator = np.random.default_rng(0)
    images = generator.integers(0, 200, (7, 32, 32, 3)).astype(np.uint8)
    images += np.arange(7, dtype=np.uint8)[:, None, None, None] * 8
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f'{number}.png')
    return tmp_path, images


def test_moments_are_stable_far_from_zero():
    generator = np.random.default_rng(0)
    parts = [1e9 + generator.normal(0, 1, (9, 9, 2)) for _ in range(50)]
    total = BandMoments.empty(2)
    for part in parts:
        total.add(BandMoments.of_image(part))
    values = np.concatenate([part.reshape(-1, 2) for part in parts])
    np.testing.assert_allclose(total.mean, values.mean(0), rtol=1e-14)
    np.testing.assert_allclose(total.std, values.std(0), rtol=1e-5)


@pytest.mark.parametrize('workers', [0, 2])
def test_statistics_equal_numpy(photographs, workers):
    folder, images = photographs
    seen = []

    def progress(items):
        for item in items:
            seen.append(item)
            yield item

    run = dict(workers=workers, progress=progress)
    result = statistics_of(folder, size=32, run=run)
    np.testing.assert_allclose(result.mean, images.mean((0, 1, 2)), rtol=1e-10)
    np.testing.assert_allclose(result.std, images.std((0, 1, 2)), rtol=1e-10)
    assert result.images == len(seen) == 7
    assert result.value_range is None
    assert result.unreadable == []


def test_statistics_of_an_even_choice(photographs):
    folder, images = photographs
    result = statistics_of(folder, size=32, run=dict(max_images=3))
    np.testing.assert_allclose(result.mean, images[[0, 2, 4]].mean((0, 1, 2)))
    assert result.images == 3


def test_missing_pixels_do_not_count(tmp_path):
    generator = np.random.default_rng(1)
    pixels = generator.integers(100, 1100, (2, 40, 40, 5)).astype(np.int16)
    pixels[0, :15] = -1
    pixels[1, :, 9:11] = -1
    for number in range(2):
        write_raster(tmp_path / f'{number}.tif', pixels[number], nodata=-1)
    result = statistics_of(tmp_path, size=40, value_range=(0, 2550))
    values = np.ma.masked_equal(pixels, -1) / 10
    np.testing.assert_allclose(result.mean, values.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(result.std, values.std((0, 1, 2)), rtol=1e-5)
    assert result.value_range == (0, 2550)


def test_bands_and_tiles(tmp_path):
    generator = np.random.default_rng(2)
    pixels = generator.integers(0, 256, (64, 64, 4), np.uint8)
    write_raster(tmp_path / 'a.tif', pixels)
    result = statistics_of(tmp_path, tile_size=32, size=32, bands=[4, 2])
    np.testing.assert_allclose(result.mean, pixels.mean((0, 1))[[3, 1]])
    assert result.images == 4


def test_distance_and_mask_of_the_data_set(tmp_path):
    pixels = np.random.default_rng(0).integers(90, 110, (64, 64, 3)).astype(np.uint16)
    pixels[:32] = 9000
    place = dict(
        crs='EPSG:32650', transform=rasterio.transform.from_origin(5e5, 3e6, 10, 10)
    )
    write_raster(tmp_path / 'a.tif', pixels, **place)
    clouds = np.zeros((64, 64, 1), np.uint8)
    clouds[:32] = 9
    (tmp_path / 'masks').mkdir()
    write_raster(tmp_path / 'masks' / 'a.tif', clouds, **place)
    quality = dict(file='{folder}/masks/{stem}.tif', values=[9])
    loader = dict(type='LoadImagery', gsd=40, quality=quality)
    (tmp_path / 'list.txt').write_text('a.tif')
    dataset = ImageryDataset(str(tmp_path), 'list.txt', [loader], tile_size=16)
    reading = reading_of(dataset, value_range=(0, 255), size=16)
    assert len(dataset) == 1 and reading.gsd == 40
    found = dataset_statistics(dataset, reading)
    expected = pixels[32:].reshape(8, 4, 16, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(found.mean, expected.mean(axis=(0, 1)), atol=0.3)
    np.testing.assert_allclose(found.std, expected.std(axis=(0, 1)), atol=0.2)


def test_suggested_range_spans_the_percentiles_of_all_bands(tmp_path):
    pixels = np.zeros((50, 60, 2), np.uint16)
    pixels[..., 0] = 500 + np.arange(3000).reshape(50, 60)
    pixels[..., 1] = 2000 + np.arange(3000).reshape(50, 60)
    write_raster(tmp_path / 'a.tif', pixels)
    lows = [np.floor(np.percentile(pixels[..., band], 1)) for band in (0, 1)]
    highs = [np.ceil(np.percentile(pixels[..., band], 99.9)) for band in (0, 1)]
    result = statistics_of(tmp_path, size=64)
    assert result.value_range == (lows[0], highs[1])
    result = statistics_of(tmp_path, size=64, run=dict(per_band=True))
    assert result.value_range == ((lows[0], highs[0]), (lows[1], highs[1]))
    # Each band by its own range: both look alike then.
    assert result.mean[0] == pytest.approx(result.mean[1], abs=1e-6)


def test_values_are_told_by_data_type(tmp_path):
    write_raster(tmp_path / 'a.tif', np.full((9, 9, 1), 7, np.uint8))
    for name, low in (('b', 0), ('c', 100)):
        ramp = low + np.arange(81, dtype=np.uint16).reshape(9, 9, 1)
        write_raster(tmp_path / f'{name}.tif', ramp)
    dataset = ImageryDataset(str(tmp_path))
    types = measure_values(dataset, reading_of(dataset))
    assert set(types) == {'uint8', 'uint16'}
    assert (types['uint8'].images, types['uint8'].ranges) == (1, [])
    assert types['uint16'].images == 2 and types['uint16'].example.endswith('b.tif')
    assert types['uint16'].ranges == [(1, 180)]


def test_no_range_is_suggested_for_8_bit_data(photographs):
    dataset = ImageryDataset(str(photographs[0]))
    assert suggested_range(measure_values(dataset, reading_of(dataset))) is None


def test_float_data_needs_no_range_here(tmp_path):
    pixels = np.linspace(-1, 1, 64 * 64, dtype=np.float32).reshape(64, 64, 1)
    write_raster(tmp_path / 'a.tif', pixels)
    result = statistics_of(tmp_path, size=64)
    assert result.value_range == pytest.approx((-0.98, 0.998), abs=1e-3)
    assert result.mean[0] == pytest.approx(126.2, abs=0.5)


def test_unreadable_files_are_listed(photographs):
    folder, images = photographs
    content = (folder / '3.png').read_bytes()
    (folder / '3.png').write_bytes(content[:500])
    result = statistics_of(folder, size=32)
    np.testing.assert_allclose(
        result.mean, np.delete(images, 3, axis=0).mean((0, 1, 2))
    )
    assert len(result.unreadable) == 1 and '3.png' in result.unreadable[0]


def test_nothing_readable(tmp_path):
    (tmp_path / 'a.png').write_text('text')
    with pytest.raises(UnreadableImageError, match=r'a\.png'):
        statistics_of(tmp_path)


def test_mixed_band_counts_are_an_error(tmp_path):
    write_raster(tmp_path / 'a.tif', np.ones((9, 9, 5), np.uint8))
    write_raster(tmp_path / 'b.tif', np.ones((9, 9, 6), np.uint8))
    with pytest.raises(BandMismatchError, match=r'b\.tif: found 6 bands, expected 5'):
        statistics_of(tmp_path)


def test_command_line_prints_a_config_block(photographs):
    folder, images = photographs
    tool = Path(__file__).parents[2] / 'tools' / 'dataset_stats.py'
    output = subprocess.run(
        [sys.executable, str(tool), str(folder), '--size', '32'],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    block = output[output.index('data_preprocessor') :]
    settings = {}
    exec(block, {}, settings)
    np.testing.assert_allclose(
        settings['data_preprocessor']['mean'], images.mean((0, 1, 2)), atol=1e-3
    )
    np.testing.assert_allclose(
        settings['data_preprocessor']['std'], images.std((0, 1, 2)), atol=1e-3
    )


def test_a_broken_file_is_listed_once_for_all_its_tiles(photographs):
    folder, _ = photographs
    Image.fromarray(np.zeros((96, 96, 3), np.uint8)).save(folder / 'a.png')
    (folder / 'a.png').write_bytes((folder / 'a.png').read_bytes()[:60])
    found = statistics_of(folder, tile_size=32, size=32)
    assert len(found.unreadable) == 1 and found.images == 7


def test_ranges_are_told_by_the_bands_of_the_file(tmp_path):
    pixels = np.arange(3000, dtype=np.uint16).reshape(25, 40, 3)
    write_raster(tmp_path / 'a.tif', pixels)
    tool = Path(__file__).parents[2] / 'tools' / 'dataset_stats.py'
    command = [sys.executable, str(tool), str(tmp_path), '--bands', '3', '1', '3']
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = [line for line in output.splitlines() if line.startswith('#   band')]
    assert [line.split(':')[0] for line in lines] == [
        '#   band 3',
        '#   band 1',
        '#   band 3',
    ]
