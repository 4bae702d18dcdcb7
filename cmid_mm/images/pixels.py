# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What a file says of itself, what is read of it, and how it becomes numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import BandMismatchError

#: Part of an image: top, left, height, width in pixels.
Window = tuple[int, int, int, int]

#: Values that become 0 and 255: of all bands, or of each.
ValueRange = tuple[float, float] | tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Quality:
    """A raster beside each scene that says which of its pixels count as missing.

    Attributes:
        file: Its name, made of the scene's: ``{stem}`` is the name without folder
            and ending, ``{folder}`` the folder that the scene lies in, or the scene
            itself if it is a folder. ``*`` stands for what differs, as long as one
            file fits: ``'{stem}_SCL.tif'``, ``'{folder}/*_QA_PIXEL.TIF'``. A name
            without folder is one beside the scene.
        values: Values of missing pixels, such as 3, 8, 9 and 10 of Sentinel-2's SCL.
        bits: Numbers of bits, 0 being the lowest, of which one that is set marks a
            missing pixel, such as 3 and 4 of Landsat's QA_PIXEL.

    Raises:
        ValueError: If neither values nor bits are given, or a bit is negative.
    """

    file: str
    values: Sequence[int] = ()
    bits: Sequence[int] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, 'values', tuple(self.values))
        object.__setattr__(self, 'bits', tuple(self.bits))
        if not (self.values or self.bits) or min(self.bits, default=0) < 0:
            raise ValueError(
                f'quality of {self.file}: found values={list(self.values)} and '
                f'bits={list(self.bits)}; name the values, or the bits from 0, by '
                'which the file marks missing pixels'
            )


@dataclass(frozen=True)
class Reading:
    """How a file becomes numbers: one thing, passed on as a whole.

    Attributes:
        num_bands: Number of bands that are expected. Defaults to the number of
            ``bands``, or 3.
        bands: Bands to take, counted from 1 as in GDAL, or by their names in the
            file, in the order wanted. None takes all that hold data; transparency
            does not.
        value_range: Values of files other than 8-bit that become 0 and 255: one pair
            for all bands or one for each. None maps the whole range of an integer
            type; other files need it.
        size: Side in pixels of the square that an image is resized to. None keeps
            the size of the file.
        nodata: Value that marks missing pixels in files that do not say so
            themselves.
        gsd: Distance of pixels on the ground in metres at which every file is read,
            whatever its own is. None reads files as they are.
        quality: Masks beside the files, of which more pixels are missing; also as a
            dict of the attributes of :class:`Quality`.

    Raises:
        BandMismatchError: If the number of bands and the bands disagree.
        ValueError: If a value range is not (low, high), or not one for each band; if
            the distance is not above 0.
    """

    num_bands: int = 0
    bands: Sequence[int | str] | None = None
    value_range: ValueRange | None = None
    size: int | None = None
    nodata: float | None = None
    gsd: float | None = None
    quality: Quality | None = None

    def __post_init__(self) -> None:
        if isinstance(self.quality, Mapping):
            object.__setattr__(self, 'quality', Quality(**self.quality))
        if self.gsd is not None and not 0 < self.gsd < np.inf:
            raise ValueError(f'gsd is a distance in metres above 0, got {self.gsd}')
        if self.bands is not None:
            object.__setattr__(self, 'bands', tuple(self.bands))
            if not self.bands or self.num_bands not in (0, len(self.bands)):
                raise BandMismatchError(
                    f'bands={list(self.bands)} selects {len(self.bands)} bands but '
                    f'num_bands={self.num_bands} are expected; make both agree'
                )
        if self.num_bands < 1:
            default = 3 if self.bands is None else len(self.bands)
            object.__setattr__(self, 'num_bands', default)
        if self.value_range is not None:
            checked = _checked_range(self.value_range, self.num_bands)
            object.__setattr__(self, 'value_range', checked)

    def is_like(self, other: 'Reading') -> bool:
        """Whether both take the same bands and make the same numbers of them.

        The size of the image is not compared, nor which pixels are masked, and bands
        that are not named count as the first ones.
        """

        def numbers(reading: Reading) -> tuple[Any, ...]:
            value_range: Any = reading.value_range
            if value_range is not None and np.ndim(value_range) == 1:
                value_range = (value_range,) * reading.num_bands
            # NaN is no number, and never the same as itself.
            nodata = None if reading.nodata is None else repr(float(reading.nodata))
            bands = reading.bands or range(1, reading.num_bands + 1)
            return tuple(bands), np.array(value_range).tolist(), nodata, reading.gsd

        return numbers(self) == numbers(other)

    def limits(self, dtype: np.dtype, path: str | Path) -> tuple[Any, Any]:
        """Values that become 0 and 255, each a number or an array (C,).

        Args:
            dtype: Type of the values.
            path: The file, for the error.

        Raises:
            ValueError: If the type has no natural range and none is given.
        """
        if self.value_range is None:
            if dtype.kind not in 'iu':
                raise ValueError(
                    f'{path}: values are {dtype}, whose range is not known; set '
                    'value_range=(low, high) in LoadImagery (tools/dataset_stats.py '
                    'suggests one)'
                )
            natural = np.iinfo(dtype)
            return float(natural.min), float(natural.max)
        low, high = np.asarray(self.value_range, np.float64).T
        return low, high


