# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Images made of several files, as virtual rasters (VRT) in memory.

- a scene's folder: its bands, see :mod:`cmid_mm.images.scene_folders`
- ``*.bands``: a list of files: their bands, one file's after the other's
- ``*.mosaic``: a list of tiles, side by side; of overlapping ones the last

A list has one name a line, relative to its own folder, and may name anything that is
an image itself.
"""

import os
from dataclasses import replace
from pathlib import Path

from rasterio.errors import RasterioError

from .errors import UnreadableImageError
from .gdal import persistently, unreadable
from .limits import check_openable
from .names import beside, gdal_name, is_local
from .scene_folders import scene_bands
from .virtual import Part, mosaic, stack

STACK, MOSAIC = '.bands', '.mosaic'


def openable(name: str | os.PathLike[str]) -> str:
    """What GDAL opens for the name of an image.

    Returns:
        The name itself; of a composite the text of a VRT.

    Raises:
        UnreadableImageError: If a part is missing or broken.
        PlaceMismatchError: If the parts do not lie beside or upon each other.
        BandMismatchError: If tiles have other bands than their neighbours.
    """
    return _openable(os.fspath(name), ())


def listed_parts(name: str | Path) -> list[str]:
    """The names in a list of parts."""
    # Labels stand beside images, and use them.
    from ..labels.lists import read_list

    folder = os.path.dirname(name)
    return [beside(folder, entry) for _, entry in read_list(name)]


def _openable(name: str, within: tuple[str, ...]) -> str:
    check_openable(name)
    if not is_local(name):
        return gdal_name(name)
    if name in within:
        raise UnreadableImageError(f'{name}: a list that names itself')
    if os.path.isdir(name):
        tiles = [
            stack(name, [_filled(_part(str(path), (), band)) for band, path in bands])
            for bands in scene_bands(Path(name))
        ]
        if len(tiles) == 1:
            return tiles[0]
        granules = [_opened(f'granule {i}', tile) for i, tile in enumerate(tiles, 1)]
        return mosaic(name, granules)
    ending = os.path.splitext(name)[1].lower()
    if ending not in (STACK, MOSAIC) or not os.path.isfile(name):
        return name
    try:
        names = listed_parts(name)
    except ValueError as error:
        raise UnreadableImageError(str(error)) from None
    parts = [_part(part, (*within, name)) for part in names]
    return stack(name, parts) if ending == STACK else mosaic(name, parts)


def _part(name: str, within: tuple[str, ...], band: str | None = None) -> Part:
    return _opened(name, _openable(name, within), band)


def _filled(part: Part) -> Part:
    """The band of a satellite's scene, of which 0 is no data, said or not.

    So both products define it, but the files of Sentinel-2, and old ones of Landsat,
    do not mark it.
    """
    if part.nodata != (None,) or not part.all_valid or 'uint' not in part.dtypes[0]:
        return part
    return replace(part, nodata=(0.0,), all_valid=False)


def _opened(name: str, source: str, band: str | None = None) -> Part:
    try:
        return persistently(source, lambda: Part.opened(name, source, band))
    except (RasterioError, OSError) as error:
        raise unreadable(name, error) from None
