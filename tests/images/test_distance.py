# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Images read at a distance on the ground."""

import cv2
import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.enums import Resampling
from rasterio.transform import from_origin

from cmid_mm.images import (
    ImageFile,
    PlaceMismatchError,
    Reading,
    distance,
    load_image,
    notices,
    read_header,
    read_values,
    reducing,
)
from cmid_mm.images.pairs import ImagePair
from cmid_mm.images.reading import load_image_and_mask

from .miniatures import write_raster

SIDE = 96


def noise(side=SIDE, bands=3, dtype=np.uint16, seed=0):
    high = 255 if dtype == np.uint8 else 4000
    return (
        np.random.default_rng(seed).integers(1, high, (side, side, bands)).astype(dtype)
    )


def scene(path, values, distance=10.0, crs='EPSG:32650', **profile):
    origin = profile.pop('origin', (5e5, 3e6))
    transform = from_origin(*origin, distance, distance)
    return write_raster(path, values, crs=crs, transform=transform, **profile)


def expected_mean(values, factor, valid=None):
    """Means of the pixels' parts under each new pixel, by hand, (h, w, C)."""
    side = int(np.ceil(len(values) / factor - 0.25))
    shares = np.zeros((side, len(values)))
    for new in range(side):
        for old in range(len(values)):
            upper = min((new + 1) * factor, old + 1)
            shares[new, old] = max(0, upper - max(new * factor, old))
    valid = np.ones(values.shape) if valid is None else valid

    def total(x):
        return np.einsum('ij,jkc,lk->ilc', shares, x, shares, optimize=True)

    share = total(valid.astype(float))
    return total(values * valid) / np.where(share > 0, share, 1), share > 0


@pytest.mark.parametrize('gsd', [20, 25, 33.3, 40, 96, 120, 210])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.int32, np.float32])
def test_finer_files_are_averaged(tmp_path, gsd, dtype):
    values = noise(dtype=dtype)
    path = scene(tmp_path / 'a.tif', values)
    expected, _ = expected_mean(values, gsd / 10)
    found = read_values(path, Reading(gsd=gsd)).values
    # OpenCV does not know 32-bit integers.
    assert found.dtype == (dtype if dtype != np.int32 or gsd % 10 else np.float64)
    # Of pixels more than sixteen times finer, fours are averaged first.
    off = 0.51 if gsd < 160 else 0.01 * values.max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=off)


@pytest.mark.parametrize('gsd', [20, 25, 33.3, 130, 7])
def test_windows_show_the_whole(tmp_path, gsd):
    path = scene(tmp_path / 'a.tif', noise(side=300))
    reading = Reading(gsd=gsd)
    whole = read_values(path, reading).values
    height, width = whole.shape[:2]
    generator = np.random.default_rng(1)
    for _ in range(5):
        top, left = generator.integers(0, height - 9), generator.integers(0, width - 9)
        window = (int(top), int(left), 9, 9)
        found = read_values(path, reading, window).values
        wanted = whole[top : top + 9, left : left + 9]
        # In 32 bits, a half may be rounded either way.
        assert abs(found.astype(int) - wanted).max() <= 1
        assert (found == wanted).mean() > 0.99


def test_the_grid(tmp_path):
    path = scene(tmp_path / 'a.tif', noise(side=100))
    with ImageFile(path, reading=Reading(gsd=30)) as image:
        assert image.header.shape == (34, 34) == (image.height, image.width)
        assert image.place.transform == from_origin(5e5, 3e6, 30, 30)
        assert image.place.crs == 'EPSG:32650'
    # Less than a quarter of the last row is left out.
    assert read_header(path, Reading(gsd=49.5)).shape == (20, 20)


@pytest.mark.parametrize('gsd', [25, 20, 33])
def test_missing_pixels_do_not_leak(tmp_path, gsd):
    values = np.full((SIDE, SIDE, 2), 100, np.uint16)
    valid = np.random.default_rng(0).random((SIDE, SIDE, 1)) > 0.4
    valid[:20, :20] = False
    stored = np.where(valid, values, 60000)
    path = scene(tmp_path / 'a.tif', stored, nodata=60000)
    pixels = read_values(path, Reading(num_bands=2, gsd=gsd))
    expected, present = expected_mean(values, gsd / 10, valid.repeat(2, 2))
    np.testing.assert_array_equal(pixels.valid, present)
    assert not present.all() and (pixels.values[present] == 100).all()


