# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Virtual rasters: several rasters as one, upon or beside each other."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any
from xml.etree import ElementTree

import numpy as np
import rasterio
from rasterio import Affine
from rasterio.dtypes import dtype_rev, typename_fwd
from rasterio.enums import ColorInterp, MaskFlags

from .errors import BandMismatchError, PlaceMismatchError
from .place import TOLERANCE, Place, place_of

#: Share of a pixel by which positions are wrong through rounding alone.
_ROUNDING = 1e-3


@dataclass(frozen=True)
class Rectangle:
    """Where a part lies, in pixels of the whole."""

    left: float
    top: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """Its right edge."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """Its lower edge."""
        return self.top + self.height


@dataclass(frozen=True)
class Part:
    """A raster that is a part of another, as its header says.

    Attributes:
        name: What its user calls it.
        source: What GDAL opens.
        bands: Names of its bands.
        height: In pixels.
        width: In pixels.
        dtypes: Types of its bands.
        place: Where it lies.
        nodata: Markers of missing pixels in its bands.
        roles: Colour interpretations of its bands.
        colours: Those of a palette.
        all_valid: Whether by its header no pixel is missing.
    """

    name: str
    source: str
    bands: tuple[str, ...]
    height: int
    width: int
    dtypes: tuple[str, ...]
    place: Place | None
    nodata: tuple[float | None, ...]
    roles: tuple[ColorInterp, ...]
    colours: dict[int, tuple[int, ...]] | None
    all_valid: bool

    @classmethod
    def opened(cls, name: str, source: str, band: str | None = None) -> 'Part':
        """Read the header of a part.

        Args:
            name: What its user calls it.
            source: What GDAL opens.
            band: Name of its band. Defaults to None, as it says itself, or the name
                of the file.
        """
        with rasterio.open(source) as data:
            stem = band or PurePath(name).stem
            alone = data.count == 1
            roles = data.colorinterp
            return cls(
                name,
                source,
                tuple(
                    (None if band else stated) or (stem if alone else f'{stem}_{i}')
                    for i, stated in enumerate(data.descriptions, 1)
                ),
                data.height,
                data.width,
                data.dtypes,
                place_of(data),
                data.nodatavals,
                roles,
                data.colormap(1) if roles[0] == ColorInterp.palette else None,
                all(MaskFlags.all_valid in flags for flags in data.mask_flag_enums),
            )


def stack(name: str, parts: Sequence[Part]) -> str:
    """The bands of all parts, on the grid of the one with the smallest pixels.

    Larger pixels are repeated: values, and what is missing, stay as they are.

    Args:
        name: What the whole is called.
        parts: The parts, which lie on the same ground.

    Returns:
        The VRT.

    Raises:
        PlaceMismatchError: If they lie elsewhere.
    """
    grid = max(parts, key=lambda part: part.height * part.width)
    whole = Rectangle(0, 0, grid.width, grid.height)
    rectangles = []
    for part in parts:
        found = _rectangle(name, part, grid)
        most = max(1.0, found.width / part.width, found.height / part.height)
        if max(_distances(found, whole)) > most + _ROUNDING:
            raise PlaceMismatchError(
                f'{name}: {part.name} does not cover the same ground as {grid.name} '
                f'({part.place} and {part.width} x {part.height} pixels instead of '
                f'{grid.place} and {grid.width} x {grid.height}); bands of one image '
                'have the same edges'
            )
        rectangles.append(found)
    dtypes = [dtype for part in parts for dtype in part.dtypes]
    common = dtypes[0]
    if len(set(dtypes)) > 1:
        common = np.result_type(*dtypes).name
    # As in a file of all bands, whose no-data value is one.
    stated = {repr(x): x for part in parts for x in part.nodata if x is not None}
    only = next(iter(stated.values())) if len(stated) == 1 else None
    root = _dataset(grid.place, grid.width, grid.height)
    for part, rectangle in zip(parts, rectangles, strict=True):
        covers = max(_distances(rectangle, whole)) < _ROUNDING
        for index in range(len(part.bands)):
            marker = only if part.nodata[index] is None else part.nodata[index]
            # Beside other bands, the indices of a palette are values.
            plain = replace(part, roles=(ColorInterp.undefined,), colours=None)
            one = plain if part.colours and len(dtypes) > 1 else part
            band = _band(root, one, index, common, marker)
            _source(band, part, str(index + 1), rectangle)
            if not (covers and (part.all_valid or marker is not None)):
                _source(_mask(band), part, f'mask,{index + 1}', rectangle)
    return ElementTree.tostring(root, encoding='unicode')


def mosaic(name: str, parts: Sequence[Part]) -> str:
    """Tiles side by side; where they overlap, the last that holds data.

    Args:
        name: What the whole is called.
        parts: The tiles.

    Returns:
        The VRT.

    Raises:
        BandMismatchError: If tiles differ in their bands.
        PlaceMismatchError: If they differ in reference system or pixel size, or have
            no place.
    """
    first = parts[0]
    for part in parts:
        _check_like(name, part, first)
    found = [_rectangle(name, part, first) for part in parts]
    left, top = min(r.left for r in found), min(r.top for r in found)
    # Of grids that are shifted against each other, pixels go to the nearest.
    rectangles = [
        Rectangle(round(r.left - left), round(r.top - top), part.width, part.height)
        for part, r in zip(parts, found, strict=True)
    ]
    width = int(max(r.right for r in rectangles))
    height = int(max(r.bottom for r in rectangles))
    assert first.place is not None and first.place.transform is not None
    transform = first.place.transform * Affine.translation(left, top)
    place = Place(first.place.crs, transform)
    marked = next((part for part in parts if part.nodata[0] is not None), first)
    # Where no tile lies are pixels of the no-data value, or of transparency 0.
    hidden = marked.nodata[0] is not None or ColorInterp.alpha in first.roles
    complete = all(part.all_valid for part in parts) and _cover(
        rectangles, width, height
    )
    root = _dataset(place, width, height)
    for index in range(len(first.bands)):
        band = _band(root, first, index, first.dtypes[index], marked.nodata[index])
        for part, rectangle in zip(parts, rectangles, strict=True):
            _source(band, part, str(index + 1), rectangle, not part.all_valid)
    if not (hidden or complete):
        mask = _mask(root)
        for part, rectangle in zip(parts, rectangles, strict=True):
            source = _source(mask, part, 'mask,1', rectangle, True)
            ElementTree.SubElement(source, 'NODATA').text = '0'
    return ElementTree.tostring(root, encoding='unicode')


# -- Where parts lie ---------------------------------------------------------------


def _rectangle(name: str, part: Part, grid: Part) -> Rectangle:
    """Where a part lies in pixels of another."""
    own, other = part.place, grid.place
    if own is None or other is None or own.transform is None or other.transform is None:
        if (part.height, part.width) == (grid.height, grid.width):
            return Rectangle(0, 0, part.width, part.height)
        raise PlaceMismatchError(
            f'{name}: {part.name} is {part.width} x {part.height} pixels, {grid.name} '
            f'is {grid.width} x {grid.height}, and not both say where they lie'
        )
    if own.crs != other.crs:
        raise PlaceMismatchError(
            f'{name}: {part.name} and {grid.name} are in different reference systems '
            f'({own} and {other}); make them images of their own, or warp one '
            '(gdalwarp -t_srs)'
        )
    a, b, c, d, e, f = (~other.transform * own.transform)[:6]
    turned = abs(b) * part.height + abs(d) * part.width
    if turned > _ROUNDING or a <= 0 or e <= 0:
        raise PlaceMismatchError(
            f'{name}: {part.name} is turned or mirrored against {grid.name} ({own} and '
            f'{other}); warp one (gdalwarp)'
        )
    # Whole but for rounding are most.
    sides = (c, f, a * part.width, e * part.height)
    return Rectangle(*(round(x) if abs(x - round(x)) < _ROUNDING else x for x in sides))


def _distances(found: Rectangle, whole: Rectangle) -> tuple[float, ...]:
    """How far the edges lie apart."""
    return (
        abs(found.left - whole.left),
        abs(found.top - whole.top),
        abs(found.right - whole.right),
        abs(found.bottom - whole.bottom),
    )


def _check_like(name: str, part: Part, first: Part) -> None:
    """Refuse a tile that is no neighbour of the first."""
    for tile in (part, first):
        if tile.place is None or tile.place.transform is None:
            raise PlaceMismatchError(
                f'{name}: {tile.name} does not say where it lies by a transform; '
                'tiles of a mosaic do'
            )
    for what, own, other in (
        ('types', part.dtypes, first.dtypes),
        ('colour interpretations', part.roles, first.roles),
        ('colours', part.colours, first.colours),
    ):
        if own != other:
            raise BandMismatchError(
                f'{name}: bands of {part.name} and {first.name} differ in their {what} '
                f'({_shown(own)} and {_shown(other)}); tiles of a mosaic have the same '
                'bands'
            )
    markers = [str(tile.nodata) for tile in (part, first) if tile.nodata[0] is not None]
    if len(set(markers)) > 1:
        raise BandMismatchError(
            f'{name}: missing pixels are {markers[0]} in {part.name} but {markers[1]} '
            f'in {first.name}; give both the same no-data value (gdal_translate '
            '-a_nodata)'
        )
    found = _rectangle(name, part, first)
    if (
        abs(found.width - part.width) > TOLERANCE
        or abs(found.height - part.height) > TOLERANCE
    ):
        raise PlaceMismatchError(
            f'{name}: pixels of {part.name} and {first.name} have different sizes '
            f'({part.place} and {first.place}); tiles of a mosaic have the same '
            '(gdalwarp -tr), bands of one image belong in a .bands list'
        )


def _shown(found: Any) -> str:
    if isinstance(found, tuple):
        return ', '.join(str(getattr(value, 'name', value)) for value in found)
    return 'none' if found is None else f'a palette of {len(found)}'


def _cover(rectangles: Sequence[Rectangle], width: int, height: int) -> bool:
    """Whether tiles leave no gap."""
    # Between neighbouring edges, all or nothing is covered.
    xs = sorted({0, width, *(x for r in rectangles for x in (r.left, r.right))})
    ys = sorted({0, height, *(y for r in rectangles for y in (r.top, r.bottom))})
    covered = np.zeros((len(ys) - 1, len(xs) - 1), bool)
    for r in rectangles:
        rows = slice(ys.index(r.top), ys.index(r.bottom))
        covered[rows, xs.index(r.left) : xs.index(r.right)] = True
    return bool(covered.all())


# -- The text of a VRT -------------------------------------------------------------


def _dataset(place: Place | None, width: int, height: int) -> ElementTree.Element:
    root = ElementTree.Element(
        'VRTDataset', rasterXSize=str(width), rasterYSize=str(height)
    )
    if place is None:
        return root
    system = place.crs.to_wkt() if place.crs is not None else ''
    if place.transform is None:
        points = ElementTree.SubElement(root, 'GCPList', Projection=system)
        for point in place.gcps:
            ElementTree.SubElement(
                points,
                'GCP',
                Id=str(point.id or ''),
                Pixel=repr(point.col),
                Line=repr(point.row),
                X=repr(point.x),
                Y=repr(point.y),
                Z=repr(point.z or 0.0),
            )
        return root
    ElementTree.SubElement(root, 'SRS').text = system
    numbers = ', '.join(map(repr, place.transform.to_gdal()))
    ElementTree.SubElement(root, 'GeoTransform').text = numbers
    return root


def _band(
    root: ElementTree.Element,
    part: Part,
    index: int,
    dtype: str,
    nodata: float | None,
) -> ElementTree.Element:
    count = len(root.findall('VRTRasterBand'))
    band = ElementTree.SubElement(
        root,
        'VRTRasterBand',
        dataType=_gdal_type(dtype),
        band=str(count + 1),
    )
    ElementTree.SubElement(band, 'Description').text = part.bands[index]
    role = part.roles[index].name
    ElementTree.SubElement(band, 'ColorInterp').text = role.capitalize()
    if nodata is not None:
        ElementTree.SubElement(band, 'NoDataValue').text = repr(nodata)
    if part.colours is not None:
        table = ElementTree.SubElement(band, 'ColorTable')
        for value in range(max(part.colours) + 1):
            colour = part.colours.get(value, (0, 0, 0, 0))
            entry = {f'c{i}': str(c) for i, c in enumerate(colour, 1)}
            ElementTree.SubElement(table, 'Entry', entry)
    return band


def _gdal_type(dtype: str) -> str:
    return typename_fwd[dtype_rev[dtype]]


def _mask(parent: ElementTree.Element) -> ElementTree.Element:
    """Add a mask of a band, or of all."""
    mask = ElementTree.SubElement(parent, 'MaskBand')
    return ElementTree.SubElement(mask, 'VRTRasterBand', dataType='Byte')


def _source(
    band: ElementTree.Element,
    part: Part,
    number: str,
    rectangle: Rectangle,
    masked: bool = False,
) -> ElementTree.Element:
    """Add a source; if masked, its missing pixels cover none of another."""
    source = ElementTree.SubElement(band, 'ComplexSource' if masked else 'SimpleSource')
    # Paths relative to the process, as VRTs in memory have no folder.
    where = part.source
    ElementTree.SubElement(source, 'SourceFilename', relativeToVRT='0').text = where
    ElementTree.SubElement(source, 'SourceBand').text = number
    for name, area in (
        ('SrcRect', Rectangle(0, 0, part.width, part.height)),
        ('DstRect', rectangle),
    ):
        ElementTree.SubElement(
            source,
            name,
            xOff=repr(area.left),
            yOff=repr(area.top),
            xSize=repr(area.width),
            ySize=repr(area.height),
        )
    if masked and not number.startswith('mask'):
        ElementTree.SubElement(source, 'UseMaskBand').text = 'true'
    return source
