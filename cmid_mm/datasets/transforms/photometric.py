# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Photometric noise of the second view (docs/method.md, Views)."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS
from numpy.typing import NDArray

from ...ranges import CountRange, NonNegative, NonNegativeRange, PositiveRange, Share
from .order import require

# ITU-R BT.601 weights of R, G, B, those of OpenCV's and Pillow's grey.
_LUMA = np.array([0.299, 0.587, 0.114])
_LEVELS = np.arange(256, dtype=np.float32)

# Grey levels of the photographs that the method's strengths are meant for:
# MillionAID's statistics (docs/method.md, Views), averaged over its bands.
_PHOTO_MEAN, _PHOTO_STD = 87.83, 35.0
# Of a band without contrast there is nothing to disturb.
_LEAST_STD = 1e-3


def adjust_brightness(image: NDArray[Any], factor: float) -> NDArray[Any]:
    """Scale all values by ``factor``.

    Args:
        image (np.ndarray): uint8, saturating, or float32, unbounded, (H, W, C).
        factor (float): Non-negative; 1 changes nothing.

    Returns:
        np.ndarray: As ``image``.
    """
    return _affine(image, factor, 0.0)


def adjust_contrast(image: NDArray[Any], factor: float) -> NDArray[Any]:
    """Scale the distance to the mean grey value of the image.

    The pivot is the mean luma of 3-band images, of others the mean of all values.

    Args:
        image (np.ndarray): uint8, saturating, or float32, unbounded, (H, W, C).
        factor (float): Non-negative; 0 gives a flat image, 1 changes nothing.

    Returns:
        np.ndarray: As ``image``.
    """
    # Sums are ten times faster than cv2.mean. They take at most four channels, hence
    # the flat view of other images.
    if image.shape[2] == 3:
        share = 1.0 / (image.shape[0] * image.shape[1])
        pivot = float(np.ravel(cv2.sumElems(image))[:3] * share @ _LUMA)
    else:
        flat = image.reshape(image.shape[0], -1)
        pivot = float(np.ravel(cv2.sumElems(flat))[0]) / image.size
    return _affine(image, factor, (1 - factor) * pivot)


def adjust_saturation(image: NDArray[Any], factor: float) -> NDArray[Any]:
    """Scale the distance of each pixel to its grey value.

    Args:
        image (np.ndarray): RGB, uint8, saturating, or float32, unbounded, (H, W, 3).
        factor (float): Non-negative; 0 gives grey, 1 changes nothing.

    Returns:
        np.ndarray: As ``image``.
    """
    matrix = factor * np.eye(3) + (1 - factor) * _LUMA
    return cv2.transform(image, matrix)


def adjust_hue(image: NDArray[Any], shift: float) -> NDArray[Any]:
    """Rotate the hue.

    Args:
        image (np.ndarray): RGB, uint8, saturating, or float32, unbounded, (H, W, 3).
        shift (float): Part of the colour circle, -0.5 to 0.5.

    Returns:
        np.ndarray: As ``image``.
    """
    if image.dtype == np.uint8:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
        # The full circle has 256 steps, so 8-bit overflow is the right wrap. By whole
        # rows, a quarter of the time that strides over the hues take.
        steps = np.array([round(shift * 256) % 256, 0, 0], np.uint8)
        rows = hsv.reshape(hsv.shape[0], -1)
        np.add(rows, np.tile(steps, hsv.shape[1]), out=rows)
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)
    # A hue says how the bands differ, whatever their level; OpenCV needs it positive.
    level = min(float(image.min()), 0.0)
    hsv = cv2.cvtColor(image - level, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + 360.0 * shift) % 360.0
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) + level


def gaussian_blur(image: NDArray[Any], kernel: int, sigma: float) -> NDArray[Any]:
    """Blur by a Gaussian, with reflected borders.

    Args:
        image (np.ndarray): uint8 or float32, (H, W, C).
        kernel (int): Odd side of the kernel in pixels.
        sigma (float): Standard deviation in pixels.

    Returns:
        np.ndarray: As ``image``.
    """
    blurred = cv2.GaussianBlur(image, (kernel, kernel), sigma)
    return blurred.reshape(image.shape)


def gaussian_noise(image: NDArray[Any], variance: float) -> NDArray[Any]:
    """Add independent Gaussian noise to every value.

    Args:
        image (np.ndarray): uint8, saturating, or float32, unbounded, (H, W, C).
        variance (float): Variance of the noise on the 0-255 scale.

    Returns:
        np.ndarray: As ``image``.
    """
    cv2.setRNGSeed(int(np.random.randint(2**31)))
    flat = image.reshape(image.shape[0], -1)
    dtype = np.int16 if image.dtype == np.uint8 else np.float32
    noise = np.empty(flat.shape, dtype)
    # Four values, an OpenCV scalar; the same noise from one takes a third longer. As
    # a column: OpenCV 5 refuses them in one dimension.
    cv2.randn(noise, np.zeros((4, 1)), np.full((4, 1), variance**0.5))
    noise += flat
    if image.dtype == np.uint8:
        noise = np.clip(noise, 0, 255, out=noise).astype(np.uint8)
    return noise.reshape(image.shape)


