# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""One image file: the one place where an image is opened."""

import os
from collections import OrderedDict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..being_read import being_read
from .distance import AtDistance, at_distance
from .errors import NoValidPixelError
from .limits import check_decoded, check_no_pipe
from .names import image_path, is_local
from .notices import say_once
from .photographs import (
    JPEG_EXTENSIONS,
    PNG_EXTENSIONS,
    open_photograph,
    photograph_header,
)
from .pixels import Header, Pixels, Reading, Window
from .place import Place, has_side_file
from .quality import Masked
from .rasters import RASTER_EXTENSIONS, Raster
from .source import Source
from .values import (
    fill_missing,
    reduced_shape,
    resize_by_area,
    to_display_range,
    to_network_input,
)

PHOTOGRAPH_EXTENSIONS = JPEG_EXTENSIONS + PNG_EXTENSIONS
#: Endings of image files, in lower case; those of files may be in any.
IMAGE_EXTENSIONS = PHOTOGRAPH_EXTENSIONS + RASTER_EXTENSIONS

#: Rasters that a process holds open for the next window.
_HELD_OPEN = 32


class ImageFile:
    """An image file, open until it is closed: header, place and pixels.

    A context manager. Windows of a raster are read by themselves; JPEG and PNG are
    decoded whole, at each reading unless ``keep``.

    Args:
        path: The file, or anything else that GDAL opens; a scene of several files,
            see :mod:`cmid_mm.images.composites`.
        keep: Keep the decoded pixels of a JPEG or PNG. Defaults to False.
        onto: Image onto whose pixels this one is warped. Defaults to None, as it is.
        nearest: Whether it is warped by the nearest pixel, as labels must be, onto the
            pixels that are read of the other.
        reading: Its distance on the ground is that of the image's pixels: header,
            place and windows are those of that grid. Its quality masks hide pixels.
            Defaults to None, the file's own grid and pixels.

    Raises:
        UnreadableImageError: If it is missing, not a file, or its header is broken;
            if its quality mask is.
        PlaceMismatchError: If it shall be warped, or read at a distance on the
            ground, but has no place.
    """

    def __init__(
        self,
        path: str | Path,
        keep: bool = False,
        onto: 'ImageFile | None' = None,
        nearest: bool = False,
        reading: Reading | None = None,
    ) -> None:
        self.path = image_path(path)
        with being_read(path):
            self._stored = self._opened(path, keep, onto, nearest)
        # Beyond its edges a warped image has transparency that the file has not.
        self._warped = onto is not None
        self._reading = reading or Reading()
        self._source = self._as_read(self._reading)
        self.header: Header = self._source.header

    def _opened(
        self, path: str | Path, keep: bool, onto: 'ImageFile | None', nearest: bool
    ) -> Source:
        """Open the file, warped onto the pixels of another image if there is one."""
        check_no_pipe(path)
        if onto is None and _is_photograph(path):
            photograph = open_photograph(self.path, keep)
            if photograph is not None:
                return photograph
        grid = None
        if onto is not None:
            grid = (
                (onto.header, onto.place)
                if nearest
                else (onto._stored.header, onto._own_place)
            )
        return Raster(path, grid, nearest)

    def _as_read(self, reading: Reading) -> Source:
        """The file with its mask, on the grid of a distance on the ground."""
        source = self._stored
        try:
            if reading.quality is not None:
                source = Masked(source, self._own_place, reading.quality)
            if reading.gsd is not None:
                source = at_distance(source, self._own_place, reading.gsd)
        except (OSError, ValueError):
            source.close()
            raise
        return source

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.header.height

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.header.width

    @property
    def lost(self) -> bool:
        """Whether reading failed by a network; opened anew, it may be there again."""
        return isinstance(self._stored, Raster) and self._stored.lost

    @property
    def place(self) -> Place | None:
        """Where the image lies: its own statement, or a world file beside it."""
        if isinstance(self._source, AtDistance):
            return self._source.place
        return self._own_place

    @cached_property
    def _own_place(self) -> Place | None:
        """Where the file lies."""
        if isinstance(self._stored, Raster):
            return self._stored.place
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
            window: Part to read; what of it lies beyond the edges of the image counts
                as missing. Defaults to None, the whole image.
            min_size: Reduce by a whole factor, so that both sides of the result stay
                at least this large (unless the image is smaller). Defaults to None,
                full resolution.

        Returns:
            Values and which of them are data, ``reading.num_bands`` bands.

        Raises:
            UnreadableImageError: If the pixels cannot be read.
            BandMismatchError: If the file has not the bands.
            ValueError: If the image was opened at another distance on the ground, or
                with another mask, than ``reading`` says; if the window lies outside.
        """
        header = self.header
        for asked, opened in (
            (reading.gsd, self._reading.gsd),
            (reading.quality, self._reading.quality),
        ):
            if asked not in (None, opened):
                raise ValueError(
                    f'{self.path} was opened with {opened} and cannot be read with '
                    f'{asked}; open it with the same reading'
                )
        bands = header.select(reading)
        masks = header.alpha is not None and header.alpha not in bands
        if masks and not self._warped:
            say_once(
                'alpha',
                f'{self.path}: band {header.alpha} is transparency by its colour '
                'interpretation: it says which pixels hold data and is no band itself',
            )
        whole = (0, 0, header.height, header.width)
        with being_read(self.path):
            pixels = self._read(bands, window or whole, min_size, reading.nodata)
        if pixels.valid is not None and pixels.valid.all():
            pixels.valid = None
        return pixels

    def _read(
        self,
        bands: list[int],
        window: Window,
        min_size: int | None,
        marker: float | None,
    ) -> Pixels:
        """Read what of a window lies within the image; the rest is missing."""
        top, left, height, width = window
        bottom, right = min(top + height, self.height), min(left + width, self.width)
        first, begin = max(top, 0), max(left, 0)
        inside = first, begin, bottom - first, right - begin
        extent = f'{self.path}, which is {self.width} x {self.height} pixels'
        if min(inside[2:]) <= 0:
            place = '' if self.place is None else f' ({self.place})'
            raise ValueError(
                f'window {window} (top, left, height, width in pixels) is empty or '
                f'outside of {extent}{place}'
            )
        if inside == (top, left, height, width):
            return self._source.read(bands, window, min_size, marker)
        say_once(
            'beyond',
            f'window {window} (top, left, height, width in pixels) reaches beyond '
            f'{extent}; what lies there counts as missing',
        )
        check_decoded(self.path, height, width, [self.header.dtype] * len(bands))
        part = self._source.read(bands, inside, None, marker)
        values = np.zeros((height, width, len(bands)), part.values.dtype)
        valid = np.zeros(values.shape, bool)
        here = np.s_[first - top : bottom - top, begin - left : right - left]
        values[here] = part.values
        valid[here] = True if part.valid is None else part.valid
        shape = reduced_shape(height, width, min_size)
        return Pixels(*resize_by_area(values, valid, shape))

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
        with being_read(self.path):
            return self._source.read_indices(window)

    def close(self) -> None:
        """Let go of the file."""
        self._source.close()

    def __enter__(self) -> 'ImageFile':
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()


def _is_photograph(path: str | Path) -> bool:
    """Whether it is to be read as JPEG or PNG, which GDAL does elsewhere."""
    ending = os.path.splitext(path)[1].lower()
    return ending in PHOTOGRAPH_EXTENSIONS and is_local(path)


# -- Files that are held open ------------------------------------------------------

_held: OrderedDict[tuple[Any, ...], ImageFile] = OrderedDict()


def held_open(path: str | Path, reading: Reading | None = None) -> ImageFile:
    """Open an image that is likely to be read again soon, window by window.

    The last rasters stay open in each process, until the file changes or others take
    their place. Do not close the result.

    Args:
        path: The file.
        reading: At which distance on the ground and with which masks it is read, as
            of :class:`ImageFile`. Defaults to None, as it is.

    Raises:
        UnreadableImageError: If it is missing or its header is broken.
        PlaceMismatchError: If it has no place, which the distance needs.
    """
    if _is_photograph(path):
        return ImageFile(path, reading=reading)
    try:
        known = os.stat(path)
        version = known.st_mtime_ns, known.st_size
    except OSError:
        version = 0, 0
    # A process that was forked must not share its parent's file positions.
    grid = None if reading is None else (reading.gsd, reading.quality)
    key = os.getpid(), str(path), *version, grid or (None, None)
    if key in _held:
        image = _held[key]
        if not image.lost:
            _held.move_to_end(key)
            return image
        _held.pop(key).close()
    image = _held[key] = ImageFile(path, reading=reading)
    if len(_held) > _HELD_OPEN:
        (process, *_), oldest = _held.popitem(last=False)
        if process == os.getpid():
            oldest.close()
    return image


def read_header(path: str | Path, reading: Reading | None = None) -> Header:
    """What a file says of itself, without its pixels.

    Args:
        path: Image file.
        reading: At which distance on the ground it is read, as of
            :class:`ImageFile`. Defaults to None, as it is.

    Raises:
        UnreadableImageError: If it is missing or its header is broken.
        PlaceMismatchError: If it has no place, which the distance needs.
    """
    check_no_pipe(path)
    at_own_distance = reading is None or reading.gsd is None
    if at_own_distance and _is_photograph(path):
        with being_read(path):
            header = photograph_header(Path(path))
        if header is not None:
            return header
    with ImageFile(path, reading=reading) as image:
        return image.header
