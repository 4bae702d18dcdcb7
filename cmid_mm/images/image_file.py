# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""One image file: the one place where an image is opened."""

import os
import stat
from collections import OrderedDict
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .errors import NoValidPixelError, UnreadableImageError
from .notices import say_once
from .photographs import (
    JPEG_EXTENSIONS,
    PNG_EXTENSIONS,
    open_photograph,
    photograph_header,
)
from .pixels import Header, Pixels, Reading, Window
from .place import Place, has_side_file
from .rasters import RASTER_EXTENSIONS, Raster
from .values import (
    fill_missing,
    resize_by_area,
    to_display_range,
    to_network_input,
)

PHOTOGRAPH_EXTENSIONS = JPEG_EXTENSIONS + PNG_EXTENSIONS
#: Endings of image files, in lower case; those of files may be in any.
IMAGE_EXTENSIONS = PHOTOGRAPH_EXTENSIONS + RASTER_EXTENSIONS

#: Rasters that a process holds open for the next window.
_HELD_OPEN = 32


class Source(Protocol):
    """A decoder of one file."""

    header: Header

    def read(
        self,
        bands: list[int],
        window: Window,
        min_size: int | None = None,
        marker: float | None = None,
    ) -> Pixels:
        """Read values of some bands."""
        ...

    def read_indices(self, window: Window | None = None) -> Pixels:
        """Read values as stored."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


class ImageFile:
    """An image file, open until it is closed: header, place and pixels.

    A context manager. Windows of a raster are read by themselves; JPEG and PNG are
    decoded whole, at each reading unless ``keep``.

    Args:
        path: The file, or anything else that GDAL opens.
        keep: Keep the decoded pixels of a JPEG or PNG. Defaults to False.
        onto: Image onto whose pixels this one is warped. Defaults to None, as it is.
        nearest: Whether it is warped by the nearest pixel, as labels must be.

    Raises:
        UnreadableImageError: If it is missing, not a file, or its header is broken.
        PlaceMismatchError: If it shall be warped but has no place.
    """

    def __init__(
        self,
        path: str | Path,
        keep: bool = False,
        onto: 'ImageFile | None' = None,
        nearest: bool = False,
    ) -> None:
        self.path = Path(path)
        _check_regular(path)
        source: Any = None
        if onto is None and self.path.suffix.lower() in PHOTOGRAPH_EXTENSIONS:
            source = open_photograph(self.path, keep)
        if source is None:
            grid = None if onto is None else (onto.header, onto.place)
            source = Raster(path, grid, nearest)
        self._source: Source = source
        # Beyond its edges a warped image has transparency that the file has not.
        self._warped = onto is not None
        self.header: Header = source.header

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.header.height

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.header.width

    @cached_property
    def place(self) -> Place | None:
        """Where the image lies: its own statement, or a world file beside it."""
        if isinstance(self._source, Raster):
            return self._source.place
        if not has_side_file(self.path):
            return None
        raster = Raster(self.path)
        raster.close()
        return raster.place

    # -- Pixels --------------------------------------------------------------------

    def read(
        self,
        reading: Reading,
        window: Window | None = None,
        min_size: int | None = None,
    ) -> Pixels:
        """Read the values of the file.

        Args:
            reading: Which bands, and what is missing.
            window: Part to read. Defaults to None, the whole image.
            min_size: Reduce by a whole factor, so that both sides of the result stay
                at least this large (unless the image is smaller). Defaults to None,
                full resolution.

        Returns:
            Values and which of them are data, ``reading.num_bands`` bands.

        Raises:
            UnreadableImageError: If the pixels cannot be read.
            BandMismatchError: If the file has not the bands.
        """
        header = self.header
        bands = header.select(reading)
        masks = header.alpha is not None and header.alpha not in bands
        if masks and not self._warped:
            say_once(
                'alpha',
                f'{self.path}: band {header.alpha} is transparency by its colour '
                'interpretation: it says which pixels hold data and is no band itself',
            )
        whole = (0, 0, header.height, header.width)
        pixels = self._source.read(bands, window or whole, min_size, reading.nodata)
        if pixels.valid is not None and pixels.valid.all():
            pixels.valid = None
        return pixels

    def load(
        self, reading: Reading, window: Window | None = None
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Load pixels on the 0-255 scale as a network gets them.

        Args:
            reading: How.
            window: Part to load. Defaults to None, the whole image.

        Returns:
            Image (H, W, C), uint8 or float32, missing values replaced by the mean of
            their band; and bool (H, W, C), False where they were missing, None where
            none was. H = W = ``reading.size`` if that is given.

        Raises:
            NoValidPixelError: If a band holds no data.
            UnreadableImageError: If the pixels cannot be read.
            BandMismatchError: If the file has not the bands.
            ValueError: If a file that is not of integers has no value range.
        """
        raw = self.read(reading, window, reading.size)
        valid = raw.valid
        if valid is not None and not valid.any(axis=(0, 1)).all():
            raise NoValidPixelError(
                f'{self.path}: no valid pixel in '
                + (f'window {window}' if window else 'the image')
                + (' (in one of its bands)' if valid.any() else '')
                + (' on the ground of the first date' if self._warped else '')
            )
        return to_network_input(raw, reading, self.header)

    def preview(self, reading: Reading, most: int) -> NDArray[Any]:
        """The image at reduced size, for pictures.

        Args:
            reading: How.
            most: Longest side of the result in pixels, kept if it is shorter.

        Returns:
            All bands on the 0-255 scale, (H, W, C).
        """
        factor = max(1.0, max(self.height, self.width) / most)
        shape = tuple(
            max(1, round(side / factor)) for side in (self.height, self.width)
        )
        raw = self.read(reading, min_size=min(shape) if factor > 1 else None)
        pixels = to_display_range(raw.values, reading, self.header)
        if raw.valid is not None:
            pixels = fill_missing(pixels, raw.valid)
        return resize_by_area(pixels, None, (shape[0], shape[1]))[0]

    def read_indices(self, window: Window | None = None) -> Pixels:
        """Read values as stored: a palette's indices, one bit as 0 and 1."""
        return self._source.read_indices(window)

    def close(self) -> None:
        """Let go of the file."""
        self._source.close()

    def __enter__(self) -> 'ImageFile':
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()