def solarize(image: NDArray[Any], threshold: float) -> NDArray[Any]:
    """Invert all values from ``threshold`` on.

    Args:
        image (np.ndarray): uint8, saturating, or float32, unbounded, (H, W, C).
        threshold (float): First value that is inverted.

    Returns:
        np.ndarray: As ``image``.
    """
    if image.dtype == np.uint8:
        table = np.where(threshold > _LEVELS, _LEVELS, 255 - _LEVELS)
        return cv2.LUT(image, table.astype(np.uint8)).reshape(image.shape)
    return np.where(image >= threshold, np.float32(255) - image, image)


def to_grey(image: NDArray[Any]) -> NDArray[Any]:
    """Replace R, G and B by their luma.

    Args:
        image (np.ndarray): RGB, uint8 or float32, (H, W, 3).

    Returns:
        np.ndarray: As ``image``, three equal bands.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)


def _affine(image: NDArray[Any], scale: float, offset: float) -> NDArray[Any]:
    if image.dtype == np.uint8:
        return cv2.addWeighted(image, scale, image, 0, offset).reshape(image.shape)
    return image * np.float32(scale) + np.float32(offset)


class BandScale:
    """The scale on which an image's bands have the contrast of photographs.

    Each band's mean and standard deviation are brought to those of the photographs
    for which the method's strengths are given, so that a strength means the same
    share of the contrast in every band of every sensor.

    Args:
        image (np.ndarray): uint8 or float32 (0-255), (H, W, C).
    """

    def __init__(self, image: NDArray[Any]) -> None:
        self.dtype = image.dtype
        mean, std = (moment.ravel() for moment in cv2.meanStdDev(image))
        gain = _PHOTO_STD / np.maximum(std, _LEAST_STD)
        # One row of the image: long rows are what NumPy is fast on.
        self.gain = np.tile(gain, image.shape[1]).astype(np.float32)
        self.mean = np.tile(mean, image.shape[1]).astype(np.float32)

    def to_photo(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """Bring an image to the scale: float32, unbounded, (H, W, C)."""
        rows = image.reshape(image.shape[0], -1).astype(np.float32)
        rows -= self.mean
        rows *= self.gain
        rows += _PHOTO_MEAN
        return rows.reshape(image.shape)

    def from_photo(self, image: NDArray[np.float32]) -> NDArray[Any]:
        """Bring an image back to its own scale and type, saturating at 0 and 255."""
        rows = image.reshape(image.shape[0], -1) - np.float32(_PHOTO_MEAN)
        rows /= self.gain
        rows += self.mean
        _saturate(rows)
        if self.dtype == np.uint8:
            np.rint(rows, out=rows)
        return rows.astype(self.dtype, copy=False).reshape(image.shape)


def _saturate(image: NDArray[Any]) -> NDArray[Any]:
    # OpenCV saturates 8-bit results itself.
    return image if image.dtype == np.uint8 else np.clip(image, 0, 255, out=image)


@TRANSFORMS.register_module()
class PhotometricNoise(BaseTransform):
    """Disturb the colours of ``view`` and small crops; ``org`` stays as it is.

    In this order: colour jitter (brightness, contrast, saturation and hue in random
    order), Gaussian blur, Gaussian noise, solarize, grey. Saturation, hue and grey
    need colour, so they apply to 3-band images only; all other steps to any number
    of bands. Required and changed key: ``view`` (H, W, C), uint8 or float32 (0-255).

    The strengths are meant for photographs, 8-bit images with three bands, and are
    taken literally there. Other sensors fill the 0-255 scale in other ways: what is
    a trace of noise in a photograph drowns a band whose values spread over 4 levels.
    So all other views are disturbed in units of the spread of their own bands: each
    band of the view is brought to the mean and standard deviation of photographs
    (88 and 35 levels), disturbed there by the same strengths, and brought back. Of
    the steps, brightness, noise and solarization depend on that scale, contrast and
    the colour steps on how bright the bands are relative to each other, blur on
    neither. No statistics need to be given.

    Solarization inverts the highlights, which begin in the middle of the 0-255 scale.
    In units of the spread it begins no lower than in the middle of the band's own
    range; or skewed bands, such as dark ground with clouds, would lose the better
    part of their contrast.

    Args:
        brightness (float): Factor drawn from 1 +- this value. Defaults to 0.4.
        contrast (float): Factor drawn from 1 +- this value. Defaults to 0.4.
        saturation (float): Factor drawn from 1 +- this value. Defaults to 0.2.
        hue (float): Shift drawn from +- this part of the circle. Defaults to 0.1.
        jitter_prob (float): Probability of the jitter. Defaults to 0.8.
        blur_kernel (Sequence[int]): Smallest and largest odd kernel side in pixels.
            Defaults to (3, 7).
        blur_sigma (Sequence[float]): Range of sigma in pixels. Defaults to
            (0.1, 2.0).
        blur_prob (float): Probability of the blur. Defaults to 1.0.
        noise_variance (Sequence[float]): Range of the variance, in grey levels of
            photographs squared. Defaults to (10, 50).
        noise_prob (float): Probability of the noise. Defaults to 0.6.
        solarize_threshold (float): First inverted value, in grey levels of
            photographs. Defaults to 128.
        solarize_prob (float): Probability of solarization. Defaults to 0.2.
        grey_prob (float): Probability of grey. Defaults to 0.2.
        relative (bool, optional): Whether strengths are in units of each band's
            spread. Defaults to None: unless the view is 8-bit with three bands.
            Set it for 8-bit RGB that is no photograph, such as dark satellite
            composites.
        both: Disturb ``org`` too, each view by itself.
    """

    def __init__(
        self,
        brightness: NonNegative = 0.4,
        contrast: NonNegative = 0.4,
        saturation: NonNegative = 0.2,
        hue: NonNegative = 0.1,
        jitter_prob: Share = 0.8,
        blur_kernel: CountRange = (3, 7),
        blur_sigma: PositiveRange = (0.1, 2.0),
        blur_prob: Share = 1.0,
        noise_variance: NonNegativeRange = (10.0, 50.0),
        noise_prob: Share = 0.6,
        solarize_threshold: float = 128,
        solarize_prob: Share = 0.2,
        grey_prob: Share = 0.2,
        relative: bool | None = None,
        both: bool = False,
    ) -> None:
        if any(side % 2 == 0 for side in blur_kernel):
            raise ValueError(
                f'PhotometricNoise: blur_kernel sides must be odd, got {blur_kernel}'
            )
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
        self.hue = hue
        self.jitter_prob = jitter_prob
        self.blur_kernel = blur_kernel[0], blur_kernel[1]
        self.blur_sigma = blur_sigma[0], blur_sigma[1]
        self.blur_prob = blur_prob
        self.noise_variance = noise_variance[0], noise_variance[1]
        self.noise_prob = noise_prob
        self.solarize_threshold = solarize_threshold
        self.solarize_prob = solarize_prob
        self.grey_prob = grey_prob
        self.relative = relative
        self.both = both

    def jitter(self, image: NDArray[Any]) -> NDArray[Any]:
        """Change brightness, contrast, saturation and hue in random order."""
        steps: list[tuple[Callable[..., NDArray[Any]], float, float]] = [
            (adjust_brightness, 1.0, self.brightness),
            (adjust_contrast, 1.0, self.contrast),
        ]
        if image.shape[2] == 3:
            steps.append((adjust_saturation, 1.0, self.saturation))
            steps.append((adjust_hue, 0.0, self.hue))
        for number in np.random.permutation(len(steps)):
            adjust, centre, spread = steps[number]
            if spread:
                amount = np.random.uniform(centre - spread, centre + spread)
                image = adjust(image, max(amount, 0.0) if centre else amount)
        return image

    def disturb(self, image: NDArray[Any], relative: bool) -> NDArray[Any]:
        """Apply all steps.

        Args:
            image (np.ndarray): On the scale of photographs, (H, W, C).
            relative (bool): Whether it is there by :class:`BandScale`, with values
                beyond 0 and 255.

        Returns:
            np.ndarray: As ``image``.
        """
        if np.random.random() < self.jitter_prob:
            image = self.jitter(image)
        if np.random.random() < self.blur_prob:
            low, high = self.blur_kernel
            kernel = low + 2 * np.random.randint((high - low) // 2 + 1)
            image = gaussian_blur(image, kernel, np.random.uniform(*self.blur_sigma))
        if np.random.random() < self.noise_prob:
            image = gaussian_noise(image, np.random.uniform(*self.noise_variance))
        if np.random.random() < self.solarize_prob:
            image = self.invert_highlights(image, relative)
        if np.random.random() < self.grey_prob and image.shape[2] == 3:
            image = to_grey(image)
        return image

    def invert_highlights(self, image: NDArray[Any], relative: bool) -> NDArray[Any]:
        """Solarize; arguments and result as of :meth:`disturb`."""
        if not relative:
            return solarize(image, self.solarize_threshold)
        middle = (image.min((0, 1)) + image.max((0, 1))) / 2
        excess = np.maximum(middle - np.float32(self.solarize_threshold), 0)
        return solarize(image - excess, self.solarize_threshold) + excess

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Disturb ``results['view']``, the small crops, and ``org`` if asked for."""
        require(self, results, view='ViewPair')
        if self.both:
            results['org'] = self.disturb_view(results['org'])
        results['view'] = self.disturb_view(results['view'])
        results['crops'] = [self.disturb_view(c) for c in results.get('crops', ())]
        return results

    def disturb_view(self, view: NDArray[Any]) -> NDArray[Any]:
        """Disturb one view, (H, W, C), uint8 or float32 (0-255)."""
        relative = self.relative
        if relative is None:
            relative = view.dtype != np.uint8 or view.shape[2] != 3
        if not relative:
            return _saturate(self.disturb(view, relative))
        scale = BandScale(view)
        return scale.from_photo(self.disturb(scale.to_photo(view), relative))

    def __repr__(self) -> str:
        arguments = ', '.join(f'{name}={value}' for name, value in vars(self).items())
        return f'{type(self).__name__}({arguments})'