def _checked_range(value_range: Any, num_bands: int) -> ValueRange:
    pairs = np.asarray(value_range, np.float64)
    single = pairs.ndim == 1
    if (
        pairs.shape not in ((2,), (num_bands, 2))
        or not (np.diff(pairs, axis=-1) > 0).all()
    ):
        raise ValueError(
            'value_range must be (low, high) with low < high, or one such pair for '
            f'each of the {num_bands} bands, got {value_range}'
        )
    # As given: 0 stays an integer in configs and messages.
    if single:
        return value_range[0], value_range[1]
    return tuple((low, high) for low, high in value_range)


@dataclass(frozen=True)
class Header:
    """What a file says of itself without its pixels.

    Attributes:
        path: The file.
        height: Height in pixels.
        width: Width in pixels.
        count: Number of bands, a palette's three colours and transparency included.
        dtype: Type of the values.
        alpha: Number of the band that is transparency, counted from 1; None if the
            file does not say that one is.
        nodata: Value by which the file marks missing pixels; None if by none.
        palette: Whether the file holds indices of colours.
        band_names: Names of all bands; None if the file does not name them.
    """

    path: Path
    height: int
    width: int
    count: int
    dtype: np.dtype
    alpha: int | None = None
    nodata: float | None = None
    palette: bool = False
    band_names: tuple[str, ...] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.height, self.width

    @property
    def num_bands(self) -> int:
        """Number of bands that hold data: all but transparency."""
        return self.count - (self.alpha is not None)

    def select(self, reading: Reading) -> list[int]:
        """Bands that a reading takes from this file, counted from 1.

        The only band of a file stands three times where three are expected: grey is
        a colour. Transparency is a band only if it is asked for, by its number or
        because just so many bands are expected: GDAL marks the fourth of four 8-bit
        bands as transparency unless told otherwise, near infrared among them.

        Raises:
            BandMismatchError: If the file has not the bands.
        """
        expected = reading.num_bands
        if reading.bands is not None:
            names = self.band_names or ()
            numbers = [
                names.index(band) + 1 if band in names else band
                for band in reading.bands
            ]
            known = range(1, self.count + 1)
            if all(number in known for number in numbers):
                return [int(number) for number in numbers]
            raise BandMismatchError(
                f'{self.path}: has {self.count} bands{self._named()}, but bands='
                f'{list(reading.bands)} was asked for; bands count from 1 to '
                f'{self.count}'
            )
        if expected == self.count:
            return list(range(1, self.count + 1))
        data = [band for band in range(1, self.count + 1) if band != self.alpha]
        if len(data) == 1 and expected == 3:
            return data * 3
        if len(data) != expected:
            raise BandMismatchError(
                f'{self.path}: found {len(data)} bands{self._named()}, expected '
                f'{expected}. Either '
                f'choose {expected} bands with bands=[...] in LoadImagery (counted '
                f'from 1), or use all: num_bands={len(data)} in LoadImagery and '
                f'{len(data)} values of mean and std in data_preprocessor'
            )
        return data

    def _named(self) -> str:
        """The bands with their numbers, for messages."""
        if self.band_names is None:
            return ''
        named = (f'{i} {name}' for i, name in enumerate(self.band_names, 1))
        return f' ({", ".join(named)})'


@dataclass
class Pixels:
    """Values as a file stores them.

    Attributes:
        values: (H, W, C), any real type; RGB order for photographs.
        valid: Bool (H, W, C), False where there is no data; None when all is valid.
    """

    values: NDArray[Any]
    valid: NDArray[np.bool_] | None = None

    @property
    def missing(self) -> NDArray[np.bool_] | None:
        """Pixels in which no band holds data, (H, W); None if there are none."""
        return missing_pixels(self.valid)


def missing_pixels(valid: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    """Pixels in which no band holds data.

    Args:
        valid: Bool (H, W, C); None for all.

    Returns:
        Bool (H, W); None if there are none.
    """
    if valid is None:
        return None
    missing = np.asarray(~valid.any(axis=2))
    return missing if missing.any() else None


def valid_values(
    present: NDArray[np.bool_], marker: float, dtype: np.dtype
) -> NDArray[np.bool_]:
    """Which values are data, where a value marks missing ones.

    The lowest and the highest value of an unsigned type, the usual markers, are also
    those of black and of saturated pixels: one hides nothing in a pixel that holds
    data in another band. Every other marker, such as -9999, is no data wherever it
    stands.

    Args:
        present: Bool (H, W, C), where the marker does not stand; all bands of the
            file.
        marker: The value.
        dtype: Type of the values.

    Returns:
        Bool (H, W, C).
    """
    if not marks_pixels(marker, dtype):
        return present
    return np.broadcast_to(present.any(axis=2, keepdims=True), present.shape)


def marks_pixels(marker: float, dtype: np.dtype) -> bool:
    """Whether a marker counts only where it stands in all bands of a pixel."""
    return dtype.kind == 'u' and marker in (0, np.iinfo(dtype).max)


def stored_marker(marker: float | None, dtype: np.dtype) -> Any:
    """A marker as values of a type have it; None if none can be equal to it."""
    if marker is None or dtype.kind == 'f':
        return None if marker is None else dtype.type(marker)
    limits = np.iinfo(dtype)
    if not limits.min <= marker <= limits.max or marker != int(marker):
        return None
    return dtype.type(marker)
