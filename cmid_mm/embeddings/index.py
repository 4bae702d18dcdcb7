# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""A folder of files of vectors, read block by block."""

import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..dependencies import parquet_library
from ..images import Reading, Window
from ..images.notices import say_once
from .tables import BLOCK

#: Says how the vectors of a folder were made.
RECORD = 'index.json'
#: On which the feature rasters of a folder are projected; holds no windows.
BASIS = 'basis.npz'
_ENDINGS = '.parquet', '.npz'


class UnusableIndexError(ValueError):
    """An index is empty, broken, or not of one model."""


@dataclass(frozen=True)
class Block:
    """Some neighbouring windows of an index.

    Attributes:
        first: Number of the first one in the whole index.
        vectors: float32 (n, D).
        windows: Top, left, height and width in pixels, (n, 4).
        valid: Share of each that holds data, (n,).
        file: The image of all.
        crs: Its reference system; empty if it has no place.
        outlines: Polygons in longitude and latitude, (n,); None without a place.
    """

    first: int
    vectors: NDArray[np.float32]
    windows: NDArray[np.int64]
    valid: NDArray[np.float32]
    file: str
    crs: str = ''
    outlines: NDArray[Any] | None = None

    def overlapping(self, file: str, window: Window | None) -> NDArray[np.bool_]:
        """Which windows share a pixel with one of an image, or show that image."""
        if os.path.realpath(file) != os.path.realpath(self.file):
            return np.zeros(len(self.valid), bool)
        if window is None:
            return np.ones(len(self.valid), bool)
        start, size = np.split(np.array(window), 2)
        ours, sizes = np.split(self.windows, 2, axis=1)
        return ((ours < start + size) & (start < ours + sizes)).all(1)


@dataclass(frozen=True)
class Entry:
    """One window of an index.

    Attributes:
        file: The image.
        window: Top, left, height and width in pixels.
        valid: Share that holds data.
        outline: Polygon in longitude and latitude; None without a place.
        vector: float32 (D,).
    """

    file: str
    window: Window
    valid: float
    outline: Any
    vector: NDArray[np.float32]


class Index:
    """The vectors that ``cmid-mm embed`` wrote into a folder, and folders in it.

    Memory holds a block of them at a time.

    Args:
        folder: The folder.

    Raises:
        FileNotFoundError: If there is none.
        UnusableIndexError: If it holds no vectors, a broken file, or vectors of
            several models.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(
                f'{folder}: no such folder; make an index by cmid-mm embed'
            )
        self.files: list[Path] = []
        unfinished = []
        for root, folders, names in os.walk(self.folder):
            unfinished += [name for name in folders if name.endswith('.unfinished')]
            folders[:] = sorted(name for name in folders if not name.startswith('.'))
            self.files += [
                Path(root, name)
                for name in sorted(names)
                if name.endswith(_ENDINGS)
                and name != BASIS
                and not name.startswith('.')
            ]
        if unfinished:
            say_once(
                f'unfinished {folder}',
                f'{folder}: {len(unfinished)} images are unfinished and not searched; '
                'repeat the command that embeds them',
            )
        if not self.files and self.record.get('dense'):
            raise UnusableIndexError(
                f'{folder} holds feature rasters; a search needs vectors: embed into '
                'another folder without --dense'
            )
        if not self.files:
            raise UnusableIndexError(
                f'{folder} holds no vectors (.parquet, .npz); make them by '
                'cmid-mm embed'
            )
        opened = [_opened(path) for path in self.files]
        self._starts = np.cumsum([0, *(each.count for each in opened)])
        self.digest, self.width = opened[0].digest, opened[0].width
        for path, each in zip(self.files, opened, strict=True):
            if (each.digest, each.width) != (self.digest, self.width):
                raise UnusableIndexError(
                    f'{path} was made by another model than {self.files[0]}; keep the '
                    'vectors of each model in a folder of its own'
                )

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def record(self) -> dict[str, Any]:
        """How the vectors were made: config, checkpoint, options."""
        for path in sorted(self.folder.rglob(RECORD)):
            return json.loads(path.read_text(encoding='utf-8'))
        return {}

    @property
    def reading(self) -> Reading | None:
        """How its images were read; None if that is not known."""
        options = self.record.get('reading')
        return options and Reading(**options)

    def blocks(self) -> Iterator[Block]:
        """All windows in their order, those of one image at a time."""
        for path, start in zip(self.files, self._starts, strict=False):
            for block in _read(path):
                yield replace(block, first=int(start) + block.first)

    def entries(self, numbers: Sequence[int]) -> list[Entry]:
        """Windows by their numbers."""
        found: dict[int, Entry] = {}
        for which in np.unique(np.searchsorted(self._starts, numbers, 'right')) - 1:
            wanted = {n - self._starts[which] for n in numbers}
            for block in _read(self.files[which]):
                rows = range(block.first, block.first + len(block.valid))
                for row in wanted.intersection(rows):
                    entry = _entry(block, row - block.first)
                    found[int(row + self._starts[which])] = entry
        return [found[number] for number in numbers]


@dataclass(frozen=True)
class _Opened:
    count: int
    width: int
    digest: str


def _opened(path: Path) -> _Opened:
    """What a file says of itself, without its vectors."""
    with _explained(path):
        if path.suffix == '.npz':
            with np.load(path) as stored:
                count, width = stored['vector'].shape
                return _Opened(count, width, str(stored['model']))
        _, parquet = parquet_library()
        with parquet.ParquetFile(path) as file:
            width = file.schema_arrow.field('vector').type.list_size
            digest = file.read_row_group(0, ['model'])['model'][0].as_py()
            return _Opened(file.metadata.num_rows, width, digest)


def _read(path: Path) -> Iterator[Block]:
    if path.suffix == '.npz':
        with _explained(path), np.load(path) as stored:
            windows, vectors, valid = (
                stored[name] for name in ('window', 'vector', 'valid')
            )
            file = str(stored['image'])
        yield Block(0, vectors, windows, valid, file)
        return
    import shapely

    _, parquet = parquet_library()
    first = 0
    with _explained(path), parquet.ParquetFile(path) as source:
        for batch in source.iter_batches(BLOCK):
            columns = {name: batch.column(name) for name in batch.schema.names}
            vectors = columns['vector'].flatten().to_numpy()
            yield Block(
                first,
                vectors.reshape(batch.num_rows, -1),
                np.stack(
                    [
                        columns[name].to_numpy()
                        for name in ('top', 'left', 'height', 'width')
                    ],
                    1,
                ),
                columns['valid'].to_numpy(),
                columns['file'][0].as_py(),
                columns['crs'][0].as_py(),
                shapely.from_wkb(columns['geometry'].to_pylist()),
            )
            first += batch.num_rows


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Errors of a file of vectors that is none, or half a one."""
    try:
        yield
    # Those of pyarrow are OSError, ValueError or KeyError.
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UnusableIndexError(
            f'{path}: is broken, or no file of cmid-mm embed ({error}); remove it and '
            'repeat the command that made it'
        ) from error


def _entry(block: Block, row: int) -> Entry:
    top, left, height, width = map(int, block.windows[row])
    return Entry(
        block.file,
        (top, left, height, width),
        float(block.valid[row]),
        None if block.outlines is None else block.outlines[row],
        block.vectors[row],
    )
