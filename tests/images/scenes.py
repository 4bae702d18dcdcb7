# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Small scenes of several files, laid out and named as their makers do."""

from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

SENTINEL2 = {
    **dict.fromkeys(['B02', 'B03', 'B04', 'B08'], 10),
    **dict.fromkeys(['B05', 'B06', 'B07', 'B8A', 'B11', 'B12'], 20),
    **dict.fromkeys(['B01', 'B09', 'B10'], 60),
}
ORDER = 'B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B10 B11 B12'.split()
#: Side of a scene in metres.
SIDE = 480


def write_band(
    path: Path,
    values: np.ndarray,
    metres: float = 10,
    corner: tuple[float, float] = (5e5, 5e6),
    **profile,
) -> Path:
    """Write (H, W) or (C, H, W) values."""
    values = values if values.ndim == 3 else values[None]
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path,
        'w',
        **{
            'driver': 'GTiff',
            'count': values.shape[0],
            'height': values.shape[1],
            'width': values.shape[2],
            'dtype': values.dtype,
            'crs': 'EPSG:32632',
            'transform': from_origin(*corner, metres, metres),
            **profile,
        },
    ) as target:
        target.write(values)
    return path


def sentinel2_values(level: str = 'L1C') -> dict[str, np.ndarray]:
    """Values of each band at its own resolution."""
    generator = np.random.default_rng(2)
    return {
        band: generator.integers(1, 3000, (SIDE // SENTINEL2[band],) * 2, np.uint16)
        for band in ORDER
        if not (level == 'L2A' and band == 'B10')
    }


def sentinel2(
    folder: Path,
    level: str = 'L1C',
    corner: tuple[float, float] = (5e5, 5e6),
    **profile,
) -> Path:
    """A Sentinel-2 product; its bands are TIFF in all but name, for lossless values."""
    name = f'S2A_MSI{level}_20200101T101010_N0208_R022_T32TQM_20200101T121212'
    safe = folder / f'{name}.SAFE'
    granule = safe / 'GRANULE' / f'{level}_T32TQM_A000001_20200101T101010' / 'IMG_DATA'
    start = 'T32TQM_20200101T101010'
    for band, values in sentinel2_values(level).items():
        metres = SENTINEL2[band]
        if level == 'L1C':
            write_band(
                granule / f'{start}_{band}.jp2', values, metres, corner, **profile
            )
            continue
        for coarser in [size for size in (10, 20, 60) if size >= metres]:
            step = coarser // metres
            write_band(
                granule / f'R{coarser}m' / f'{start}_{band}_{coarser}m.jp2',
                values[::step, ::step],
                coarser,
                corner,
            )
    for other in ('TCI', 'SCL', 'AOT'):
        write_band(
            granule / f'{start}_{other}_20m.jp2', np.zeros((24, 24), np.uint8), 20
        )
    quality = granule.parent / 'QI_DATA'
    write_band(quality / 'MSK_CLDPRB_20m.jp2', np.zeros((24, 24), np.uint8), 20)
    return safe


def landsat(folder: Path, product: str, bands: list[str], others: list[str]) -> Path:
    """A Landsat product: band ``i`` holds ``i + 1`` everywhere."""
    scene = folder / product
    for i, band in enumerate(bands):
        write_band(
            scene / f'{product}_{band}.TIF',
            np.full((6, 8), i + 1, np.uint16),
            30,
            nodata=0,
        )
    for other in others:
        metres = 15 if other in ('B8', 'B80') else 30
        shape = (12, 16) if metres == 15 else (6, 8)
        write_band(scene / f'{product}_{other}.TIF', np.zeros(shape, np.uint16), metres)
    (scene / f'{product}_MTL.txt').write_text('GROUP = L1_METADATA_FILE')
    return scene
