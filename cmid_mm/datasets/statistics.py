# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Mean, standard deviation and value range of the bands of a data set."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from ..images import (
    NoValidPixelError,
    Reading,
    UnreadableImageError,
    load_image_and_mask,
    read_header,
    read_values,
)
from ..images.image_file import PHOTOGRAPH_EXTENSIONS
from ..images.pixels import ValueRange
from ..worker_faults import TIMEOUT
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
class ValuesOfType:
    """Values of the files of one data type.

    Attributes:
        images: Number of images (or tiles) looked at.
        example: One of the files.
        ranges: Low and high percentile of each band.
    """

    images: int
    example: str
    ranges: list[tuple[float, float]]

    @property
    def joint(self) -> tuple[float, float]:
        """The range that spans those of all bands."""
        lows, highs = zip(*self.ranges, strict=True)
        return min(lows), max(highs)


@dataclass
class DatasetStatistics:
    """What a configuration needs to know of a data set.

    Attributes:
        mean: Mean of each band, 0-255 scale.
        std: Standard deviation of each band, 0-255 scale.
        images: Number of images (or tiles) that went in.
        value_range: Values that became 0 and 255; None for 8-bit data.
        types: What was found by data type, if no value range was given.
        empty: Number of tiles without data.
        unreadable: Message of each image that cannot be read.
    """

    mean: list[float]
    std: list[float]
    images: int
    value_range: ValueRange | None = None
    types: dict[str, ValuesOfType] = field(default_factory=dict)
    empty: int = 0
    unreadable: list[str] = field(default_factory=list)


def reading_of(dataset: ImageryDataset, **options: Any) -> Reading:
    """A reading of all bands of a data set's first readable file.

    Args:
        dataset: Its files; they are read at the distance on the ground, and with the
            masks, of its own windows.
        **options: Of :class:`Reading`.

    Raises:
        UnreadableImageError: If no file can be read.
    """
    if options.get('bands') is None:
        options['num_bands'] = _bands_of_first(dataset)
    own = dataset.reading
    return Reading(**{'size': 224, 'gsd': own.gsd, 'quality': own.quality, **options})


def dataset_statistics(
    dataset: ImageryDataset,
    reading: Reading,
    per_band: bool = False,
    max_images: int | None = None,
    workers: int = 0,
    progress: Progress = iter,
) -> DatasetStatistics:
    """Compute the statistics of a data set's images as training loads them.

    Missing values do not count.

    Args:
        dataset: Its files; the pipeline is not used.
        reading: How they are read; without a value range one is measured by
            :func:`measure_values`.
        per_band: Measure a value range for each band, instead of one for all.
            Defaults to False.
        max_images: Use this many, evenly spread. Defaults to None, all.
        workers: Worker processes. Defaults to 0, this process.
        progress: Wraps the loop over images, such as ``rich.progress.track``.

    Raises:
        UnreadableImageError: If no image can be read.
        BandMismatchError: If a file has not the bands.
    """
    types: dict[str, ValuesOfType] = {}
    if reading.value_range is None:
        types = measure_values(dataset, reading, max_images, workers)
        reading = replace(reading, value_range=suggested_range(types, per_band))
    chosen = _spread(len(dataset), max_images)
    total = BandMoments.empty(reading.num_bands)
    images, empty, unreadable = 0, 0, []
    task = partial(_moments, reading=reading)
    for moments, error in progress(_mapped(dataset, chosen, task, workers)):
        if moments is not None:
            total.add(moments)
            images += 1
        elif error is None:
            empty += 1
        else:
            unreadable.append(error)
    if images == 0:
        raise UnreadableImageError('; '.join(unreadable[:5]) or 'no valid pixel at all')
    return DatasetStatistics(
        total.mean.tolist(),
        total.std.tolist(),
        images,
        reading.value_range,
        types,
        empty,
        list(dict.fromkeys(unreadable)),  # each tile of a file says the same
    )


