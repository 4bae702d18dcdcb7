# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from mmengine.registry import TRANSFORMS

from cmid_mm.datasets.transforms import ViewPair


@pytest.fixture(autouse=True)
def seeded():
    np.random.seed(0)


def coordinate_image(side, dtype=np.float32):
    """Pixel (y, x) holds (y + 0.5, x + 0.5): pixel centres in image coordinates."""
    return np.stack(
        np.meshgrid(np.arange(side) + 0.5, np.arange(side) + 0.5, indexing='ij'), -1
    ).astype(dtype)


@pytest.mark.parametrize('name, row', [('org', 0), ('view', 1)])
def test_crop_content_matches_its_box(name, row):
    size = 64
    transform = ViewPair(size)
    flips = set()
    for _ in range(40):
        results = transform({'img': coordinate_image(size)})
        top, left, height, width, flip = results['boxes'][row]
        flips.add(float(flip))
        cells = (np.arange(size) + 0.5) / size
        y = top + cells * height
        x = left + (cells[::-1] if flip else cells) * width
        # Interpolation cannot reach beyond the outermost pixel centres of the crop.
        y = np.clip(y, top + 0.5, top + height - 0.5)
        x = np.clip(x, left + 0.5, left + width - 0.5)
        view = results[name]
        assert view.shape == (size, size, 2)
        np.testing.assert_allclose(view[..., 0], y[:, None].repeat(size, 1), atol=0.05)
        np.testing.assert_allclose(view[..., 1], x[None].repeat(size, 0), atol=0.05)
    assert flips == {0.0, 1.0}


def test_boxes_follow_the_sampling_rule():
    transform = ViewPair(32, area=(0.3, 1.0), ratio=(3 / 4, 4 / 3))
    image = np.zeros((224, 224, 3), np.uint8)
    boxes = np.concatenate([transform({'img': image})['boxes'] for _ in range(1500)])
    top, left, height, width, flip = boxes.T
    assert boxes.dtype == np.float32
    assert (boxes == boxes.round()).all()
    assert (top >= 0).all() and (left >= 0).all()
    assert (top + height <= 224).all() and (left + width <= 224).all()
    area = height * width / 224**2
    assert area.min() > 0.295 and area.max() <= 1
    ratio = width / height
    # Whole pixels bend the limits a little.
    assert ratio.min() > 0.74 and ratio.max() < 1.35
    assert abs(np.median(np.log(ratio))) < 0.03
    assert abs(flip.mean() - 0.5) < 0.04
    # Uniform places: the crop's centre is the image's on average.
    assert abs((top + height / 2).mean() - 112) < 2


def test_views_are_independent():
    results = ViewPair(32)({'img': coordinate_image(32)})
    assert (results['boxes'][0] != results['boxes'][1]).any()


def test_fallback_is_the_largest_centred_crop():
    transform = ViewPair(16, area=(1.0, 1.0), ratio=(1.0, 1.0), flip_prob=0)
    assert transform.sample_box(20, 60, (1, 1)) == (0, 20, 20, 20)
    assert transform.sample_box(60, 20, (1, 1)) == (20, 0, 20, 20)


def test_whole_image_crop_is_the_image():
    image = np.random.randint(0, 256, (32, 32, 5), np.uint8)
    results = ViewPair(32, area=(1, 1), ratio=(1, 1), flip_prob=1)({'img': image})
    np.testing.assert_array_equal(results['org'], image[:, ::-1])
    np.testing.assert_array_equal(results['boxes'][0], [0, 0, 32, 32, 1])


@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
@pytest.mark.parametrize('channels', [1, 3, 8])
def test_any_number_of_bands(dtype, channels):
    image = np.random.randint(0, 256, (40, 40, channels)).astype(dtype)
    results = ViewPair(24)({'img': image})
    assert results['org'].shape == results['view'].shape == (24, 24, channels)
    assert results['view'].dtype == dtype


@pytest.mark.parametrize(
    'setting',
    [{'area': (0, 1)}, {'area': (0.5, 1.5)}, {'ratio': (2, 1)}, {'flip_prob': 2}],
)
def test_settings_out_of_range(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        ViewPair(32, **setting)


def test_small_crops_show_small_parts_and_leave_the_views_as_they_are():
    image = coordinate_image(200)
    views = ViewPair(32)({'img': image})
    assert views['crops'] == []

    np.random.seed(0)
    transform = ViewPair(32, num_crops=3, crop_size=16, crop_area=(0.1, 0.2))
    results = transform({'img': image})
    for name in ('org', 'view', 'boxes'):
        np.testing.assert_array_equal(results[name], views[name])
    crops = [crop for _ in range(20) for crop in transform({'img': image})['crops']]
    assert {crop.shape for crop in crops} == {(16, 16, 2)}
    sides = np.array([np.ptp(crop, axis=(0, 1)) for crop in crops]) * 16 / 15
    area = sides.prod(1) / 200**2
    assert area.min() > 0.09 and area.max() < 0.21 and np.ptp(area) > 0.05


@pytest.mark.parametrize(
    'options, name',
    [
        (dict(crop_area=(0, 0.3)), 'crop_area'),
        (dict(num_crops=-1), 'num_crops=-1: expected a whole number of at least 0'),
        (dict(crop_size=0), 'crop_size=0: expected a whole number of at least 1'),
        (dict(num_crops=1, crop_size=48), 'crop_size=48, but size=32'),
    ],
)
def test_impossible_crops_are_refused(options, name):
    with pytest.raises(ValueError, match=name):
        TRANSFORMS.build(dict(type='ViewPair', size=32, **options))
