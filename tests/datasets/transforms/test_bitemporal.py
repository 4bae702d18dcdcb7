# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Pairs and masks: reading, and moving together."""

import cv2
import numpy as np
import pytest
import rasterio
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope

from cmid_mm.datasets.transforms.bitemporal import (
    LoadChangeMask,
    LoadImagePair,
    RandomRotate90,
)
from cmid_mm.images.errors import UnreadableImageError
from cmid_mm.images.writing import write_image
from cmid_mm.labels.masks import read_change_mask

pytest.importorskip('mmseg')


@pytest.fixture
def pair(tmp_path):
    """Every pixel of both dates and of the mask says where it was."""
    height, width = 40, 50
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    before = np.stack([rows, columns, rows * 0], -1)
    after = np.stack([rows, columns, rows * 0 + 200], -1)
    label = (rows > columns).astype(np.uint8) * 255
    for name, image in (('a', before), ('b', after), ('label', label)):
        write_image(tmp_path / f'{name}.png', image)
    return dict(
        img_path=str(tmp_path / 'a.png'),
        img_path2=str(tmp_path / 'b.png'),
        seg_map_path=str(tmp_path / 'label.png'),
    )


def test_dates_are_stacked_in_order_as_rgb(pair):
    results = LoadImagePair().transform(pair)
    assert results['img'].shape == (40, 50, 6)
    assert results['img'].dtype == np.uint8
    assert results['img'][7, 9].tolist() == [7, 9, 0, 7, 9, 200]
    assert results['img_shape'] == results['ori_shape'] == (40, 50)


def test_dates_and_mask_move_together(pair):
    init_default_scope('mmseg')
    pipeline = Compose(
        [
            LoadImagePair(),
            LoadChangeMask(),
            dict(type='RandomCrop', crop_size=(24, 20)),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='RandomFlip', prob=0.5, direction='vertical'),
            RandomRotate90(),
        ]
    )
    orientations = set()
    for seed in range(60):
        np.random.seed(seed)
        results = pipeline(dict(pair))
        image, mask = results['img'].astype(int), results['gt_seg_map']
        assert (image[..., :2] == image[..., 3:5]).all()
        assert (image[..., 2] == 0).all() and (image[..., 5] == 200).all()
        assert (mask == (image[..., 0] > image[..., 1])).all()
        assert results['img_shape'] == mask.shape == image.shape[:2]
        assert mask.shape in {(24, 20), (20, 24)}
        assert results['img'].flags.c_contiguous
        places = image[..., :2]
        down, right = places[1, 0] - places[0, 0], places[0, 1] - places[0, 0]
        orientations.add((*down, *right))
    # The symmetries of a square.
    assert len(orientations) == 8


def test_rotations_are_equally_likely():
    transform = RandomRotate90()
    turns = []
    for _ in range(400):
        image = transform.transform(dict(img=np.array([[[0], [1]], [[2], [3]]])))['img']
        turns.append(int(image[0, 0, 0]))
    counts = np.bincount(turns, minlength=4)
    assert counts.sum() == 400 and counts.min() > 70


def test_rotation_is_counter_clockwise(monkeypatch):
    monkeypatch.setattr(np.random, 'randint', lambda high: 1)
    results = dict(img=np.arange(6).reshape(2, 3, 1))
    rotated = RandomRotate90().transform(results)
    assert rotated['img'][..., 0].tolist() == [[2, 5], [1, 4], [0, 3]]
    assert rotated['img_shape'] == (3, 2)


def test_dates_of_different_size_are_refused(pair, tmp_path):
    write_image(tmp_path / 'b.png', np.zeros((40, 51, 3), np.uint8))
    with pytest.raises(ValueError, match=r'b\.png is 51 x 40 pixels, but .*a\.png is'):
        LoadImagePair().transform(pair)


def test_a_mask_of_another_size_is_refused(pair, tmp_path):
    write_image(tmp_path / 'label.png', np.zeros((20, 25), np.uint8))
    results = LoadImagePair().transform(pair)
    with pytest.raises(ValueError, match=r'label\.png is 25 x 20 pixels, but .*a\.png'):
        LoadChangeMask().transform(results)