def measure_values(
    dataset: ImageryDataset,
    reading: Reading,
    max_images: int | None = None,
    workers: int = 0,
) -> dict[str, ValuesOfType]:
    """Measure the values of files that are not 8-bit.

    Ranges span the 1st to the 99.9th percentile of the valid values of up to 1000
    images.

    Args:
        dataset: Its files; the pipeline is not used.
        reading: How they are read; its value range does not matter.
        max_images: Use at most this many.
        workers: Worker processes. Defaults to 0, this process.

    Returns:
        What was found, by data type, ``'uint8'`` (without ranges) among them.
    """
    limit = min(max_images or _SAMPLED_IMAGES, _SAMPLED_IMAGES)
    chosen = _spread(len(dataset), limit)
    samples: dict[str, list[list[NDArray[Any]]]] = {}
    examples: dict[str, str] = {}
    task = partial(_sample_values, reading=reading)
    results = _mapped(dataset, chosen, task, workers)
    for index, (values, _) in zip(chosen, results, strict=True):
        if values is not None:
            dtype = str(values[0].dtype)
            samples.setdefault(dtype, []).append(values)
            examples.setdefault(dtype, dataset.get_data_info(index)['img_path'])
    return {
        dtype: ValuesOfType(
            len(images),
            examples[dtype],
            []
            if dtype == 'uint8'
            else [
                _percentiles(np.concatenate(band)) for band in zip(*images, strict=True)
            ],
        )
        for dtype, images in samples.items()
    }


def suggested_range(
    types: dict[str, ValuesOfType], per_band: bool = False
) -> ValueRange | None:
    """The value range for what was measured; None if all data is 8-bit.

    Of several data types the one with most images decides.

    Args:
        types: From :func:`measure_values`.
        per_band: One range for each band, instead of one for all.
    """
    deep = [found for dtype, found in types.items() if dtype != 'uint8']
    if not deep:
        return None
    found = max(deep, key=lambda values: values.images)
    return tuple(found.ranges) if per_band else found.joint


def _percentiles(values: NDArray[Any]) -> tuple[float, float]:
    low, high = (
        float(limit)
        for limit in np.percentile(values, (_LOW_PERCENTILE, _HIGH_PERCENTILE))
    )
    if values.dtype.kind in 'iu':
        low, high = math.floor(low), math.ceil(high)
    return (low, high) if high > low else (low, low + 1)


def _moments(info: dict[str, Any], reading: Reading) -> BandMoments:
    pixels, valid = load_image_and_mask(info['img_path'], reading, info.get('window'))
    return BandMoments.of_image(pixels, valid)


def _sample_values(info: dict[str, Any], reading: Reading) -> list[NDArray[Any]]:
    """Some valid values of each band."""
    raw = read_values(info['img_path'], reading, info.get('window'), reading.size)
    values = raw.values.reshape(-1, raw.values.shape[2])
    step = max(1, len(values) // _SAMPLED_PIXELS)
    if raw.valid is None:
        return list(values[::step].T)
    valid = raw.valid.reshape(values.shape)
    if not valid.any(axis=0).all():
        raise NoValidPixelError(f'{info["img_path"]}: a band without valid pixels')
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
        timeout=TIMEOUT if workers else 0,
        collate_fn=_identity,
    )


def _spread(length: int, limit: int | None) -> list[int]:
    count = length if limit is None else min(limit, length)
    return [number * length // count for number in range(count)]


def _bands_of_first(dataset: ImageryDataset) -> int:
    error = None
    for index in range(len(dataset)):
        path = dataset.get_data_info(index)['img_path']
        try:
            header = read_header(path)
        except UnreadableImageError as unreadable:
            error = unreadable
            continue
        # Grey photographs stand among coloured ones, whose bands they are given.
        is_photograph = path.lower().endswith(PHOTOGRAPH_EXTENSIONS)
        return 3 if is_photograph else header.num_bands
    raise error or UnreadableImageError('no image')
