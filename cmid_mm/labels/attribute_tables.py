# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What the values of a label raster are called: attribute tables and colour tables.

rasterio knows neither attribute tables nor category names. GDAL keeps both as XML in
a file beside the raster (``map.tif.aux.xml``) or in a VRT, from 3.12 on the table in
the TIFF itself; ArcGIS keeps it in ``map.tif.vat.dbf``. Map programs (QGIS, ArcGIS)
show the names.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import rasterio
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError

from ..dependencies import vector_library
from ..images.gdal import gdal_settings
from ..images.tiff_tags import gdal_metadata
from .errors import LabelError

Colour = tuple[int, int, int]

#: GDAL's numbers for what the columns of an attribute table mean.
_NAME, _MIN, _MIN_MAX, _COLOURS = '2', '3', '5', ('6', '7', '8')
_TEXT = '2'


@dataclass
class ValueTable:
    """What values of a raster are called, and their colours (RGB).

    Attributes:
        names: By value; empty if the file has none.
        colours: By value; empty if the file has none.
    """

    names: dict[int, str] = field(default_factory=dict)
    colours: dict[int, Colour] = field(default_factory=dict)


def read_value_table(path: str | Path) -> ValueTable:
    """Read what a label raster says of its values.

    An attribute table goes before category names, and those before ArcGIS's table. One
    beside the raster goes before one within, as GDAL has it.
    Colours are those of the attribute table, else of the colour table.

    Args:
        path: The raster.

    Raises:
        LabelError: If the XML beside or within it is damaged.
    """
    table = ValueTable()
    band = _xml_band(Path(path))
    element = None if band is None else band.find('GDALRasterAttributeTable')
    if element is None:
        element = _within_tiff(Path(path))
    if element is not None:
        table = _of_attribute_table(element)
    if band is not None and not table.names:
        categories = enumerate(band.iterfind('CategoryNames/Category'))
        table.names = {i: name.text for i, name in categories if name.text}
    dbf = Path(f'{path}.vat.dbf')
    if not table.names and dbf.is_file():
        table.names = _of_dbf(dbf)
    table.colours = table.colours or _colour_table(path)
    return table


def _xml_band(path: Path) -> ElementTree.Element | None:
    """The first band as GDAL's XML describes it."""
    beside = Path(f'{path}.aux.xml')
    for file in (beside, path) if path.suffix.lower() == '.vrt' else (beside,):
        if not file.is_file():
            continue
        for band in _parsed(file.read_bytes(), file):
            if band.tag.endswith('RasterBand') and band.get('band', '1') == '1':
                return band
    return None


def _within_tiff(path: Path) -> ElementTree.Element | None:
    """The attribute table of the first band that a TIFF holds itself."""
    xml = gdal_metadata(str(path))
    if xml is None:
        return None
    found = _parsed(xml, path)
    return found.find('Item[@role="rat"][@sample="0"]/GDALRasterAttributeTable')


def _parsed(xml: bytes, file: Path) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        raise LabelError(
            f'{file}: damaged XML ({error}); remove it, or write it anew'
        ) from None


def _of_attribute_table(element: ElementTree.Element) -> ValueTable:
    columns = [
        [column.findtext(tag, '') for tag in ('Name', 'Type', 'Usage')]
        for column in element.iterfind('FieldDefn')
    ]

    def column_of(usage: str, name: str) -> int | None:
        """By its meaning, else by its name."""
        for index, (_, _, meaning) in enumerate(columns):
            if meaning == usage:
                return index
        for index, (title, _, _) in enumerate(columns):
            if title.lower() == name:
                return index
        return None

    value, name = column_of(_MIN_MAX, 'value'), column_of(_NAME, 'class')
    if value is None:
        value = column_of(_MIN, 'min')
    if name is None:
        texts = [i for i, (_, kind, _) in enumerate(columns) if kind == _TEXT]
        name = texts[0] if texts else None
    colours = [
        column_of(usage, title)
        for usage, title in zip(_COLOURS, ('red', 'green', 'blue'), strict=True)
    ]
    table = ValueTable()
    for index, row in enumerate(element.iterfind('Row')):
        cells = [cell.text or '' for cell in row.iterfind('F')]
        key = index if value is None else int(float(cells[value]))
        if name is not None and cells[name].strip():
            table.names[key] = cells[name].strip()
        if None not in colours:
            red, green, blue = (int(float(cells[i or 0])) for i in colours)
            table.colours[key] = red, green, blue
    return table


def _of_dbf(path: Path) -> dict[int, str]:
    """The first text column by the column VALUE."""
    vector_library()
    import pyogrio

    frame: Any = pyogrio.read_dataframe(path, read_geometry=False)
    titles = {str(title).lower(): title for title in frame.columns}
    texts = frame.select_dtypes(['object', 'string']).columns
    if 'value' not in titles or not len(texts):
        return {}
    pairs = zip(frame[titles['value']], frame[texts[0]], strict=True)
    return {int(value): str(name) for value, name in pairs if name}


def _colour_table(path: str | Path) -> dict[int, Colour]:
    """The colours of a palette; GDAL fills the rest of it with black."""
    try:
        with gdal_settings(), rasterio.open(str(path)) as source:
            if source.colorinterp[0] != ColorInterp.palette:
                return {}
            colours = source.colormap(1)
    except (RasterioError, ValueError):
        return {}  # made of several files, or nothing that rasterio opens
    return {value: colour[:3] for value, colour in colours.items()}
