# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import cv2
import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from cmid_mm.datasets.transforms import PhotometricNoise
from cmid_mm.datasets.transforms import photometric as ph


@pytest.fixture(autouse=True)
def seeded():
    np.random.seed(0)


@pytest.fixture
def image():
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (12, 12, 3), np.uint8)
    return cv2.resize(coarse, (48, 48), interpolation=cv2.INTER_LINEAR)


def only(**settings):
    """PhotometricNoise with nothing but the named steps."""
    nothing = dict.fromkeys(
        ('jitter_prob', 'blur_prob', 'noise_prob', 'solarize_prob', 'grey_prob'), 0.0
    )
    return PhotometricNoise(**{**nothing, **settings})


@pytest.mark.parametrize(
    'name, amount, tolerance',
    [
        ('brightness', 1.3, 1),
        ('brightness', 0.6, 1),
        ('contrast', 1.4, 2),
        ('contrast', 0.6, 2),
        ('saturation', 1.2, 2),
        ('saturation', 0.8, 2),
    ],
)
@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
def test_jitter_steps_match_torchvision(image, name, amount, tolerance, dtype):
    ours = getattr(ph, f'adjust_{name}')(image.astype(dtype), amount)
    planes = torch.from_numpy(image).permute(2, 0, 1)
    theirs = getattr(tv, f'adjust_{name}')(planes, amount).permute(1, 2, 0).numpy()
    assert ours.dtype == dtype
    # Floating-point values are not bounded.
    assert np.abs(ours.clip(0, 255).astype(float) - theirs).max() <= tolerance


@pytest.mark.parametrize('shift', [-0.1, 0.04, 0.1])
@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
def test_hue_matches_torchvision(image, shift, dtype):
    ours = ph.adjust_hue(image.astype(dtype), shift)
    planes = torch.from_numpy(image).permute(2, 0, 1)
    theirs = tv.adjust_hue(planes, shift).permute(1, 2, 0).numpy()
    difference = np.abs(ours.astype(float) - theirs)
    # 8-bit hue has 256 steps: up to 255 * 6 / 256 / 2 grey levels and rounding.
    assert difference.mean() < 1.5
    assert difference.max() <= 9


def test_hue_depends_on_differences_of_the_bands_only():
    image = np.random.uniform(20, 200, (8, 8, 3)).astype(np.float32)
    turned = ph.adjust_hue(image, 0.1)
    assert np.abs(turned - image).mean() > 5
    np.testing.assert_allclose(
        ph.adjust_hue(image - 400, 0.1), turned - 400, rtol=0, atol=0.01
    )


def test_hue_of_pure_colours():
    red = np.full((2, 2, 3), (200.0, 0.0, 0.0), np.float32)
    np.testing.assert_allclose(ph.adjust_hue(red, 1 / 3)[0, 0], (0, 200, 0), atol=1e-3)
    np.testing.assert_allclose(ph.adjust_hue(red, -1 / 3)[0, 0], (0, 0, 200), atol=1e-3)


def test_contrast_pivot_of_other_band_counts_is_the_mean():
    image = np.random.uniform(50, 200, (16, 16, 8)).astype(np.float32)
    flat = ph.adjust_contrast(image, 0.0)
    np.testing.assert_allclose(flat, image.mean(), rtol=1e-5)


@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
@pytest.mark.parametrize('channels', [1, 3, 8])
def test_noise_has_the_given_variance(dtype, channels):
    image = np.full((128, 128, channels), 128, dtype)
    noise = ph.gaussian_noise(image, 30.0).astype(float) - 128
    # Rounding to integers adds a variance of 1/12.
    expected = 30 + (1 / 12 if dtype == np.uint8 else 0)
    assert abs(noise.var() / expected - 1) < 0.05
    assert abs(noise.mean()) < 0.2
    right, left = noise[:, 1:].ravel(), noise[:, :-1].ravel()
    assert abs(np.corrcoef(right, left)[0, 1]) < 0.03
    if channels > 1:
        first, second = noise[..., 0].ravel(), noise[..., 1].ravel()
        assert abs(np.corrcoef(first, second)[0, 1]) < 0.03


def test_noise_saturates():
    noisy = ph.gaussian_noise(np.full((64, 64, 3), 255, np.uint8), 50.0)
    assert noisy.min() > 200 and (noisy == 255).mean() > 0.4
    noisy = ph.gaussian_noise(np.zeros((64, 64, 3), np.uint8), 50.0)
    assert noisy.max() < 55 and (noisy == 0).mean() > 0.4