def test_multi_band_rasters_of_16_bits(tmp_path):
    for name, value in (('a', 1000), ('b', 3000)):
        profile = dict(width=8, height=8, count=5, dtype='uint16')
        with rasterio.open(tmp_path / f'{name}.tif', 'w', **profile) as file:
            file.write(np.full((5, 8, 8), value, np.uint16))
    results = dict(img_path=str(tmp_path / 'a.tif'), img_path2=str(tmp_path / 'b.tif'))
    loading = LoadImagePair(num_bands=5, value_range=(0, 4000))
    image = loading.transform(results)['img']
    assert image.shape == (8, 8, 10)
    np.testing.assert_allclose(image[0, 0], [63.75] * 5 + [191.25] * 5)
    chosen = LoadImagePair(bands=[2, 1], value_range=(0, 4000)).transform(results)
    assert chosen['img'].shape == (8, 8, 4)


# -- Masks -----------------------------------------------------------------------


def write_mask(path, values, **options):
    image = np.resize(np.array(values, np.uint8), (8, 8))
    write_image(path, image)
    return str(path)


@pytest.mark.parametrize(
    ('values', 'expected'),
    [
        ([0, 255], [0, 1]),
        ([0, 1], [0, 1]),
        ([0], [0]),
        ([255], [1]),
        ([0, 100, 127, 128, 200, 255], [0, 0, 0, 1, 1, 1]),  # smoothed edges
        ([0, 2, 254, 1], [0, 0, 1, 0]),  # once a JPEG
    ],
)
def test_masks_become_indexes(tmp_path, values, expected):
    mask = read_change_mask(write_mask(tmp_path / 'm.png', values))
    assert mask.dtype == np.uint8
    assert (mask == np.resize(expected, (8, 8))).all()


def test_noise_of_jpeg_masks_is_no_change(tmp_path):
    noise = np.random.default_rng(0).integers(0, 3, (16, 16)).astype(np.uint8)
    noise[:, 8:] = 255 - noise[:, 8:]
    cv2.imwrite(str(tmp_path / 'm.jpg'), noise)
    raw = cv2.imread(str(tmp_path / 'm.jpg'), cv2.IMREAD_UNCHANGED)
    assert len(np.unique(raw)) > 2
    mask = read_change_mask(str(tmp_path / 'm.jpg'))
    assert not mask[:, :8].any() and mask[:, 8:].all()
    faint = str(tmp_path / 'faint.jpg')
    cv2.imwrite(faint, np.ones((16, 16), np.uint8))  # 1 is noise in a JPEG
    assert not read_change_mask(faint).any()


@pytest.mark.parametrize('values', [[0, 1, 255], [0, 1, 2], [0, 90]])
def test_masks_that_could_mean_several_things_are_refused(tmp_path, values):
    path = write_mask(tmp_path / 'odd.png', values)
    with pytest.raises(ValueError, match=r'odd\.png has the values 0, .*changed_from'):
        read_change_mask(path)
    mask = read_change_mask(path, changed_from=1)
    assert (mask == np.resize(np.array(values) > 0, (8, 8))).all()


def test_colour_masks_are_refused(tmp_path):
    image = np.zeros((8, 8, 3), np.uint8)
    write_image(tmp_path / 'grey.png', image + 255)
    assert read_change_mask(str(tmp_path / 'grey.png')).all()
    image[2:, :, 0] = 128
    write_image(tmp_path / 'red.png', image)
    with pytest.raises(ValueError, match=r'red\.png is a colour image'):
        read_change_mask(str(tmp_path / 'red.png'))


def test_missing_mask_is_named(tmp_path):
    with pytest.raises(UnreadableImageError, match=r'nowhere\.png'):
        read_change_mask(str(tmp_path / 'nowhere.png'))


@pytest.mark.parametrize('value_range', [(5, 5), (5, 4), (1,), ((0, 1), (2, 2))])
def test_an_empty_value_range_is_refused_at_once(value_range):
    with pytest.raises(ValueError, match='low < high'):
        LoadImagePair(value_range=value_range, num_bands=2)
