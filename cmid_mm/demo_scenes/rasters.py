# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Procedural scenes as they come from a survey: rasters with a place, and labels.

One acquisition of several neighbouring places, as georeferenced images, and a label
layer that covers them all.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.random import SeedSequence, default_rng
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.features import shapes

from ..dependencies import vector_library
from ..files import write_bytes
from ..images import Place
from ..images.pixels import Pixels
from ..images.writing import write_bands, write_geotiff
from ..labels.areas import write_polygons
from ..restartable import Job
from .layouts import LAYOUTS
from .look import draw_look
from .place import Plan
from .rendering import render_plan
from .scene import BARE, BUILDING, IMPERVIOUS, LOW_VEGETATION, TREE, WATER, DemoScene

RASTERS = ('aerial', 'satellite')
"""Kinds of georeferenced scenes that demo data can be written for."""

MAP_CLASSES = ('other', 'building', 'paved', 'tree', 'water')
"""Classes of the label layers; bare ground and low vegetation are ``other``."""

_CLASS_OF_COVER = np.zeros(8, np.uint8)
_CLASS_OF_COVER[[BUILDING, IMPERVIOUS, TREE, WATER]] = 1, 2, 3, 4
_PALETTE = (
    *((225, 215, 170), (200, 60, 50), (120, 120, 120)),
    *((30, 120, 50), (50, 110, 220)),
)
_CRS = CRS.from_epsg(32632)
_LEFT, _TOP = 500000.0, 5000000.0

#: Scene classes of the places, row by row of a block of them.
_AERIAL = (
    ('residential', 'river', 'industrial'),
    ('farmland', 'harbour', 'forest'),
)
_AERIAL_SIZE, _AERIAL_METRES = 384, 0.5
_SATELLITE = (('river', 'farmland'), ('residential', 'harbour'))
_TILES = (('T32TPM', 'T32TQM'), ('T32TPL', 'T32TQL'))
_SATELLITE_SIZE, _SATELLITE_METRES = 240, 10
_START = '20240615T101559'

#: Of Sentinel-2's level 1C: pixel size in metres, and the reflectance (0 to 1) of
#: building, pavement, bare ground, low vegetation, tree and water, roughly.
_BANDS = {
    'B01': (60, (0.17, 0.15, 0.15, 0.12, 0.11, 0.11)),
    'B02': (10, (0.17, 0.14, 0.14, 0.09, 0.08, 0.09)),
    'B03': (10, (0.18, 0.14, 0.16, 0.10, 0.07, 0.08)),
    'B04': (10, (0.20, 0.15, 0.21, 0.08, 0.05, 0.06)),
    'B05': (20, (0.22, 0.16, 0.24, 0.14, 0.08, 0.05)),
    'B06': (20, (0.23, 0.17, 0.27, 0.28, 0.20, 0.05)),
    'B07': (20, (0.24, 0.18, 0.29, 0.34, 0.26, 0.05)),
    'B08': (10, (0.25, 0.18, 0.30, 0.36, 0.28, 0.04)),
    'B8A': (20, (0.25, 0.19, 0.31, 0.37, 0.29, 0.03)),
    'B09': (60, (0.09, 0.07, 0.11, 0.13, 0.10, 0.02)),
    'B10': (60, (0.003, 0.003, 0.003, 0.003, 0.003, 0.003)),
    'B11': (20, (0.27, 0.21, 0.38, 0.25, 0.14, 0.02)),
    'B12': (20, (0.24, 0.19, 0.32, 0.15, 0.07, 0.01)),
}
_COVERS = (BUILDING, IMPERVIOUS, BARE, LOW_VEGETATION, TREE, WATER)


def raster_job(kind: str, folder: Path, seed: int) -> Job:
    """What makes the files of a kind of scenes.

    Args:
        kind: One of :data:`RASTERS`.
        folder: Where to write them.
        seed: Seed of the collection.
    """
    if kind == 'aerial':
        vector_library()  # asked before the scenes are made
        return Job((folder / 'labels.gpkg',), partial(_write_aerial, folder, seed))
    return Job((folder / 'labels.tif',), partial(_write_satellite, folder, seed))