def _check_regular(path: str | Path) -> None:
    """Refuse what exists but is no file: a pipe would be waited for."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return  # missing, or the name of something that GDAL knows
    if not stat.S_ISREG(mode):
        raise UnreadableImageError(f'{path}: not a regular file')


# -- Files that are held open ------------------------------------------------------

_held: OrderedDict[tuple[Any, ...], ImageFile] = OrderedDict()


def held_open(path: str | Path) -> ImageFile:
    """Open an image that is likely to be read again soon, window by window.

    The last rasters stay open in each process, until the file changes or others take
    their place. Do not close the result.

    Args:
        path: The file.

    Raises:
        UnreadableImageError: If it is missing or its header is broken.
    """
    if Path(path).suffix.lower() in PHOTOGRAPH_EXTENSIONS:
        return ImageFile(path)
    try:
        known = os.stat(path)
        version = known.st_mtime_ns, known.st_size
    except OSError:
        version = 0, 0
    # A process that was forked must not share its parent's file positions.
    key = os.getpid(), str(path), *version
    if key in _held:
        _held.move_to_end(key)
        return _held[key]
    image = _held[key] = ImageFile(path)
    if len(_held) > _HELD_OPEN:
        (process, *_), oldest = _held.popitem(last=False)
        if process == os.getpid():
            oldest.close()
    return image


def read_header(path: str | Path) -> Header:
    """What a file says of itself, without its pixels.

    Args:
        path: Image file.

    Raises:
        UnreadableImageError: If it is missing or its header is broken.
    """
    path = Path(path)
    _check_regular(path)
    if path.suffix.lower() in PHOTOGRAPH_EXTENSIONS:
        header = photograph_header(path)
        if header is not None:
            return header
    with ImageFile(path) as image:
        return image.header