def test_coarser_files_are_interpolated(tmp_path):
    ramp = np.indices((24, 24)).sum(0)[..., None].astype(np.float32) * 8
    path = scene(tmp_path / 'a.tif', ramp)
    found = read_values(path, Reading(num_bands=1, gsd=5)).values[..., 0]
    assert found.shape == (48, 48)
    rows, columns = (np.indices((48, 48)) + 0.5) / 2 - 0.5
    expected = (rows.clip(0, 23) + columns.clip(0, 23)) * 8
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_enlarging_is_said(tmp_path, monkeypatch, caplog):
    said = []
    monkeypatch.setattr(distance, 'say_once', lambda *message: said.append(message))
    path = scene(tmp_path / 'a.tif', noise())
    ImageFile(path, reading=Reading(gsd=7)).close()
    assert said == []
    ImageFile(path, reading=Reading(gsd=4)).close()
    ((_, message),) = said
    assert 'a.tif' in message and '10 m' in message and '2.5 times' in message


@pytest.mark.parametrize('gsd', [10, 9.95, 10.05])
def test_nearly_its_own_distance(tmp_path, gsd):
    values = noise()
    path = scene(tmp_path / 'a.tif', values)
    with ImageFile(path, reading=Reading(gsd=gsd)) as image:
        assert image.place.transform == from_origin(5e5, 3e6, 10, 10)
        np.testing.assert_array_equal(image.read(Reading(gsd=gsd)).values, values)


@pytest.mark.parametrize(
    ('crs', 'origin', 'size', 'metres'),
    [
        ('EPSG:32650', (5e5, 3e6), 10, (10, 10)),
        # Feet of the survey, of the international foot.
        ('EPSG:2227', (6e6, 2.1e6), 10, (3.048006, 3.048006)),
        ('EPSG:2256', (1e6, 5e5), 10, (3.048, 3.048)),
        ('EPSG:4326', (10, 0.0005), 1e-5, (1.10574, 1.11319)),
        ('EPSG:4326', (10, 60.0005), 1e-5, (1.11412, 0.55800)),
        # Web Mercator stretches by 1 / cos(latitude) and the ellipsoid.
        ('EPSG:3857', (0, 8399737.9), 10, (5.0042, 5.0126)),
    ],
)
def test_metres_on_the_ground(tmp_path, crs, origin, size, metres):
    path = scene(tmp_path / 'a.tif', noise(), size, crs, origin=origin)
    with ImageFile(path) as image:
        found = distance.pixel_metres(path, image.place, image.header.shape)
    np.testing.assert_allclose(found, metres, rtol=1e-3)


def test_geographic_scenes_become_square(tmp_path):
    """At 60 degrees north a degree of longitude is half as long as one of latitude."""
    path = scene(tmp_path / 'a.tif', noise(), 1e-4, 'EPSG:4326', origin=(10, 60))
    with ImageFile(path, reading=Reading(gsd=22.28)) as image:
        # 11.14 m down, 5.58 m across.
        assert image.header.shape == (48, 24)
        transform = image.place.transform
    assert transform.e == pytest.approx(-2e-4, rel=1e-3)
    assert transform.a == pytest.approx(3.993e-4, rel=1e-3)
    # Across averaged, down interpolated, at once.
    assert read_header(path, Reading(gsd=8)).shape == (134, 67)
    assert load_image(path, Reading(gsd=8)).shape == (134, 67, 3)


def test_rotated_scenes(tmp_path):
    transform = rasterio.Affine(8, 6, 5e5, 6, -8, 3e6)
    values = noise()
    path = write_raster(tmp_path / 'a.tif', values, transform=transform)
    with ImageFile(path, reading=Reading(gsd=20)) as image:
        assert image.place.transform == transform * rasterio.Affine.scale(2, 2)
        found = image.read(Reading(gsd=20)).values
    np.testing.assert_allclose(found, expected_mean(values, 2)[0], atol=0.51)


@pytest.mark.parametrize('ending', ['.jpg', '.png', '.tif'])
def test_files_without_a_place_are_refused(tmp_path, ending):
    path = tmp_path / f'a{ending}'
    Image.fromarray(noise(dtype=np.uint8)).save(path)
    with pytest.raises(PlaceMismatchError, match=rf'a{ending}: gsd needs a place'):
        ImageFile(path, reading=Reading(gsd=1))