def _places(
    names: Sequence[Sequence[str]], seed: int, stream: int, size: int, metres: float
) -> list[list[DemoScene]]:
    """Places in rows, at one date."""
    rng = default_rng(SeedSequence(seed, spawn_key=(stream,)))
    look = draw_look(rng)
    rows: list[list[DemoScene]] = []
    for row in names:
        rows.append([])
        for name in row:
            plan = Plan(name, size * metres, int(rng.integers(1 << 31)), rng)
            LAYOUTS[name](plan, rng)
            rows[-1].append(render_plan(plan, look, size))
    return rows


def _place(row: int, column: int, size: int, metres: float) -> Place:
    side = size * metres
    corner = Affine.translation(_LEFT + column * side, _TOP - row * side)
    return Place(_CRS, corner * Affine.scale(metres, -metres))


def _write_aerial(folder: Path, seed: int) -> None:
    """Write images, polygons of all classes but the first, and a list of the images."""
    import shapely.geometry

    polygons, names, files = [], [], []
    size, metres = _AERIAL_SIZE, _AERIAL_METRES
    for i, row in enumerate(_places(_AERIAL, seed, 2, size, metres)):
        for j, scene in enumerate(row):
            place = _place(i, j, size, metres)
            files.append(f'images/{scene.scene_class}.tif')
            write_bands(folder / files[-1], Pixels(scene.image), place)
            classes = _CLASS_OF_COVER[scene.cover]
            for shape, value in shapes(classes, classes > 0, transform=place.transform):
                polygons.append(shapely.geometry.shape(shape))
                names.append(MAP_CLASSES[int(value)])
    text = '# The images as one, without seams.\n' + ''.join(f'{f}\n' for f in files)
    write_bytes(folder / 'all.mosaic', text.encode())
    write_polygons(folder / 'labels.gpkg', polygons, _CRS, **{'class': names})


def _write_satellite(folder: Path, seed: int) -> None:
    """Write Sentinel-2 folders, and a raster of classes of twice their pixel size."""
    size = _SATELLITE_SIZE
    # A pixel of 10 m shows what is a metre in the plan: there are no cars from space.
    rows = _places(_SATELLITE, seed, 3, size, 1.0)
    for i, row in enumerate(rows):
        for j, scene in enumerate(row):
            tile = _TILES[i][j]
            name = f'S2A_MSIL1C_{_START}_N0208_R022_{tile}_20240615T122000.SAFE'
            data = folder / 'images' / name / 'GRANULE' / f'L1C_{tile}' / 'IMG_DATA'
            values = _reflectances(scene, default_rng(SeedSequence((seed, i, j))))
            if (i, j) == (1, 1):  # the edge of the swath: no data, and no mark
                values[np.add.outer(np.arange(size), np.arange(size)) > 1.7 * size] = 0
            for k, (band, (metres, _)) in enumerate(_BANDS.items()):
                step = metres // _SATELLITE_METRES
                cells = values[..., k].reshape(size // step, step, size // step, step)
                # What is missing in part is missing.
                pixels = cells.mean((1, 3)) * cells.all((1, 3))
                write_bands(
                    data / f'{tile}_{_START}_{band}.tif',
                    Pixels(pixels.round().astype(np.uint16)[..., None]),
                    _place(i, j, size // step, metres),
                )
    cover = np.block([[scene.cover for scene in row] for row in rows])[1::2, 1::2]
    place = _place(0, 0, size, 2 * _SATELLITE_METRES)
    write_geotiff(folder / 'labels.tif', _CLASS_OF_COVER[cover], place, None, _PALETTE)


def _reflectances(scene: DemoScene, rng: np.random.Generator) -> np.ndarray:
    """Digital numbers (H, W, 13): spectra of the covers in the light of the picture."""
    spectra = np.array([spectrum for _, spectrum in _BANDS.values()]).T
    light = scene.image.mean(-1) + 1.0
    values = np.zeros((*scene.cover.shape, len(_BANDS)))
    for cover, spectrum in zip(_COVERS, spectra, strict=True):
        here = scene.cover == cover
        if here.any():
            shade = 0.5 + 0.5 * np.clip(light[here] / light[here].mean(), 0.2, 1.8)
            values[here] = shade[:, None] * spectrum
    values += rng.normal(0, 0.004, values.shape)
    return np.clip(values * 10000, 1, 65535)
