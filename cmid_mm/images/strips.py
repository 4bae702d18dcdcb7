# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Rasters of any size that are written strip by strip, then joined to one file."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree

import rasterio
import rasterio.shutil
import rasterio.windows
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.enums import Resampling
from rasterio.errors import RasterioError

from .gdal import gdal_settings
from .place import Place

#: Pixels that GDAL may keep of all open rasters, in bytes. Else it is a share of the
#: machine's memory, which a large raster fills.
CACHE_BYTES = 1 << 26

_TILE = 512
#: More bands have smaller tiles.
_BANDS = 64
_GDAL_TYPES = {'uint8': 'Byte', 'uint16': 'UInt16', 'float32': 'Float32'}


class UnwrittenRasterError(OSError):
    """A raster cannot be written, as when the disk is full."""


@dataclass(frozen=True)
class Content:
    """What a raster of results says of its values.

    Attributes:
        dtype: Type of the values: uint8, uint16 or float32.
        bands: What each band is called; as many as there are bands.
        nodata: Value of pixels without data. Defaults to None.
        scale: Of what the values are multiples. Defaults to 1.
        palette: RGB of the values from 0, for map programs. Defaults to None.
        classes: Names of the values from 0. Defaults to none.
        overviews: How overviews are made of the pixels, by GDAL's name: ``mode`` for
            classes, ``average`` for measures. Defaults to ``mode``.
        offset: What is added to the multiples. Defaults to 0.
    """

    dtype: str = 'uint8'
    bands: Sequence[str] = ('',)
    nodata: float | None = None
    scale: float = 1
    palette: Sequence[Sequence[int]] | None = None
    classes: Sequence[str] = ()
    overviews: str = 'mode'
    offset: float = 0

    @property
    def block(self) -> int:
        """Side of tiles in pixels, which hold all bands: of many bands less."""
        return _TILE if len(self.bands) <= _BANDS else _TILE // 4


class StripWriter:
    """A strip of rows of a raster; a context manager.

    Args:
        path: The file.
        height: Rows of the strip.
        width: Width of the raster.
        content: What its values are.

    Raises:
        UnwrittenRasterError: If it cannot be written.
    """

    def __init__(self, path: Path, height: int, width: int, content: Content) -> None:
        self._path = path
        with _writing(path):
            self._target = rasterio.open(
                path,
                'w',
                driver='GTiff',
                height=height,
                width=width,
                count=len(content.bands),
                dtype=content.dtype,
                tiled=True,
                blockxsize=content.block // 2,
                blockysize=content.block // 2,
                compress='deflate',
                zlevel=1,
                bigtiff='if_safer',
            )

    def write(self, values: NDArray[Any], row: int, column: int) -> None:
        """Write some of its pixels.

        Args:
            values: (C, h, w), or (h, w) of one band.
            row: Where they begin, counted from the top of the strip.
            column: Where they begin.
        """
        planes = values if values.ndim == 3 else values[None]
        with _writing(self._path):
            window = rasterio.windows.Window(column, row, *planes.shape[:0:-1])
            self._target.write(planes, window=window)

    def __enter__(self) -> 'StripWriter':
        return self

    def __exit__(self, *error: Any) -> None:
        with _writing(self._path):
            self._target.close()


def join_strips(
    strips: Mapping[int, Path],
    path: Path,
    shape: tuple[int, int],
    content: Content,
    place: Place | None,
) -> None:
    """Make one file of strips: a cloud-optimised GeoTIFF, or a PNG.

    A GeoTIFF has tiles and overviews; the names of its classes are in a table beside
    it (``.aux.xml``, as GDAL has it), where map programs look for them, and in its
    metadata.

    Args:
        strips: First row and file of each. Where there is none is no data.
        path: The file to be, ``.tif`` or ``.png``; one that exists is replaced.
        shape: Height and width.
        content: What the values are.
        place: Where the raster lies, if that is known.

    Raises:
        UnwrittenRasterError: If it cannot be written.
    """
    mosaic = path.with_name(f'{path.name}.vrt')
    options: dict[str, Any] = {'driver': 'PNG'}
    if path.suffix != '.png':
        options = {
            'driver': 'COG',
            'compress': 'deflate',
            'blocksize': content.block,
            'overview_resampling': content.overviews,
            'bigtiff': 'if_safer',
        }
    with _writing(path):
        mosaic.write_bytes(_mosaic(strips, shape, content, place))
    _copy(mosaic, path, options)
    mosaic.unlink()


