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
    assert np.abs(ours.astype(float) - theirs).max() <= tolerance


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
    noisy = ph.gaussian_noise(np.zeros((64, 64, 3), np.float32), 50.0)
    assert noisy.min() == 0


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
    transform = only(jitter_prob=1.0, blur_prob=1.0, solarize_prob=0.0)
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


def test_draws_cover_the_stated_ranges(monkeypatch):
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
    transform = PhotometricNoise(jitter_prob=1, noise_prob=1)
    for _ in range(800):
        transform({'view': np.zeros((2, 2, 3), np.uint8)})
    ranges = {
        'adjust_brightness': (0.6, 1.4),
        'adjust_contrast': (0.6, 1.4),
        'adjust_saturation': (0.8, 1.2),
        'adjust_hue': (-0.1, 0.1),
        'gaussian_noise': (10, 50),
        'sigma': (0.1, 2.0),
    }
    for name, (low, high) in ranges.items():
        margin = 0.02 * (high - low)
        assert low <= min(drawn[name]) < low + margin, name
        assert high - margin < max(drawn[name]) <= high, name
    assert set(drawn['kernel']) == {3, 5, 7}


def test_even_blur_kernel_is_refused():
    with pytest.raises(ValueError, match='odd'):
        PhotometricNoise(blur_kernel=(4, 7))
