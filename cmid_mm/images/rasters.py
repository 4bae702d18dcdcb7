# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""TIFF, GeoTIFF, JPEG 2000, VRT: whatever GDAL reads, by rasterio."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterWindow

from .composites import MOSAIC, STACK, openable
from .errors import PlaceMismatchError, UnreadableImageError
from .gdal import Result, persistently, unreadable
from .limits import check_decoded
from .names import image_path, is_network
from .notices import say_once
from .orientation import orientation
from .pixels import Header, Pixels, Window, marks_pixels, stored_marker, valid_values
from .place import Place, place_of
from .reducing import in_strips
from .values import both_valid, channels_last, finite_values, reduced_shape

RASTER_EXTENSIONS = ('.tif', '.tiff', '.jp2', '.vrt', STACK, MOSAIC)

#: Formats whose overviews come from wavelets or cosines, which average.
_AVERAGING_DRIVERS = ('JP2OpenJPEG', 'JP2KAK', 'JP2ECW', 'JPEG')

#: VRTs that could not be read. GDAL knows the parts that it failed to open by the place
#: of their VRT in memory, where the next would take them for its own, and for zeros.
_never_closed: list[ExitStack] = []


class Raster:
    """A raster, open until it is closed.

    Args:
        path: Anything that GDAL opens.
        onto: Header and place of an image onto whose pixels this one is warped.
            Defaults to None, as it is.
        stored: Warp stored values, by the nearest pixel, those that mark missing
            ones as any other. Defaults to False, bilinear; of a palette the nearest.

    Raises:
        UnreadableImageError: If it is missing or no raster.
        PlaceMismatchError: If it shall be warped and one of both has no place.
    """

    def __init__(
        self,
        path: str | Path,
        onto: tuple[Header, Place | None] | None = None,
        stored: bool = False,
    ) -> None:
        self.path = image_path(path)
        self._onto, self._stored = onto, stored
        # GDAL says once that a part of a mosaic is missing, then gives zeros.
        self._error: UnreadableImageError | None = None
        self._stack = ExitStack()
        try:
            self._name = openable(path)
            persistently(self._name, self._connect)
        except (RasterioError, OSError) as error:
            self.close()
            raise unreadable(self.path, error) from None
        self.place = place_of(self.source)
        self.header = self._header()
        if self.source.driver == 'GTiff' and orientation(self._name) != 1:
            say_once(
                'orientation',
                f'{path} has an orientation tag, which is ignored: images are read as '
                'they are stored',
            )

    def _connect(self) -> None:
        """Open the file."""
        source = self._open()
        self.source = (
            source
            if self._onto is None
            else self._warped(source, *self._onto, stored=self._stored)
        )
        # Levels that have been opened: 1 is the file itself, 2 half its size, ...
        self._levels: dict[int, Any] = {1: self.source}

    def _open(self, **options: Any) -> Any:
        return self._stack.enter_context(rasterio.open(self._name, **options))

    def _warped(
        self, source: Any, header: Header, place: Place | None, stored: bool
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
        alpha = ColorInterp.alpha not in roles and (stored or source.nodata is None)
        # Between two indices of a palette lies no colour.
        by_index = stored or ColorInterp.palette in roles
        return self._stack.enter_context(
            WarpedVRT(
                source,
                crs=place.crs,
                transform=place.transform,
                height=header.height,
                width=header.width,
                resampling=Resampling.nearest if by_index else Resampling.bilinear,
                add_alpha=alpha,
                **({'src_nodata': None, 'nodata': None} if stored else {}),
            )
        )

    def _header(self) -> Header:
        source = self.source
        roles = source.colorinterp
        self._palette = self._colours() if roles[0] == ColorInterp.palette else None
        # GDAL decodes whole blocks.
        rows, columns = source.block_shapes[0]
        check_decoded(self.path, rows, columns, source.dtypes[:1])
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
            band_names=self._band_names(count),
        )

    def _band_names(self, count: int) -> tuple[str, ...] | None:
        names = self.source.descriptions
        return names if len(names) == count and all(names) else None

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
        # Values, a mask, and a copy of both.
        row_bytes = window[3] * len(bands) * 2 * (self.header.dtype.itemsize + 1)

        def read() -> Pixels:
            level, part = self._level(window, window[2] // max(shape[0], 1))
            return in_strips(
                self._strip_reader(level, bands, marker),
                part,
                shape,
                0 if shape == part[2:] else row_bytes,
            )

        return self._attempt(read)

    def read_indices(self, window: Window | None = None) -> Pixels:
        """Read values as stored: a palette's indices, one bit as 0 and 1."""
        return self._attempt(lambda: self._read_indices(window))

    def _read_indices(self, window: Window | None) -> Pixels:
        source = self.source
        bands = [
            band
            for band, role in zip(source.indexes, source.colorinterp, strict=True)
            if role != ColorInterp.alpha
        ]
        top, left, height, width = window or (0, 0, *source.shape)
        part = RasterWindow(left, top, width, height)
        check_decoded(self.path, height, width, source.dtypes)
        values = channels_last(source.read(bands, window=part))
        valid = self._file_mask(source, bands, part, None)
        return Pixels(values, both_valid(valid, finite_values(values)))

    def read_band(
        self, window: Window
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Read the first band as stored.

        Returns:
            Values (H, W), and which of them are not transparent; None for all.
        """
        top, left, height, width = window
        place = RasterWindow(left, top, width, height)

        def read() -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
            roles = self.source.colorinterp
            values = self.source.read(1, window=place)
            if ColorInterp.alpha not in roles:
                return values, None
            alpha = self.source.read(roles.index(ColorInterp.alpha) + 1, window=place)
            return values, alpha > 0

        return self._attempt(read)

    def _attempt(self, read: Callable[[], Result]) -> Result:
        """Read pixels; what has failed is not tried again by this raster."""
        if self._error is not None:
            raise self._error
        try:
            return persistently(self._name, read, self._reconnect)
        except (RasterioError, OSError) as error:
            self._error = unreadable(self.path, error)
            self._give_up()
            raise self._error from None

    def _reconnect(self) -> None:
        self._give_up()
        self._connect()

    def _give_up(self) -> None:
        """Let go of the file after an error."""
        if self.source.driver == 'VRT':
            _never_closed.append(self._stack.pop_all())
        self.close()

    @property
    def lost(self) -> bool:
        """Whether reading failed by a network, which may be there again later."""
        return self._error is not None and is_network(self._name)

    def close(self) -> None:
        """Close the file."""
        self._stack.close()

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
        top, left, height, width = (edge // size for edge in window)
        return self._levels[size], (top, left, height, width)

    def _overviews(self) -> list[int]:
        if isinstance(self.source, WarpedVRT):
            return [1]
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
    ) -> Callable[[Window], Pixels]:
        def read(part: Window) -> Pixels:
            top, left, height, width = part
            window = RasterWindow(left, top, width, height)
            check_decoded(self.path, height, width, level.dtypes[:1] * len(bands))
            if self._palette is not None:
                index = level.read(1, window=window)
                values = self._palette[np.minimum(index, len(self._palette) - 1)]
                values = values[..., [band - 1 for band in bands]]
            else:
                planes = level.read(list(bands), window=window)
                if self._complex:
                    planes = np.abs(planes).astype(np.float32)
                values = channels_last(planes)
            valid = both_valid(
                self._file_mask(level, bands, window, values), finite_values(values)
            )
            if marker is not None:
                present = valid_values(values != marker, marker, values.dtype)
                valid = both_valid(valid, present)
            return Pixels(values, valid)

        return read

    def _file_mask(
        self,
        level: Any,
        bands: Sequence[int],
        window: RasterWindow | None,
        values: NDArray[Any] | None,
    ) -> NDArray[np.bool_] | None:
        """What the file itself says of missing values, (H, W, C).

        Args:
            level: The file, or an overview.
            bands: Bands that are read.
            window: Part of the level.
            values: Values of these, (H, W, C), if they are known as stored.
        """
        header = self.header
        stored = [1] * len(bands) if self._palette is not None else list(bands)
        of_bands = level.mask_flag_enums
        flags = [of_bands[band - 1] for band in stored]
        if all(MaskFlags.all_valid in flag for flag in flags):
            return None
        said = set(chain.from_iterable(flags))
        if MaskFlags.per_dataset in said:
            # Near infrared that is asked for as data must not hide the other bands
            # where it is zero.
            if MaskFlags.alpha in said and header.alpha in bands:
                return None
            mask = level.read_masks(1, window=window) > 0
            return np.broadcast_to(mask[..., None], (*mask.shape, len(bands)))
        as_stored = self._palette is None and not self._complex
        present = self._unmarked(level, stored, window, values if as_stored else None)
        if present is None:
            return None
        marked = [
            nodata is not None and marks_pixels(nodata, np.dtype(dtype))
            for nodata, dtype in zip(level.nodatavals, level.dtypes, strict=True)
        ]
        marked = [marked[band - 1] for band in stored]
        if not any(marked):
            return present
        anywhere = np.asarray(present.any(axis=2))
        rest = [band for band in level.indexes if band not in stored]
        if rest and not anywhere.all():
            others = self._unmarked(level, rest, window, None)
            if others is None:
                return None
            anywhere |= others.any(axis=2)
        return np.where(marked, anywhere[..., None], present)

    def _unmarked(
        self,
        level: Any,
        bands: list[int],
        window: RasterWindow | None,
        values: NDArray[Any] | None,
    ) -> NDArray[np.bool_] | None:
        """Where bands do not have the value that marks missing ones, (H, W, C).

        None for everywhere. GDAL's masks say the same, but decode blocks again for
        each band.
        """
        dtype = np.dtype(level.dtypes[bands[0] - 1])
        by_value = {MaskFlags.nodata}, {MaskFlags.all_valid}
        of_bands, nodata = level.mask_flag_enums, level.nodatavals
        flags = [set(of_bands[band - 1]) for band in bands]
        other = any(flag not in by_value for flag in flags)
        if other or dtype.kind == 'c' or dtype.itemsize == 8:
            present = level.read_masks(bands, window=window).transpose(1, 2, 0) > 0
            return None if present.all() else present
        if values is None:
            values = channels_last(level.read(bands, window=window))
        markers = [stored_marker(nodata[band - 1], dtype) for band in bands]
        present = np.not_equal(values, np.array([m or 0 for m in markers], dtype))
        present[..., [marker is None for marker in markers]] = True
        return None if present.all() else present
