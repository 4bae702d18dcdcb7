# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""TIFF, GeoTIFF, JPEG 2000, VRT: whatever GDAL reads, by rasterio."""

import struct
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterWindow

from .errors import PlaceMismatchError, UnreadableImageError
from .notices import say_once
from .pixels import Header, Pixels, Window, marks_pixels, valid_values
from .place import Place, place_of
from .values import reduced_shape, resize_by_area

RASTER_EXTENSIONS = ('.tif', '.tiff', '.jp2', '.vrt')

#: A reduced read goes through a raster in strips of at most so many bytes.
_STRIP_BYTES = 1 << 26
#: Formats whose overviews come from wavelets or cosines, which average.
_AVERAGING_DRIVERS = ('JP2OpenJPEG', 'JP2KAK', 'JP2ECW', 'JPEG')
_ORIENTATION = 274


@contextmanager
def gdal_settings() -> Iterator[None]:
    """GDAL's settings, and no warnings of images without a place."""
    # Otherwise GDAL lists the folder, which may hold a million files, every time.
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN='TRUE'), warnings.catch_warnings():
        warnings.simplefilter('ignore', NotGeoreferencedWarning)
        yield


class Raster:
    """A raster, open until it is closed.

    Args:
        path: Anything that GDAL opens.
        onto: Header and place of an image onto whose pixels this one is warped
            (bilinear; of a palette the nearest). Defaults to None, as it is.
        nearest: Whether the nearest pixel is taken, as labels need it; their marker
            of missing pixels is then a value like others, as
            :meth:`read_indices` has to tell it from what lies beyond the file.

    Raises:
        UnreadableImageError: If it is missing or no raster.
        PlaceMismatchError: If it shall be warped and one of both has no place.
    """

    def __init__(
        self,
        path: str | Path,
        onto: tuple[Header, Place | None] | None = None,
        nearest: bool = False,
    ) -> None:
        self.path = Path(path)
        self._name = str(path)
        self._stack = ExitStack()
        # Levels that have been opened: 1 is the file itself, 2 half its size, ...
        self._levels: dict[int, Any] = {}
        source = self._open()
        self.source = source if onto is None else self._warped(source, *onto, nearest)
        self._levels[1] = self.source
        self.place = place_of(self.source)
        # GDAL says once that a part of a mosaic is missing, then gives zeros.
        self._error: UnreadableImageError | None = None
        self.header = self._header()
        if source.driver == 'GTiff' and _orientation(self._name) != 1:
            say_once(
                'orientation',
                f'{path} has an orientation tag, which is ignored: images are read as '
                'they are stored',
            )

    def _open(self, **options: Any) -> Any:
        try:
            with gdal_settings():
                return self._stack.enter_context(rasterio.open(self._name, **options))
        except (RasterioError, OSError) as error:
            self.close()
            raise _unreadable(self.path, error) from None

    def _warped(
        self, source: Any, header: Header, place: Place | None, nearest: bool
    ) -> Any:
        own = place_of(source)
        if place is None or own is None or place.transform is None:
            lacking = self.path if own is None else header.path
            self.close()
            raise PlaceMismatchError(
                f'{self.path} cannot be aligned with {header.path}: {lacking} is not '
                'georeferenced by a transform'
            )
        roles = source.colorinterp
        nodata = None if nearest else source.nodata
        alpha = ColorInterp.alpha not in roles and nodata is None
        # Between two indices of a palette lies no colour.
        by_index = nearest or ColorInterp.palette in roles
        return self._stack.enter_context(
            WarpedVRT(
                source,
                crs=place.crs,
                transform=place.transform,
                height=header.height,
                width=header.width,
                resampling=Resampling.nearest if by_index else Resampling.bilinear,
                src_nodata=nodata,
                add_alpha=alpha,
            )
        )

    def _header(self) -> Header:
        source = self.source
        roles = source.colorinterp
        self._palette = self._colours() if roles[0] == ColorInterp.palette else None
        self._complex = 'complex' in source.dtypes[0]
        dtype = np.dtype(np.float32 if self._complex else source.dtypes[0])
        count = source.count
        alpha = roles.index(ColorInterp.alpha) + 1 if ColorInterp.alpha in roles else 0
        if self._palette is not None:
            count, dtype, alpha = self._palette.shape[1], np.dtype(np.uint8), 0
        return Header(
            self.path,
            source.height,
            source.width,
            count,
            dtype,
            alpha=alpha or None,
            nodata=source.nodata,
            palette=self._palette is not None,
        )

    def _colours(self) -> NDArray[np.uint8]:
        """Colours of all indices, (N, 3), or greys, (N, 1).

        Of one bit, GDAL makes the indices of black and white.
        """
        colormap = self.source.colormap(1)
        colours = np.zeros((max(colormap) + 1, 3), np.uint8)
        for index, colour in colormap.items():
            colours[index] = colour[:3]
        return colours[:, :1] if (colours == colours[:, :1]).all() else colours

    # -- Pixels --------------------------------------------------------------------

    def read(
        self,
        bands: Sequence[int],
        window: Window,
        min_size: int | None = None,
        marker: float | None = None,
    ) -> Pixels:
        """Read pixels.

        Args:
            bands: Bands to take, counted from 1.
            window: Part to read.
            min_size: Reduce by a whole factor, averaging what is valid, so that both
                sides of the result stay at least this large. None reduces nothing.
            marker: Value that marks missing pixels, beside what the file says.

        Raises:
            UnreadableImageError: If the pixels cannot be read.
        """
        shape = reduced_shape(*window[2:], min_size)
        level, window = self._level(window, window[2] // max(shape[0], 1))
        read = self._strip_reader(level, bands, marker)
        with self._reading():
            return _in_strips(read, window, shape, self._row_bytes(window, bands))

    def read_indices(self, window: Window | None = None) -> Pixels:
        """Read values as stored: a palette's indices, one bit as 0 and 1."""
        source = self.source
        bands = [
            band
            for band, role in zip(source.indexes, source.colorinterp, strict=True)
            if role != ColorInterp.alpha
        ]
        part = None
        if window is not None:
            top, left, height, width = window
            part = RasterWindow(left, top, width, height)
        with self._reading():
            values = source.read(bands, window=part).transpose(1, 2, 0)
            valid = self._file_mask(source, bands, part)
        return Pixels(np.ascontiguousarray(values), _and(valid, _finite(values)))

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Around what reads pixels: a file that has failed once is not tried again."""
        if self._error is not None:
            raise self._error
        try:
            with gdal_settings():
                yield
        except (RasterioError, OSError) as error:
            self._error = _unreadable(self.path, error)
            raise self._error from None

    def close(self) -> None:
        """Close the file."""
        self._stack.close()

    def _row_bytes(self, window: Window, bands: Sequence[int]) -> int:
        # Values, a mask, and a copy of both.
        return window[3] * len(bands) * 2 * (self.header.dtype.itemsize + 1)

    def _level(self, window: Window, factor: int) -> tuple[Any, Window]:
        """The coarsest overview that is still finer than a factor, and the window.

        Only overviews that say to be averages serve: those made by leaving pixels out
        show none of these, other kernels ring at edges.
        """
        sizes = [1] if factor < 2 or self._palette is not None else self._overviews()
        fitting = [
            size
            for size in sizes
            if size <= factor and all(edge % size == 0 for edge in window)
        ]
        size = max(fitting, default=1)
        if size not in self._levels:
            self._levels[size] = self._open(OVERVIEW_LEVEL=sizes.index(size) - 1)
        top, left, height, width = window
        return self._levels[size], (
            top // size,
            left // size,
            height // size,
            width // size,
        )

    def _overviews(self) -> list[int]:
        if isinstance(self.source, WarpedVRT):
            return [1]
        with gdal_settings():
            sizes = [int(size) for size in self.source.overviews(1)]
            if not sizes or self.source.driver in _AVERAGING_DRIVERS:
                return [1, *sizes]
            # Opened as a level of its own, as only that tells how it was made.
            if sizes[0] not in self._levels:
                self._levels[sizes[0]] = self._open(OVERVIEW_LEVEL=0)
            made_by = self._levels[sizes[0]].tags(1).get('RESAMPLING', '')
        return [1, *sizes] if made_by.upper() == 'AVERAGE' else [1]

    def _strip_reader(
        self, level: Any, bands: Sequence[int], marker: float | None
    ) -> Callable[[RasterWindow], Pixels]:
        def read(window: RasterWindow) -> Pixels:
            if self._palette is not None:
                index = level.read(1, window=window)
                values = self._palette[np.minimum(index, len(self._palette) - 1)]
                values = values[..., [band - 1 for band in bands]]
            else:
                planes = level.read(list(bands), window=window)
                if self._complex:
                    planes = np.abs(planes).astype(np.float32)
                values = np.ascontiguousarray(planes.transpose(1, 2, 0))
            valid = _and(self._file_mask(level, bands, window), _finite(values))
            if marker is not None:
                present = valid_values(values != marker, marker, values.dtype)
                valid = _and(valid, present)
            return Pixels(values, valid)

        return read

    def _file_mask(
        self, level: Any, bands: Sequence[int], window: RasterWindow | None
    ) -> NDArray[np.bool_] | None:
        """What the file itself says of missing values, (H, W, C)."""
        header = self.header
        stored = [1] * len(bands) if self._palette is not None else list(bands)
        flags = level.mask_flag_enums[stored[0] - 1]
        if MaskFlags.all_valid in flags:
            return None
        if MaskFlags.per_dataset in flags:
            # Near infrared that is asked for as data must not hide the other bands
            # where it is zero.
            if MaskFlags.alpha in flags and header.alpha in bands:
                return None
            mask = level.read_masks(1, window=window) > 0
            return np.broadcast_to(mask[..., None], (*mask.shape, len(bands)))
        present = level.read_masks(stored, window=window).transpose(1, 2, 0) > 0
        nodata = level.nodatavals[stored[0] - 1]
        dtype = np.dtype(level.dtypes[stored[0] - 1])
        if nodata is None or not marks_pixels(nodata, dtype):
            return present
        anywhere = present.any(axis=2)
        rest = [band for band in level.indexes if band not in stored]
        if rest and not anywhere.all():
            anywhere |= (level.read_masks(rest, window=window) > 0).any(axis=0)
        return np.broadcast_to(anywhere[..., None], present.shape)


def _in_strips(
    read: Callable[[RasterWindow], Pixels],
    window: Window,
    shape: tuple[int, int],
    row_bytes: int,
) -> Pixels:
    """Read a window at reduced size, some rows at a time, so that it fits memory."""
    top, left, height, width = window
    strips = 1
    if shape != (height, width):
        strips = min(shape[0], -(-height * row_bytes // _STRIP_BYTES))
    edges = np.linspace(0, shape[0], strips + 1).round().astype(int)
    rows = (edges * (height / shape[0])).round().astype(int)
    parts = []
    for i in range(strips):
        pixels = read(
            RasterWindow(left, top + int(rows[i]), width, int(rows[i + 1] - rows[i]))
        )
        size = (int(edges[i + 1] - edges[i]), shape[1])
        parts.append(resize_by_area(pixels.values, pixels.valid, size))
    values = np.concatenate([values for values, _ in parts])
    if all(valid is None for _, valid in parts):
        return Pixels(values)
    masks = [
        np.ones(part.shape, bool) if valid is None else valid for part, valid in parts
    ]
    return Pixels(values, np.concatenate(masks))


def _unreadable(path: Path, error: Exception) -> UnreadableImageError:
    """The error for what GDAL says, which mostly begins with the path."""
    reason = str(error.__cause__ or error).removeprefix(f'{path}: ')
    return UnreadableImageError(f'{path}: {reason}')


def _finite(values: NDArray[Any]) -> NDArray[np.bool_] | None:
    return np.isfinite(values) if values.dtype.kind in 'fc' else None


def _and(
    first: NDArray[np.bool_] | None, second: NDArray[np.bool_] | None
) -> NDArray[np.bool_] | None:
    if first is None or second is None:
        return second if first is None else first
    return first & second


def _orientation(name: str) -> int:
    """The orientation tag, which GDAL does not tell."""
    try:
        with open(name, 'rb') as file:
            start = file.read(8)
            if start[2:3] == b'+':  # BigTIFF
                start += file.read(8)
            tags = ImageFileDirectory_v2(start)
            file.seek(tags.next)
            tags.load(file)
            return int(tags.get(_ORIENTATION, 1))
    except (OSError, ValueError, SyntaxError, TypeError, KeyError, struct.error):
        return 1  # of a kind, or at a place, that Pillow does not read


def parts_of_mosaic(path: Path) -> list[str]:
    """Names of the files that a VRT is made of."""
    raster = Raster(path)
    files = [name for name in raster.source.files if name != str(path)]
    raster.close()
    return files
