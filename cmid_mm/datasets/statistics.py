# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Mean, standard deviation and value range of the bands of a data set."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from ..images.errors import NoValidPixelError, UnreadableImageError
from ..images.reading import count_bands, load_image_and_mask, read_raw
from .imagery import ImageryDataset

Progress = Callable[[Iterable[Any]], Iterable[Any]]

# Percentiles that a suggested value range spans: haze and shadow below, clouds,
# glint and hot pixels above do not deserve contrast.
_LOW_PERCENTILE, _HIGH_PERCENTILE = 1.0, 99.9
_SAMPLED_PIXELS = 4096
_SAMPLED_IMAGES = 1000


class BandMoments:
    """Mean and variance of bands, collected in one numerically stable pass.

    Parts are merged by the pairwise formulas of Chan, Golub and LeVeque (1979), so
    neither many images nor a large mean cost precision.

    Args:
        count (np.ndarray): Number of values, (C,).
        mean (np.ndarray): Their mean, (C,).
        squares (np.ndarray): Sum of their squared deviations from it, (C,).
    """

    def __init__(
        self,
        count: NDArray[np.float64],
        mean: NDArray[np.float64],
        squares: NDArray[np.float64],
    ) -> None:
        self.count, self.mean, self.squares = count, mean, squares

    @classmethod
    def empty(cls, num_bands: int) -> 'BandMoments':
        """No values at all, of ``num_bands`` bands."""
        return cls(np.zeros(num_bands), np.zeros(num_bands), np.zeros(num_bands))

    @classmethod
    def of_image(
        cls, pixels: NDArray[Any], valid: NDArray[np.bool_] | None = None
    ) -> 'BandMoments':
        """Moments of one image.

        Args:
            pixels (np.ndarray): (H, W, C).
            valid (np.ndarray, optional): bool (H, W, C), values that count.
        """
        values = pixels.reshape(-1, pixels.shape[2]).astype(np.float64)
        weights = (
            np.ones_like(values)
            if valid is None
            else valid.reshape(values.shape).astype(np.float64)
        )
        count = weights.sum(axis=0)
        mean = (weights * values).sum(axis=0) / np.maximum(count, 1)
        squares = (weights * (values - mean) ** 2).sum(axis=0)
        return cls(count, mean, squares)

    def add(self, other: 'BandMoments') -> None:
        """Merge the values behind ``other`` into these."""
        count = self.count + other.count
        share = other.count / np.maximum(count, 1)
        delta = other.mean - self.mean
        self.mean = self.mean + share * delta
        self.squares = self.squares + other.squares + self.count * share * delta**2
        self.count = count

    @property
    def std(self) -> NDArray[np.float64]:
        """Population standard deviation, (C,)."""
        return np.sqrt(self.squares / np.maximum(self.count, 1))


@dataclass
class DatasetStatistics:
    """What a configuration needs to know of a data set.

    Attributes:
        mean (list[float]): Mean of each band, 0-255 scale.
        std (list[float]): Standard deviation of each band, 0-255 scale.
        images (int): Number of images (or tiles) that went in.
        value_range (tuple[float, float], optional): Values that became 0 and 255;
            None for 8-bit data.
        unreadable (list[str]): Message of each image that cannot be read.
    """

    mean: list[float]
    std: list[float]
    images: int
    value_range: tuple[float, float] | None = None
    unreadable: list[str] = field(default_factory=list)


def dataset_statistics(
    dataset: ImageryDataset,
    size: int = 224,
    bands: Sequence[int] | None = None,
    value_range: tuple[float, float] | None = None,
    nodata: float | None = None,
    max_images: int | None = None,
    workers: int = 0,
    progress: Progress = iter,
) -> DatasetStatistics:
    """Compute the statistics of a data set's images as training loads them.

    Missing pixels do not count. All bands are taken unless ``bands`` says which; all
    files have to have the number of bands of the first.

    Args:
        dataset (ImageryDataset): Its files; the pipeline is not used.
        size (int): Side to which images are scaled first, in pixels. Defaults to
            224.
        bands (Sequence[int], optional): Bands to take, counted from 1.
        value_range (tuple[float, float], optional): Values of non-8-bit files that
            become 0 and 255. Defaults to None: :func:`suggest_value_range`.
        nodata (float, optional): Value of missing pixels where files have no tag.
        max_images (int, optional): Use this many, evenly spread. Defaults to None,
            all.
        workers (int): Worker processes. Defaults to 0, this process.
        progress (Callable): Wraps the loop over images, such as
            ``rich.progress.track``.

    Returns:
        DatasetStatistics: The statistics.

    Raises:
        UnreadableImageError: If no image can be read.
        BandMismatchError: If the files differ in their number of bands.
    """
    chosen = _spread(len(dataset), max_images)
    num_bands = len(bands) if bands is not None else _bands_of_first(dataset, chosen)
    options: dict[str, Any] = {'num_bands': num_bands, 'bands': bands, 'nodata': nodata}
    if value_range is None:
        value_range = suggest_value_range(
            dataset, size, workers=workers, max_images=max_images, **options
        )
    task = partial(_moments, size=size, value_range=value_range, **options)
    total = BandMoments.empty(num_bands)
    images, unreadable = 0, []
    for moments, error in progress(_mapped(dataset, chosen, task, workers)):
        if moments is not None:
            total.add(moments)
            images += 1
        elif error is not None:
            unreadable.append(error)
    if images == 0:
        raise UnreadableImageError('; '.join(unreadable[:5]) or 'no valid pixel at all')
    return DatasetStatistics(
        total.mean.tolist(), total.std.tolist(), images, value_range, unreadable
    )


