# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Files of vectors: GeoParquet, or npz where no place is known."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..dependencies import parquet_library
from ..files import whole_file
from ..images import Place
from ..images.notices import say_once
from ..inference.findings import Findings
from ..inference.ground import longitude_latitude

#: Windows that are read or written together.
BLOCK = 4096
#: Columns beside the vector and the polygon, by their types in Parquet.
_COLUMNS = {
    'file': 'string',
    'top': 'int64',
    'left': 'int64',
    'height': 'int64',
    'width': 'int64',
    'valid': 'float32',
    'crs': 'string',
    'bands': 'string',
    'model': 'string',
}
_DEGREES = 'EPSG:4326'


@dataclass(frozen=True)
class About:
    """What all windows of an image have in common.

    Attributes:
        file: The image.
        place: Where it lies.
        bands: Those that were read.
        model: Digest of the encoder.
    """

    file: str
    place: Place | None
    bands: str
    model: str


def ending_of(place: Place | None) -> str:
    """Of the file for the vectors of an image.

    Raises:
        ImportError: If the packages that write it are missing.
    """
    corner = np.zeros((1, 2))
    if place is None:
        return '.npz'
    if (
        place.crs is None
        or longitude_latitude(place.crs, place.coordinates(corner)) is None
    ):
        say_once(
            'no map of vectors',
            f'images whose place ({place}) does not lead to longitude and latitude '
            'have their vectors in .npz files, without polygons',
        )
        return '.npz'
    parquet_library()
    return '.parquet'


def write_table(path: Path, parts: Iterator[Findings], about: About) -> None:
    """Write the windows and vectors of an image.

    GeoParquet has polygons in longitude and latitude (EPSG:4326), whatever zone an
    image lies in, and names the image's own system in a column: files of all images
    are one data set.

    Args:
        path: The file, ``.parquet`` or ``.npz``, replaced if there is one.
        parts: At least one, of ``window``, ``vector`` and ``valid``.
        about: The image.

    Raises:
        ImportError: If pyarrow or shapely is missing.
    """
    with whole_file(path) as part:
        if path.suffix == '.npz':
            _write_npz(part, list(parts), about)
        else:
            _write_parquet(part, parts, about)


def _write_npz(path: Path, parts: list[Findings], about: About) -> None:
    joined: dict[str, Any] = {
        name: np.concatenate([part[name] for part in parts]) for name in parts[0]
    }
    joined.update(image=about.file, bands=about.bands, model=about.model)
    with path.open('wb') as file:
        np.savez(file, **joined)


def _write_parquet(path: Path, parts: Iterator[Findings], about: About) -> None:
    pyarrow, parquet = parquet_library()
    writer = None
    try:
        for part in _gathered(parts):
            table = _table(pyarrow, part, about)
            if writer is None:
                writer = parquet.ParquetWriter(path, table.schema, compression='zstd')
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def _gathered(parts: Iterator[Findings]) -> Iterator[Findings]:
    """Windows in blocks, however few a row of them has."""
    held: list[Findings] = []
    count = 0
    for part in parts:
        held.append(part)
        count += len(part['valid'])
        if count >= BLOCK:
            yield {name: np.concatenate([h[name] for h in held]) for name in held[0]}
            held, count = [], 0
    if held:
        yield {name: np.concatenate([h[name] for h in held]) for name in held[0]}


def _table(pyarrow: Any, part: Findings, about: About) -> Any:
    import shapely
    from pyproj import CRS

    assert about.place is not None and about.place.crs is not None
    windows, vectors = part['window'], part['vector'].astype(np.float32)
    count, width = vectors.shape
    repeated = dict(
        file=about.file,
        crs=about.place.crs.to_string(),
        bands=about.bands,
        model=about.model,
    )
    columns: dict[str, Any] = {
        **dict(zip(('top', 'left', 'height', 'width'), windows.T, strict=True)),
        'valid': part['valid'],
        **{name: [value] * count for name, value in repeated.items()},
    }
    arrays = [
        pyarrow.array(columns[name], getattr(pyarrow, kind)())
        for name, kind in _COLUMNS.items()
    ]
    flat = pyarrow.array(vectors.reshape(-1), pyarrow.float32())
    arrays.append(pyarrow.FixedSizeListArray.from_arrays(flat, width))
    polygons = shapely.polygons(outlines(windows, about.place))
    arrays.append(pyarrow.array(shapely.to_wkb(polygons), pyarrow.binary()))
    described = {
        'version': '1.1.0',
        'primary_column': 'geometry',
        'columns': {
            'geometry': {
                'encoding': 'WKB',
                'geometry_types': ['Polygon'],
                'crs': CRS.from_user_input(_DEGREES).to_json_dict(),
            }
        },
    }
    table = pyarrow.table(arrays, [*_COLUMNS, 'vector', 'geometry'])
    return table.replace_schema_metadata({'geo': json.dumps(described)})


def outlines(windows: NDArray[np.int64], place: Place) -> NDArray[np.float64]:
    """Corners of windows in longitude and latitude, (N, 4, 2)."""
    top, left, height, width = windows.astype(np.float64).T
    right, below = left + width, top + height
    corners = np.stack(
        [(left, top), (right, top), (right, below), (left, below)]
    )  # (4, 2, N)
    points = corners.transpose(2, 0, 1).reshape(-1, 2)
    assert place.crs is not None
    moved = longitude_latitude(place.crs, place.coordinates(points))
    if moved is None:
        raise ValueError(
            f'a window at {place} does not lie on the Earth; its reference system is '
            'wrong, mend it (gdal_edit.py -a_srs EPSG:CODE FILE)'
        )
    return moved.reshape(-1, 4, 2)
