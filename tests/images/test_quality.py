# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Pixels that a mask beside a scene counts out."""

from dataclasses import replace

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from cmid_mm.datasets import ImageryDataset
from cmid_mm.images import (
    ImageFile,
    NoValidPixelError,
    PlaceMismatchError,
    Quality,
    Reading,
    UnreadableImageError,
    find_images,
    load_image,
    read_values,
    without_masks,
)

from .miniatures import write_raster

SIDE = 40
BITS = dict(file='{stem}_QA.tif', bits=[3, 4])
CLASSES = dict(file='{stem}_SCL.tif', values=[3, 8, 9])


@pytest.fixture
def scene(tmp_path):
    """100 where the sky is clear, 3000 in the clouds: the upper left quarter."""
    values = np.full((SIDE, SIDE, 3), 100, np.uint16)
    values[:20, :20] = 3000
    place = dict(crs='EPSG:32650', transform=from_origin(5e5, 3e6, 10, 10))
    return write_raster(tmp_path / 'scene.tif', values, **place)


def clouds(side=SIDE, dtype=np.uint8, clear=4, cloudy=8):
    mask = np.full((side, side, 1), clear, dtype)
    mask[: side // 2, : side // 2] = cloudy
    return mask


def write_mask(scene, mask, distance=10.0, name='SCL', **profile):
    options = dict(
        crs='EPSG:32650', transform=from_origin(5e5, 3e6, distance, distance)
    )
    path = scene.with_name(f'{scene.stem}_{name}.tif')
    return write_raster(path, mask, **{**options, **profile})


@pytest.mark.parametrize(
    ('side', 'distance', 'profile'),
    [
        (40, 10, {}),
        (20, 20, {}),
        (80, 5, dict(nodata=8)),
        (40, 10, dict(crs=None, transform=None)),
    ],
    ids=['same', 'coarser', 'finer, cloud marked as no data', 'without a place'],
)
def test_listed_values_are_missing(scene, side, distance, profile):
    write_mask(scene, clouds(side), distance, **profile)
    pixels = read_values(scene, Reading(quality=CLASSES))
    expected = clouds() != 8
    np.testing.assert_array_equal(pixels.valid, expected.repeat(3, 2))
    pixels = read_values(scene, Reading(quality=CLASSES), (10, 5, 20, 25))
    np.testing.assert_array_equal(pixels.valid[..., 0], expected[10:30, 5:30, 0])


def test_listed_bits_are_missing(scene):
    # Bit 3 of a cloud, bit 6 of clear sky; 2**15 is of another matter.
    mask = clouds(dtype=np.uint16, clear=1 << 6 | 1 << 15, cloudy=1 << 3 | 1 << 1)
    mask[30:, 30:] = 1 << 4
    write_mask(scene, mask, name='QA')
    valid = read_values(scene, Reading(quality=BITS)).valid[..., 0]
    expected = clouds()[..., 0] != 8
    expected[30:, 30:] = False
    np.testing.assert_array_equal(valid, expected)


def test_they_leave_no_trace(scene):
    """Neither in what is loaded nor in averages, whatever is reduced how."""
    write_mask(scene, clouds(20), 20)
    reading = Reading(quality=CLASSES, value_range=(0, 255))
    for changed in ({}, dict(gsd=30), dict(gsd=20), dict(size=16), dict(gsd=7)):
        image = load_image(scene, Reading(**{**vars(reading), **changed}))
        np.testing.assert_allclose(image, 100, atol=1e-3)
    with ImageFile(scene, reading=reading) as image:
        np.testing.assert_allclose(image.preview(reading, 10), 100, atol=1e-3)
    with pytest.raises(NoValidPixelError):
        load_image(scene, reading, (0, 0, 20, 20))
    # Without the mask they are there.
    assert load_image(scene, Reading(value_range=(0, 255))).max() == 255


def test_what_the_file_says_counts_too(scene, tmp_path):
    values = np.full((SIDE, SIDE, 3), 100, np.uint16)
    values[30:] = 7
    place = dict(crs='EPSG:32650', transform=from_origin(5e5, 3e6, 10, 10))
    write_raster(scene, values, nodata=7, **place)
    write_mask(scene, clouds())
    valid = read_values(scene, Reading(quality=CLASSES)).valid[..., 0]
    assert not valid[:20, :20].any() and not valid[30:].any()
    assert valid.sum() == 30 * 40 - 400


def test_a_mask_of_another_system(scene):
    """In degrees, over the western half of the scene alone."""
    mask = np.full((50, 50, 1), 9, np.uint8)
    # 117 E, 27.1207 N is the upper left corner.
    transform = from_origin(117.0, 27.13, 200 / 99100 / 50, 0.02 / 50)
    write_mask(scene, mask, crs='EPSG:4326', transform=transform)
    valid = read_values(scene, Reading(quality=CLASSES)).valid[..., 0]
    assert not valid[:, :19].any()
    assert valid[:, 21:].all()


def test_a_mask_of_colours(scene):
    """Indices count, not the colours that they stand for."""
    path = write_mask(scene, clouds())
    with rasterio.open(path, 'r+') as target:
        target.write_colormap(1, {i: (i * 20, 0, 0) for i in range(12)})
    valid = read_values(scene, Reading(quality=CLASSES)).valid[..., 0]
    assert valid.sum() == 1200


def test_masks_of_folders_and_patterns(scene):
    folder = scene.parent / 'L8 [1]'
    folder.mkdir()
    inside = scene.rename(folder / 'B4.tif')
    mask = write_mask(inside, clouds(), name='QA')
    mask.rename(folder / 'LC08_x_QA_PIXEL.TIF')
    for file in ('{folder}/*_QA_PIXEL.TIF', '*_QA_PIXEL.TIF', 'LC08_x_QA_PIXEL.TIF'):
        pixels = read_values(inside, Reading(quality=Quality(file, values=[8])))
        assert pixels.valid[..., 0].sum() == 1200
    (folder / 'other_QA_PIXEL.TIF').touch()
    reading = Reading(quality=dict(file='*_QA_PIXEL.TIF', values=[8]))
    with pytest.raises(UnreadableImageError, match='and 1 others'):
        ImageFile(inside, reading=reading)


def test_masks_of_relative_paths(scene, monkeypatch):
    write_mask(scene, clouds())
    monkeypatch.chdir(scene.parent.parent)
    name = f'{scene.parent.name}/scene.tif'
    for file in ('{folder}/{stem}_SCL.tif', '{stem}_SCL.tif', str(scene)):
        ImageFile(name, reading=Reading(quality=Quality(file, [8]))).close()


def test_refusals(scene):
    reading = Reading(quality=CLASSES)
    with pytest.raises(UnreadableImageError) as caught:
        load_image(scene, reading)
    for part in ('scene.tif', 'scene_SCL.tif', 'is missing', 'quality'):
        assert part in str(caught.value)
    write_mask(scene, clouds(20), crs=None, transform=None)
    with pytest.raises(PlaceMismatchError, match='scene_SCL.tif cannot be aligned'):
        load_image(scene, reading)
    write_mask(scene, clouds(dtype=np.float32), name='QA')
    with pytest.raises(UnreadableImageError, match=r'QA.tif: bits .* found float32'):
        load_image(scene, Reading(quality=BITS))
    with pytest.raises(ValueError, match='name the values'):
        Quality('a.tif')
    with pytest.raises(ValueError, match='name the values'):
        Quality('a.tif', bits=[-1])


def test_masks_in_the_folder_of_their_scenes_are_no_scenes(scene):
    other = write_raster(scene.with_name('other.tif'), clouds())
    mask, second = write_mask(scene, clouds()), write_mask(other, clouds())
    found = find_images(scene.parent)
    classes = Quality(**CLASSES)
    assert without_masks(found, classes) == [other, scene]
    assert without_masks([str(path) for path in found], classes) == [
        str(other),
        str(scene),
    ]
    assert without_masks(found, None) == found == sorted([other, scene, mask, second])
    # Of its own name, an image is none.
    alone = replace(classes, file='{stem}.tif')
    assert without_masks([scene], alone) == [scene]
    dataset = ImageryDataset(
        str(scene.parent),
        pipeline=[dict(type='LoadImagery', num_bands=3, quality=CLASSES)],
    )
    paths = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
    assert paths == [str(other), str(scene)]