def _copy(mosaic: Path, path: Path, options: Mapping[str, Any]) -> None:
    """Copy in a thread of its own.

    GDAL keeps the name of each virtual raster that a thread has read until the thread
    ends (about 200 bytes; between them memory is freed in pieces of no use).
    """

    def copy() -> None:
        with _writing(path):
            rasterio.shutil.copy(str(mosaic), str(path), **options)

    with ThreadPoolExecutor(1) as thread:
        thread.submit(copy).result()


def side_file(path: Path) -> Path:
    """Where GDAL keeps what a raster cannot hold itself, such as class names."""
    return path.with_name(f'{path.name}.aux.xml')


def write_raster(
    path: Path, values: NDArray[Any], content: Content, place: Place | None
) -> None:
    """Write a raster that is in memory, as :func:`join_strips` does.

    Args:
        path: The file, ``.tif`` or ``.png``, replaced if there is one.
        values: (C, H, W), or (H, W) of one band.
        content: What the values are.
        place: Where the raster lies, if that is known.
    """
    height, width = values.shape[-2:]
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=f'.{path.name}.') as folder:
        strip, whole = Path(folder, 'strip'), Path(folder, path.name)
        with StripWriter(strip, height, width, content) as writer:
            writer.write(values, 0, 0)
        join_strips({0: strip}, whole, (height, width), content, place)
        move_raster(whole, path)


def move_raster(source: Path, path: Path) -> None:
    """Give a raster its final name, with what lies beside it."""
    side = side_file(source)
    if side.exists():
        side.replace(side_file(path))
    else:
        side_file(path).unlink(missing_ok=True)
    source.replace(path)


def reduced_values(path: Path, most: int) -> NDArray[Any]:
    """The first band of a raster of classes, reduced for pictures.

    Args:
        path: The file.
        most: Longest side of the result in pixels, kept if it is shorter.

    Returns:
        Values (h, w), those of overviews where there are some.
    """
    with gdal_settings(), rasterio.open(path) as source:
        factor = max(1.0, max(source.shape) / most)
        shape = tuple(max(1, round(side / factor)) for side in source.shape)
        return source.read(1, out_shape=shape, resampling=Resampling.nearest)


def rows_of_raster(path: Path, rows: int) -> Iterator[NDArray[Any]]:
    """The first band of a raster from top to bottom, some rows at a time.

    Args:
        path: The file.
        rows: As many, but at the end.

    Yields:
        Values (h, W).
    """
    with gdal_settings():
        source = rasterio.open(path)
    with source:
        for top in range(0, source.height, rows):
            count = min(rows, source.height - top)
            window = rasterio.windows.Window(0, top, source.width, count)
            yield source.read(1, window=window)


@contextmanager
def bounded_cache() -> Iterator[None]:
    """Let GDAL keep no more pixels than :data:`CACHE_BYTES`, read or written."""
    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
        yield


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """GDAL's settings, and its errors with the name of the file."""
    with gdal_settings(), bounded_cache():
        try:
            yield
        # Some of GDAL's errors have no public class.
        except (RasterioError, CPLE_BaseError, OSError) as error:
            raise unwritten(path, error) from None


def unwritten(path: Path, error: Exception) -> UnwrittenRasterError:
    """The error of a file that cannot be written, mostly for want of room."""
    folder = next(folder for folder in path.parents if folder.exists())
    free = shutil.disk_usage(folder).free / 1e6
    return UnwrittenRasterError(
        f'{path}: cannot be written: {error.__cause__ or error}. There are '
        f'{free:,.0f} MB free; make room and repeat the command'
    )