def test_noise_depends_on_numpy_seed_only():
    image = np.full((32, 32, 3), 128, np.uint8)
    np.random.seed(3)
    first = ph.gaussian_noise(image, 20.0)
    cv2.setRNGSeed(99)
    second = ph.gaussian_noise(image, 20.0)
    np.random.seed(3)
    np.testing.assert_array_equal(ph.gaussian_noise(image, 20.0), first)
    assert (first != second).any()


@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
def test_solarize_inverts_from_the_threshold_on(dtype):
    image = np.array([0, 100, 127, 128, 200, 255], dtype).reshape(1, -1, 1)
    expected = [0, 100, 127, 127, 55, 0]
    assert ph.solarize(image, 128).ravel().tolist() == expected


@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
def test_grey_is_the_luma_in_all_bands(image, dtype):
    grey = ph.to_grey(image.astype(dtype))
    assert (grey == grey[..., :1]).all()
    expected = image @ np.array([0.299, 0.587, 0.114])
    assert np.abs(grey[..., 0].astype(float) - expected).max() <= 1


@pytest.mark.parametrize('kernel', [3, 5, 7])
def test_blur_kernel_and_sigma(kernel):
    image = np.zeros((21, 21, 8), np.float32)
    image[10, 10] = 1000
    blurred = ph.gaussian_blur(image, kernel, 1.5)
    offsets = np.arange(kernel) - kernel // 2
    weights = np.exp(-(offsets**2) / (2 * 1.5**2))
    weights /= weights.sum()
    middle = slice(10 - kernel // 2, 11 + kernel // 2)
    expected = 1000 * np.outer(weights, weights)
    for band in range(8):
        np.testing.assert_allclose(blurred[middle, middle, band], expected, rtol=1e-4)
    np.testing.assert_allclose(blurred.sum(axis=(0, 1)), 1000, rtol=1e-4)


def test_uint8_and_float_agree(image):
    """The same draws give the same picture, but for rounding."""
    transform = only(jitter_prob=1.0, blur_prob=1.0, relative=True)
    for seed in range(20):
        views = []
        for dtype in (np.uint8, np.float32):
            np.random.seed(seed)
            view = transform({'view': image.astype(dtype)})['view']
            assert view.dtype == dtype
            views.append(view.astype(float))
        assert np.abs(views[0] - views[1]).mean() < 2.0


def test_only_view_is_changed(image):
    results = {'org': image.copy(), 'view': image.copy()}
    changed = PhotometricNoise()(results)
    np.testing.assert_array_equal(changed['org'], image)
    assert (changed['view'] != image).any()


def test_input_is_not_written_to(image):
    kept = image.copy()
    for _ in range(20):
        PhotometricNoise()({'view': image})
    np.testing.assert_array_equal(image, kept)


@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
@pytest.mark.parametrize('channels', [1, 4, 8])
def test_any_number_of_bands(dtype, channels):
    generator = np.random.default_rng(1)
    image = generator.integers(0, 256, (24, 24, channels)).astype(dtype)
    for _ in range(20):
        view = PhotometricNoise()({'view': image.copy()})['view']
        assert view.shape == image.shape and view.dtype == dtype
        assert view.min() >= 0 and view.max() <= 255


def test_colour_steps_leave_other_band_counts_alone():
    image = np.random.randint(0, 256, (16, 16, 5), np.uint8)
    transform = only(jitter_prob=1.0, brightness=0, contrast=0, grey_prob=1.0)
    np.testing.assert_array_equal(transform({'view': image})['view'], image)


@pytest.mark.parametrize(
    'step, probability',
    [
        ('jitter_prob', 0.8),
        ('noise_prob', 0.6),
        ('solarize_prob', 0.2),
        ('grey_prob', 0.2),
    ],
)
def test_default_probabilities(image, step, probability):
    transform = only(**{step: getattr(PhotometricNoise(), step)})
    tries = 600
    changed = sum(
        bool((transform({'view': image})['view'] != image).any()) for _ in range(tries)
    )
    assert abs(changed / tries - probability) < 0.06
    assert PhotometricNoise().blur_prob == 1.0


@pytest.mark.parametrize(
    ('settings', 'ranges', 'kernels'),
    [
        (
            {},
            {
                'adjust_brightness': (0.6, 1.4),
                'adjust_contrast': (0.6, 1.4),
                'adjust_saturation': (0.8, 1.2),
                'adjust_hue': (-0.1, 0.1),
                'gaussian_noise': (10, 50),
                'sigma': (0.1, 2.0),
            },
            {3, 5, 7},
        ),
        (
            dict(brightness=0.1, contrast=0.2, saturation=0.3, hue=0.05)
            | dict(noise_variance=(1, 2), blur_sigma=(1, 3), blur_kernel=(5, 7)),
            {
                'adjust_brightness': (0.9, 1.1),
                'adjust_contrast': (0.8, 1.2),
                'adjust_saturation': (0.7, 1.3),
                'adjust_hue': (-0.05, 0.05),
                'gaussian_noise': (1, 2),
                'sigma': (1, 3),
            },
            {5, 7},
        ),
    ],
    ids=['defaults', 'given'],
)
def test_draws_cover_the_stated_ranges(monkeypatch, settings, ranges, kernels):
    drawn = {}
    for name in ('adjust_brightness', 'adjust_contrast', 'adjust_saturation',
                 'adjust_hue', 'gaussian_noise'):  # fmt: skip
        monkeypatch.setattr(
            ph,
            name,
            lambda view, amount, name=name: (
                drawn.setdefault(name, []).append(amount) or view
            ),
        )
    monkeypatch.setattr(
        ph,
        'gaussian_blur',
        lambda view, kernel, sigma: (
            drawn.setdefault('kernel', []).append(kernel)
            or drawn.setdefault('sigma', []).append(sigma)
            or view
        ),
    )
    transform = PhotometricNoise(jitter_prob=1, noise_prob=1, **settings)
    for _ in range(800):
        transform({'view': np.zeros((2, 2, 3), np.uint8)})
    for name, (low, high) in ranges.items():
        margin = 0.02 * (high - low)
        assert low <= min(drawn[name]) < low + margin, name
        assert high - margin < max(drawn[name]) <= high, name
    assert set(drawn['kernel']) == kernels


def test_highlights_begin_at_the_threshold(image):
    inverted = only(solarize_prob=1, solarize_threshold=60)({'view': image})['view']
    expected = np.where(image < 60, image, 255 - image)
    np.testing.assert_array_equal(inverted, expected)


def test_even_blur_kernel_is_refused():
    with pytest.raises(ValueError, match='odd'):
        PhotometricNoise(blur_kernel=(4, 7))


def scene(mean, std, seed, skewed=False, size=64):
    """Texture with the given statistics of the bands."""
    generator = np.random.default_rng(seed)
    image = np.zeros((size, size, len(mean)), np.float32)
    for cells in (4, 8, 16, 32):
        # The bands have most of their structure in common.
        octave = generator.normal(0, 1, (cells, cells, 1 + len(mean)))
        octave = (octave[..., :1] + 0.4 * octave[..., 1:]) / cells**0.5
        for band in range(len(mean)):
            image[..., band] += cv2.resize(octave[..., band], (size, size))
    image /= image.std((0, 1))
    if skewed:
        image = np.exp(image)
    image = (image - image.mean((0, 1))) / image.std((0, 1))
    return (image * std + mean).clip(0, 255).astype(np.float32)


def unlike(transform, images, views=150):
    """Share of band views that correlate less than 0.5 with the undisturbed one."""
    correlations = []
    for number in range(views):
        image = images[number % len(images)]
        np.random.seed(number)
        changed = transform({'view': image.copy()})['view']
        for band, noisy in zip(
            np.moveaxis(image, 2, 0), np.moveaxis(changed, 2, 0), strict=True
        ):
            correlations.append(np.corrcoef(band.ravel(), noisy.ravel())[0, 1])
    return np.mean(~(np.array(correlations) >= 0.5))


# Mean and spread of the bands, contrasts of the images, whether clouds skew them:
# like windows of Sentinel-2 and Landsat 7, from water to towns.
CONTRASTS = (0.2, 0.3, 0.5, 1.0, 1.5)
SENSORS = {
    'sentinel': (
        [77, 61, 50, 31, 29, 31, 35, 32],
        [4, 7, 9, 13, 14, 19, 22, 23],
        CONTRASTS,
        False,
    ),
    'landsat': (
        [18, 20, 23, 42, 53, 34, 44],
        [16, 14, 19, 8, 20, 13, 3],
        CONTRASTS,
        True,
    ),
    'low contrast, dark': ([30, 32, 28], [4, 4, 4], (1, 1, 1), False),
    'low contrast, grey': ([128, 126, 130, 128], [4, 4, 4, 4], (1, 1, 1), False),
}


@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
@pytest.mark.parametrize('sensor', SENSORS)
def test_views_of_any_sensor_stay_recognisable(sensor, dtype):
    mean, std, contrasts, skewed = SENSORS[sensor]
    images = [
        scene(mean, contrast * np.array(std), seed, skewed).astype(dtype)
        for seed, contrast in enumerate(contrasts)
    ]
    assert unlike(PhotometricNoise(relative=True), images) <= 0.1
    assert unlike(PhotometricNoise(relative=False), images) > 0.1
    # What is taken if nothing is said: photographs have 8 bits and three bands.
    photographs = dtype == np.uint8 and images[0].shape[2] == 3
    for seed in range(3):
        views = []
        for relative in (None, not photographs):
            np.random.seed(seed)
            transform = PhotometricNoise(relative=relative)
            views.append(transform({'view': images[0]})['view'])
        np.testing.assert_array_equal(*views)


def test_strengths_are_in_units_of_each_bands_spread():
    """Twice the contrast, twice the disturbance, whatever the level."""
    image = scene([60, 90], [10, 20], seed=0, size=128)
    transform = only(noise_prob=1.0, noise_variance=(49, 49), relative=True)
    noise = transform({'view': image})['view'] - image
    # A fifth of the spread: 7 of the 35 levels of photographs.
    np.testing.assert_allclose(noise.std((0, 1)), [2, 4], rtol=0.03)
    other = (image - [60, 90]) * [3, 0.5] + [120, 30]
    for step in (dict(jitter_prob=1.0), dict(noise_prob=1.0), dict(solarize_prob=1.0)):
        transform = only(relative=True, **step)
        for seed in range(5):
            np.random.seed(seed)
            view = transform({'view': image})['view']
            np.random.seed(seed)
            expected = (view - [60, 90]) * [3, 0.5] + [120, 30]
            same = transform({'view': other.astype(np.float32)})['view']
            inside = (expected > 0) & (expected < 255) & (view > 0) & (view < 255)
            assert inside.mean() > 0.9
            np.testing.assert_allclose(same[inside], expected[inside], atol=0.01)


def test_strengths_are_those_of_photographs_for_their_statistics():
    image = np.random.uniform(-(3**0.5), 3**0.5, (64, 64, 3)).astype(np.float32)
    image = (image - image.mean((0, 1))) / image.std((0, 1)) * 35 + np.float32(87.83)
    for step in ('jitter_prob', 'noise_prob', 'solarize_prob', 'grey_prob'):
        for seed in range(5):
            views = []
            for relative in (False, True):
                np.random.seed(seed)
                transform = only(**{step: 1.0}, relative=relative)
                views.append(transform({'view': image})['view'])
            np.testing.assert_allclose(*views, atol=0.01)


def test_solarize_spares_the_greater_part_of_skewed_bands():
    image = scene([30], [20], seed=2, skewed=True)
    view = only(solarize_prob=1.0, relative=True)({'view': image})['view']
    changed = np.abs(view - image) > 0.01
    middle = (image.min() + image.max()) / 2
    assert (image[changed] >= middle - 0.5).all() and 0 < changed.mean() < 0.1


def test_bands_without_contrast_stay_as_they_are():
    image = np.full((16, 16, 4), (0, 7, 128, 255), np.float32)
    for _ in range(10):
        view = PhotometricNoise()({'view': image})['view']
        np.testing.assert_allclose(view, image, atol=0.01)


def test_both_views_and_all_crops_can_be_disturbed():
    grey = np.full((8, 8, 3), 100, np.uint8)
    views = dict(org=grey, view=grey, crops=[grey, grey])
    noise = dict(jitter_prob=0, noise_prob=1, solarize_prob=0, grey_prob=0)
    one = PhotometricNoise(**noise)(dict(views))
    assert (one['org'] == 100).all()
    both = PhotometricNoise(**noise, both=True)(dict(views))
    disturbed = [both['org'], both['view'], *both['crops'], *one['crops']]
    assert all((image != 100).any() for image in disturbed)
    assert (both['crops'][0] != both['crops'][1]).any()
