# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What was found, as a picture and as a table."""

import csv
import io
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..dependencies import vector_library
from ..files import whole_file, write_bytes
from ..images import Reading, Window, load_image
from ..images.writing import write_image
from ..visualization.drawing import (
    Picture,
    shortened,
    side_by_side,
    stacked,
    titled,
    to_picture,
)
from .queries import Example
from .searching import Hit

#: Side of each window in a picture, in pixels, and windows in a row.
_SIDE, _COLUMNS = 160, 5
PICTURES = '.png', '.jpg'
TABLES = '.csv', '.gpkg', '.geojson', '.parquet'
_DRIVERS = {'.gpkg': 'GPKG', '.geojson': 'GeoJSON'}


def write_hits(path: Path, hits: Sequence[Hit]) -> None:
    """Write what was found as a table; see :func:`write_rows`."""
    outlines = [hit.entry.outline for hit in hits]
    write_rows(path, [_row(hit) for hit in hits], outlines, 'windows')


def write_rows(
    path: Path, rows: Sequence[dict[str, Any]], outlines: Sequence[Any], layer: str
) -> None:
    """Write a table of windows.

    Args:
        path: The file: ``.csv``, or with polygons in longitude and latitude ``.gpkg``,
            ``.geojson`` or ``.parquet`` (GeoParquet). Replaced if there is one.
        rows: What to say of each window; at least one.
        outlines: Polygon of each, or None for one without a place, which is in a
            ``.csv`` only.
        layer: Name of the layer.

    Raises:
        ImportError: If geopandas is missing, which all but the first need.
        ValueError: If the ending is another, or no window has a place.
    """
    if path.suffix == '.csv':
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator='\n')
        writer.writeheader()
        writer.writerows(rows)
        write_bytes(path, text.getvalue().encode())
        return
    if path.suffix not in TABLES:
        raise ValueError(f'{path}: expected a name that ends in {", ".join(TABLES)}')
    known = [i for i, outline in enumerate(outlines) if outline is not None]
    if path.suffix not in TABLES[1:]:
        raise ValueError(f'{path}: expected a name that ends in {", ".join(TABLES)}')
    if not known:
        raise ValueError(
            f'{path}: no window has a place, of which a map could be made; write .csv'
        )
    geopandas = vector_library()
    frame = geopandas.GeoDataFrame(
        [rows[i] for i in known],
        geometry=[outlines[i] for i in known],
        crs='EPSG:4326',
    )
    with whole_file(path) as part:
        if path.suffix == '.parquet':
            frame.to_parquet(part)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')  # about the name of what is unfinished
                frame.to_file(part, driver=_DRIVERS[path.suffix], layer=layer)


def _row(hit: Hit) -> dict[str, Any]:
    window = dict(
        zip(('top', 'left', 'height', 'width'), hit.entry.window, strict=True)
    )
    return {
        'rank': hit.rank,
        'similarity': round(hit.similarity, 6),
        'file': hit.entry.file,
        **window,
        'valid': round(hit.entry.valid, 4),
    }


def write_sheet(
    path: Path,
    examples: Sequence[Example],
    hits: Sequence[Hit],
    reading: Reading | None = None,
    bands: Sequence[int] | None = None,
) -> None:
    """Draw the examples and below them what was found, with ranks and similarities.

    Args:
        path: The picture, ``.png`` or ``.jpg``.
        examples: What was sought.
        hits: What was found.
        reading: How images are read. Defaults to None, as photographs.
        bands: Bands to show, counted from 1 among those loaded. Defaults to None, the
            first three.
    """

    def shown(file: str, window: Window | None, *lines: str) -> Picture:
        try:
            pixels = to_picture(load_image(file, reading, window), bands)
        except (OSError, ValueError):  # moved since it was embedded, or no data
            pixels = np.full((_SIDE, _SIDE, 3), 225, np.uint8)
        scale = _SIDE / max(pixels.shape[:2])
        size = [max(1, round(side * scale)) for side in pixels.shape[1::-1]]
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
        small = cv2.resize(pixels, size, interpolation=how)
        framed: Picture = np.full((_SIDE, _SIDE, 3), 255, np.uint8)
        framed[: small.shape[0], : small.shape[1]] = small
        for line in reversed(lines):
            framed = titled(framed, shortened(line, _SIDE))
        return framed

    sought = [
        shown(
            example.shown.file,
            example.shown.window,
            Path(example.shown.file).name,
            example.point or f'query {number}',
        )
        for number, example in enumerate(examples, 1)
    ]
    found = [
        shown(hit.entry.file, hit.entry.window, f'{hit.rank}: {hit.similarity:.3f}')
        for hit in hits
    ]
    rows = [
        side_by_side(pictures[start : start + _COLUMNS])
        for pictures in (sought, found)
        for start in range(0, len(pictures), _COLUMNS)
    ]
    line = np.zeros((2, max(row.shape[1] for row in rows), 3), np.uint8)
    rows.insert(math.ceil(len(sought) / _COLUMNS), line)
    write_image(path, stacked(rows))