@pytest.mark.parametrize('ending', ['.jpg', '.png'])
@pytest.mark.parametrize('gsd', [1.5, 1.25])
def test_photographs_with_world_files(tmp_path, ending, gsd):
    values = cv2.GaussianBlur(noise(dtype=np.uint8), (9, 9), 3)
    path = tmp_path / f'a{ending}'
    Image.fromarray(values).save(path, quality=95)
    decoded = load_image(path)
    path.with_suffix('.wld').write_text('0.5\n0\n0\n-0.5\n100.25\n199.75\n')
    with ImageFile(path, reading=Reading(gsd=gsd)) as image:
        assert image.place.transform == from_origin(100, 200, gsd, gsd)
        found = image.read(Reading(gsd=gsd)).values
    expected, _ = expected_mean(decoded, 2 * gsd)
    # The decoder of JPEG reduces on its own.
    assert abs(found - expected).max() < (4 if ending == '.jpg' and gsd == 1.5 else 1)


@pytest.mark.parametrize('wrong', [0, -1, float('nan'), float('inf')])
def test_distances_that_are_none(wrong):
    with pytest.raises(ValueError, match='gsd is a distance in metres'):
        Reading(gsd=wrong)


def test_overviews_spare_reading(tmp_path):
    path = scene(tmp_path / 'a.tif', noise(side=256, bands=1), tiled=True)
    with rasterio.open(path, 'r+') as target:
        target.build_overviews([2, 4, 8], Resampling.average)
    means = read_values(path, Reading(num_bands=1, gsd=40)).values
    with rasterio.open(path, 'r+') as target:
        # Not what the overviews hold, so that one sees which are read.
        target.write(np.zeros((1, 256, 256), np.uint16))
    for gsd, off in ((40, 0), (333, 5)):
        found = read_values(path, Reading(num_bands=1, gsd=gsd)).values.astype(int)
        assert (found > 500).all()
        if off == 0:
            np.testing.assert_array_equal(found, means)


def test_large_reads_go_in_strips(tmp_path, monkeypatch):
    path = scene(tmp_path / 'a.tif', noise(side=300), nodata=7)
    reading = Reading(gsd=33)
    whole = read_values(path, reading)
    reduced = read_values(path, reading, min_size=13)
    monkeypatch.setattr(reducing, 'STRIP_BYTES', 100_000)
    parts = read_values(path, reading)
    np.testing.assert_array_equal(parts.values, whole.values)
    again = read_values(path, reading, min_size=13)
    assert reduced.values.shape == (13, 13, 3)
    assert abs(again.values.astype(int) - reduced.values).max() <= 1


def test_loading_scales_and_resizes(tmp_path):
    path = scene(tmp_path / 'a.tif', noise(), nodata=3)
    reading = Reading(gsd=20, size=32, value_range=(0, 4000))
    image, _ = load_image_and_mask(path, reading, (0, 0, 40, 40))
    assert image.shape == (32, 32, 3) and 100 < image.mean() < 155
    with ImageFile(path, reading=reading) as opened:
        assert max(opened.preview(Reading(value_range=(0, 4000)), 20).shape) == 20


def test_opened_otherwise_than_read(tmp_path):
    path = scene(tmp_path / 'a.tif', noise())
    with ImageFile(path) as image, pytest.raises(ValueError, match='open it with'):
        image.read(Reading(gsd=20))


def test_dates_at_a_distance(tmp_path):
    """The second date is averaged on the ground of the first."""
    values = noise(side=64)
    first = scene(tmp_path / 'first.tif', values)
    aside = np.full((80, 80, 3), 9, np.uint16)
    aside[8:72, 8:72] = values
    second = scene(tmp_path / 'second.tif', aside, origin=(5e5 - 80, 3e6 + 80))
    reading = Reading(gsd=25, value_range=(0, 4000))
    with ImagePair([first, second], align=True, reading=reading) as pair:
        stacked, valid = pair.load(reading)
        assert pair.place.transform == from_origin(5e5, 3e6, 25, 25)
    assert stacked.shape == (26, 26, 6) and valid is None
    np.testing.assert_allclose(stacked[..., :3], stacked[..., 3:], atol=0.1)


def test_scenes_of_two_distances_at_one(tmp_path):
    """Files held open at several distances are not mixed up."""
    notices._said.discard('types')
    fine = scene(tmp_path / 'a.tif', noise(), 10)
    shapes = [
        load_image(fine, Reading(gsd=gsd, value_range=(0, 4000))).shape[0]
        for gsd in (None, 20, 40, None, 20)
    ]
    assert shapes == [96, 48, 24, 96, 48]
