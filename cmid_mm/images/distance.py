# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Images read at another distance of pixels on the ground than their own."""

import math
from dataclasses import replace

import numpy as np
from rasterio import Affine

from .notices import say_once
from .pixels import Pixels, Window
from .place import NEARLY, Place, pixel_metres
from .reducing import in_strips
from .resampling import axis, resample
from .source import Source
from .values import reduced_shape, resize_by_area

#: Enlargement above which it is said that a file has no such detail.
MOST_ENLARGED = 1.5
#: Share of a row, or column, of the new grid that the last one has to cover.
_COVERED = 0.25
#: Share by which a ratio of distances may miss a whole number, by rounding.
_ROUNDED = 1e-6


def at_distance(source: Source, place: Place | None, gsd: float) -> Source:
    """An image on a grid of square pixels of some distance, from its own first corner.

    Args:
        source: The image.
        place: Where it lies.
        gsd: The distance in metres.

    Returns:
        The image as it is if its own distance is nearly that.

    Raises:
        PlaceMismatchError: If the distance of its own pixels is not known.
    """
    header = source.header
    own = pixel_metres(header.path, place, header.shape)
    factors = tuple(_factor(gsd / metres) for metres in own)
    if factors == (1, 1):
        return source
    assert place is not None and place.transform is not None
    enlarged = 1 / min(factors)
    if enlarged > MOST_ENLARGED:
        say_once(
            f'gsd {max(own):.3g}',
            f'{header.path}: its own pixels are of {max(own):.3g} m and are enlarged '
            f'{enlarged:.3g} times to gsd={gsd:g}, which adds no detail',
        )
    return AtDistance(source, place, factors[0], factors[1])


def _factor(ratio: float) -> float:
    if abs(ratio - 1) <= NEARLY:
        return 1.0
    whole = round(ratio)
    return float(whole) if abs(ratio - whole) <= _ROUNDED * ratio else ratio


class AtDistance:
    """An image on a grid whose pixels are larger or smaller than its own.

    Each pixel is the mean of the valid ones that it covers, by the shares that it
    covers; along an axis on which it is smaller than these, they are interpolated.
    That is by weights of rows and of columns, not by GDAL, whose warping takes longer
    and whose averages take each band's marker of missing values by itself, and
    overviews however they were made.

    Args:
        source: The image.
        place: Where it lies.
        down: Rows of the image in a row of the grid.
        across: Columns of the image in a column of the grid.
    """

    def __init__(
        self, source: Source, place: Place, down: float, across: float
    ) -> None:
        self.source = source
        self._factors = down, across
        own = source.header
        self.header = replace(
            own,
            height=max(1, math.ceil(own.height / down - _COVERED)),
            width=max(1, math.ceil(own.width / across - _COVERED)),
        )
        assert place.transform is not None
        self.place = replace(
            place, transform=place.transform * Affine.scale(across, down)
        )

    def read(
        self,
        bands: list[int],
        window: Window,
        min_size: int | None = None,
        marker: float | None = None,
    ) -> Pixels:
        """Read pixels as :meth:`cmid_mm.images.rasters.Raster.read` does."""

        def read(part: Window) -> Pixels:
            whole = self._whole(part)
            if whole is not None:
                return self._reduced(bands, whole, part[2:], marker)
            return self._weighed(bands, part, marker)

        down, across = self._factors
        # Values and a mask of what is read, and both as floating point.
        row_bytes = math.ceil(window[3] * across * down) * len(bands) * 16
        shape = reduced_shape(*window[2:], min_size)
        return in_strips(read, window, shape, row_bytes)

    def read_indices(self, window: Window | None = None) -> Pixels:
        """Refused: between two indices there is none."""
        raise ValueError(f'{self.header.path}: indices are read without gsd')

    def close(self) -> None:
        """Let go of the file."""
        self.source.close()

    def _whole(self, window: Window) -> Window | None:
        """The window in the file's pixels if these fill those of the grid."""
        factor = int(self._factors[0])
        top, left, height, width = (factor * edge for edge in window)
        own = self.source.header
        if self._factors != (factor, factor) or (
            top + height > own.height or left + width > own.width
        ):
            return None
        return top, left, height, width

    def _reduced(
        self,
        bands: list[int],
        window: Window,
        shape: tuple[int, int],
        marker: float | None,
    ) -> Pixels:
        """Read a window of the file, reduced by a whole factor."""
        pixels = self.source.read(bands, window, min(shape), marker)
        # The decoder of JPEG may stop at a lower factor.
        return Pixels(*resize_by_area(pixels.values, pixels.valid, shape))

    def _weighed(
        self, bands: list[int], window: Window, marker: float | None
    ) -> Pixels:
        """Read a window of the grid from what it touches."""
        own = self.source.header
        # Much finer pixels are averaged beforehand, through overviews if there are.
        smallest = min(self._factors)
        before = 2 ** int(math.log2(smallest / 8)) if smallest >= 16 else 1
        axes = [
            axis(
                (start + np.arange(count + 1)) * factor / before,
                max(1, length // before),
            )
            for start, count, factor, length in zip(
                window[:2], window[2:], self._factors, own.shape, strict=True
            )
        ]
        rows, columns = axes
        height, width = rows.stop - rows.first, columns.stop - columns.first
        pixels = self._reduced(
            bands,
            (
                rows.first * before,
                columns.first * before,
                min(height * before, own.height),
                min(width * before, own.width),
            ),
            (height, width),
            marker,
        )
        return resample(pixels, rows, columns)