def _mosaic(
    strips: Mapping[int, Path],
    shape: tuple[int, int],
    content: Content,
    place: Place | None,
) -> bytes:
    """A virtual raster of GDAL with all that a file shall say of itself.

    https://gdal.org/en/stable/drivers/raster/vrt.html describes the format.
    """
    height, width = shape
    rows = {top: _height(strip) for top, strip in sorted(strips.items())}
    root = ElementTree.Element(
        'VRTDataset', rasterXSize=str(width), rasterYSize=str(height)
    )
    _add_place(root, place)
    for number, name in enumerate(content.bands, 1):
        band = _add(root, 'VRTRasterBand', band=number)
        band.set('dataType', _GDAL_TYPES[content.dtype])
        if name:
            _add(band, 'Description', name)
        if content.classes:
            metadata = _add(band, 'Metadata')
            _add(metadata, 'MDI', json.dumps(list(content.classes)), key='CLASSES')
        if content.nodata is not None:
            _add(band, 'NoDataValue', content.nodata)
        if content.scale != 1:
            _add(band, 'Scale', repr(content.scale))
        if content.offset:
            _add(band, 'Offset', repr(content.offset))
        if content.palette is not None:
            _add_colours(band, content.palette)
        if content.classes:
            _add_classes(band, content.classes)
        for top in rows:
            source = _add(band, 'SimpleSource')
            _add(source, 'SourceFilename', strips[top].resolve(), relativeToVRT=0)
            _add(source, 'SourceBand', number)
            size = dict(xSize=width, ySize=rows[top])
            _add(source, 'SrcRect', xOff=0, yOff=0, **size)
            _add(source, 'DstRect', xOff=0, yOff=top, **size)
    return ElementTree.tostring(root)


def _height(path: Path) -> int:
    with rasterio.open(path) as source:
        return source.height


def _add(
    parent: ElementTree.Element, tag: str, text: Any = None, **attributes: Any
) -> ElementTree.Element:
    known = {key: str(value) for key, value in attributes.items()}
    element = ElementTree.SubElement(parent, tag, known)
    element.text = None if text is None else str(text)
    return element


def _add_place(root: ElementTree.Element, place: Place | None) -> None:
    if place is None:
        return
    crs = '' if place.crs is None else place.crs.to_wkt()
    if place.transform is not None:
        if crs:
            _add(root, 'SRS', crs)
        numbers = ','.join(repr(float(value)) for value in place.transform.to_gdal())
        _add(root, 'GeoTransform', numbers)
        return
    points = _add(root, 'GCPList', Projection=crs)
    for point in place.gcps:
        _add(
            points,
            'GCP',
            Id=point.id or '',
            Pixel=repr(point.col),
            Line=repr(point.row),
            X=repr(point.x),
            Y=repr(point.y),
            Z=repr(point.z or 0),
        )


def _add_colours(band: ElementTree.Element, palette: Sequence[Sequence[int]]) -> None:
    _add(band, 'ColorInterp', 'Palette')
    table = _add(band, 'ColorTable')
    for red, green, blue in palette[:255]:
        _add(table, 'Entry', c1=red, c2=green, c3=blue, c4=255)


def _add_classes(band: ElementTree.Element, classes: Sequence[str]) -> None:
    """Names twice: as categories, and as the table that newer map programs read."""
    categories = _add(band, 'CategoryNames')
    for name in classes:
        _add(categories, 'Category', name)
    table = _add(band, 'GDALRasterAttributeTable', tableType='thematic')
    # Type 0 is an integer, 2 a text; usage 5 the value, 2 its name.
    for index, (name, kind, usage) in enumerate((('Value', 0, 5), ('Class', 2, 2))):
        field = _add(table, 'FieldDefn', index=index)
        for tag, text in (('Name', name), ('Type', kind), ('Usage', usage)):
            _add(field, tag, text)
    for value, name in enumerate(classes):
        row = _add(table, 'Row', index=value)
        _add(row, 'F', value)
        _add(row, 'F', name)
