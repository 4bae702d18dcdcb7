# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Folders of satellite scenes with one band a file, recognised by their names."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from .errors import UnreadableImageError
from .notices import say_once

#: A band's name and its file.
Band = tuple[str, Path]

_SENTINEL2_BANDS = 'B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B10 B11 B12'.split()
_SENTINEL2 = re.compile(r'_(B\d\d|B8A)(?:_(\d\d)m)?\.(?:jp2|tiff?)$', re.I)
_BASELINE = re.compile(r'S2.*_N(\d{4})_', re.I)
_LANDSAT = re.compile(
    r'(?P<scene>L[COTEM]\d.*?)_'
    r'(?P<band>(?:(?:SR|ST)_)?B(?P<number>\d+)(?:_VCID_(?P<gain>\d))?'
    r'|(?:sr|toa|bt)_band(?P<espa>\d+))\.tiff?$',
    re.I,
)
_PANCHROMATIC = 8
#: Processing baseline of Sentinel-2 from which 1000 is added to all values.
_WITH_OFFSET = '0400'


def is_scene_folder(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder is an image: a Sentinel-2 or a Landsat scene."""
    if not os.path.isdir(folder):
        return False
    return is_sentinel2(folder) or bool(landsat_scene(os.listdir(folder)))


def is_sentinel2(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder is a Sentinel-2 scene; Sentinel-1 has no granules."""
    ends = os.fspath(folder).rstrip('/').lower().endswith('.safe')
    return ends and os.path.isdir(os.path.join(folder, 'GRANULE'))


def say_if_offsets_differ(names: Iterable[str | os.PathLike[str]]) -> None:
    """Warn of Sentinel-2 scenes of which some mean by a value what others do not.

    Since January 2022, in reprocessed products also before, a value is 1000 more.

    Args:
        names: Scenes that are read alike, of this kind among others.
    """
    kinds: dict[bool, str] = {}
    for name in names:
        match = _BASELINE.match(os.path.basename(name))
        if match:
            kinds.setdefault(match[1] >= _WITH_OFFSET, os.fspath(name))
    if len(kinds) == 2:
        say_once(
            'Sentinel-2 with and without offset',
            f'{kinds[True]}: values are 1000 higher than in {kinds[False]} for the '
            'same reflectance, as in all Sentinel-2 scenes from processing baseline '
            '04.00 on (N0400 and above in their names); no value_range fits both, so '
            'use scenes of one kind, or get the older ones reprocessed (N0500)',
        )


def landsat_scene(names: Iterable[str]) -> str:
    """The scene of which a folder's files are the bands.

    Args:
        names: Names of its files.

    Returns:
        What the names of its files begin with; empty if there is no such scene, or
        more than one.
    """
    scenes = [match['scene'] for match in map(_LANDSAT.match, names) if match]
    return scenes[0] if len(scenes) > 1 and len(set(scenes)) == 1 else ''


def scene_bands(folder: Path) -> list[list[Band]]:
    """The bands of a scene, each a file.

    Args:
        folder: The folder.

    Returns:
        For each granule of the scene (a Sentinel-2 scene before 2016 has several, any
        other one) its bands in order. Sentinel-2: B01 to B08, B8A, B09, B10 (of level
        1C alone), B11, B12, each in its finest resolution. Landsat: by number,
        thermal ones too, without the panchromatic band 8.

    Raises:
        UnreadableImageError: If it is no such folder, or bands are missing.
    """
    if is_sentinel2(folder):
        granules = sorted(
            path for path in (folder / 'GRANULE').iterdir() if path.is_dir()
        )
        if granules:
            return [_sentinel2_bands(granule) for granule in granules]
    names = sorted(os.listdir(folder))
    if landsat_scene(names):
        return [_landsat_bands(folder, names)]
    raise UnreadableImageError(
        f'{folder}: a folder, but of no single Sentinel-2 scene (*.SAFE with GRANULE '
        'in it) or Landsat scene (LC08_..._B1.TIF, ...); name an image, or list the '
        'files of its bands in a .bands file'
    )


def _sentinel2_bands(granule: Path) -> list[Band]:
    found: dict[str, tuple[int, Path]] = {}
    processed = False
    for root, _, names in sorted(os.walk(granule / 'IMG_DATA')):
        for name in sorted(names):
            match = _SENTINEL2.search(name)
            if match is None or name.startswith('.'):
                continue
            # The files of level 2A, and only these, name their resolution.
            processed |= match[2] is not None
            band, metres = match[1].upper(), int(match[2] or 0)
            if band not in found or metres < found[band][0]:
                found[band] = metres, Path(root, name)
    expected = [band for band in _SENTINEL2_BANDS if not (processed and band == 'B10')]
    absent = [band for band in expected if band not in found]
    if absent:
        raise UnreadableImageError(
            f'{granule}: no file of band {", ".join(absent)}, so that the others '
            'would have other numbers than in a whole scene; complete it, or list '
            'the files of the bands that there are in a .bands file'
        )
    return [(band, found[band][1]) for band in expected]


def _landsat_bands(folder: Path, names: Iterable[str]) -> list[Band]:
    bands = []
    for name in names:
        match = _LANDSAT.match(name)
        if match is None:
            continue
        order = _number(match)
        if order[0] != _PANCHROMATIC:
            bands.append((order, match['band'], folder / name))
    return [(band, path) for _, band, path in sorted(bands)]


def _number(match: re.Match[str]) -> tuple[int, int]:
    """Number of a band, and of its gain.

    Before the collections, the bands of Landsat 7 were called 10, 20, ... 61, 62, ...
    """
    number = int(match['number'] or match['espa'])
    oldest = re.match(r'L[EMT]\D*0?[1-7]', match['scene'], re.I)
    if oldest and number > 9:
        return divmod(number, 10)
    return number, int(match['gain'] or 0)