def suggest_value_range(
    dataset: ImageryDataset,
    size: int = 224,
    num_bands: int = 3,
    bands: Sequence[int] | None = None,
    nodata: float | None = None,
    max_images: int | None = None,
    workers: int = 0,
) -> tuple[float, float] | None:
    """Suggest the ``value_range`` of data that is not 8-bit.

    The range spans, over all bands, the 1st to the 99.9th percentile of the valid
    pixels of up to 1000 images.

    Args:
        dataset (ImageryDataset): Its files; the pipeline is not used.
        size (int): Side to which images may be reduced first, in pixels.
        num_bands (int): Number of bands. Defaults to 3.
        bands (Sequence[int], optional): Bands to take, counted from 1.
        nodata (float, optional): Value of missing pixels where files have no tag.
        max_images (int, optional): Use at most this many.
        workers (int): Worker processes. Defaults to 0, this process.

    Returns:
        tuple[float, float] | None: Low and high value; None if all data is 8-bit.
    """
    limit = min(max_images or _SAMPLED_IMAGES, _SAMPLED_IMAGES)
    chosen = _spread(len(dataset), limit)
    task = partial(
        _sample_values, size=size, num_bands=num_bands, bands=bands, nodata=nodata
    )
    samples: list[list[NDArray[Any]]] = [[] for _ in range(num_bands)]
    for values, _ in _mapped(dataset, chosen, task, workers):
        if values is not None:
            for band, band_values in zip(samples, values, strict=True):
                band.append(band_values)
    pooled = [np.concatenate(band) for band in samples if band]
    if not pooled:
        return None
    low = min(float(np.percentile(band, _LOW_PERCENTILE)) for band in pooled)
    high = max(float(np.percentile(band, _HIGH_PERCENTILE)) for band in pooled)
    if pooled[0].dtype.kind in 'iu':
        low, high = math.floor(low), math.ceil(high)
    return (low, high) if high > low else (low, low + 1)


def _moments(info: dict[str, Any], size: int, **options: Any) -> BandMoments:
    pixels, valid = load_image_and_mask(
        info['img_path'], size, window=info.get('window'), **options
    )
    return BandMoments.of_image(pixels, valid)


def _sample_values(
    info: dict[str, Any], size: int, **options: Any
) -> list[NDArray[Any]] | None:
    """Some valid values of each band; None if the image is 8-bit."""
    raw = read_raw(info['img_path'], size, window=info.get('window'), **options)
    if raw.pixels.dtype == np.uint8:
        return None
    values = raw.pixels.reshape(-1, raw.pixels.shape[2])
    step = max(1, len(values) // _SAMPLED_PIXELS)
    if raw.valid is None:
        return list(values[::step].T)
    valid = raw.valid.reshape(values.shape)
    return [band[keep][::step] for band, keep in zip(values.T, valid.T, strict=True)]


class _Mapped(Dataset[tuple[Any, str | None]]):
    """Result of a task on each chosen image, or why it cannot be read."""

    def __init__(
        self,
        dataset: ImageryDataset,
        chosen: Sequence[int],
        task: Callable[[dict[str, Any]], Any],
    ) -> None:
        self.dataset, self.chosen, self.task = dataset, chosen, task

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, number: int) -> tuple[Any, str | None]:
        info = self.dataset.get_data_info(self.chosen[number])
        try:
            return self.task(info), None
        except NoValidPixelError as error:
            return None, None if 'window' in info else str(error)
        except UnreadableImageError as error:
            return None, str(error)


def _identity(item: Any) -> Any:
    return item


def _mapped(
    dataset: ImageryDataset,
    chosen: Sequence[int],
    task: Callable[[dict[str, Any]], Any],
    workers: int,
) -> DataLoader[Any]:
    return DataLoader(
        _Mapped(dataset, chosen, task),
        batch_size=None,
        num_workers=workers,
        collate_fn=_identity,
    )


def _spread(length: int, limit: int | None) -> list[int]:
    count = length if limit is None else min(limit, length)
    return [number * length // count for number in range(count)]


def _bands_of_first(dataset: ImageryDataset, chosen: Sequence[int]) -> int:
    error = None
    for index in chosen:
        try:
            return count_bands(dataset.get_data_info(index)['img_path'])
        except UnreadableImageError as unreadable:
            error = unreadable
    raise error or UnreadableImageError('no image')
