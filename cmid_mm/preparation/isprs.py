# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""ISPRS 2-D semantic labelling: Potsdam and Vaihingen."""

import itertools
import re
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..files import write_bytes
from ..images import (
    UnreadableImageError,
    Window,
    read_header,
    read_values,
    tile_windows,
)
from ..images.writing import write_image
from ..restartable import Job
from .errors import PreparationError
from .preparation import Preparation
from .sources import SourceFile, source_files

#: Colour (RGB) of each index of the label files, as mmseg's converters count them:
#: boundary, impervious, building, low vegetation, tree, car, clutter.
COLOURS = (
    (0, 0, 0),
    (255, 255, 255),
    (0, 0, 255),
    (0, 255, 255),
    (0, 255, 0),
    (255, 255, 0),
    (255, 0, 0),
)
#: Stands for a colour that is none of them.
UNKNOWN = 255
#: Share of an area's pixels that may have other colours, at which they are taken as
#: unlabelled: enough for blurred edges of some objects, not for another kind of file.
MAX_UNKNOWN_SHARE = 0.01
#: Folder that tells of them, with a file for each area that has some.
_UNKNOWN_COLOURS = 'unknown_colours'
#: Difference up to which a channel still counts as 0 or 255 (lossy compression).
TOLERANCE = 16


def colours_to_indexes(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn the colours of an ISPRS label image into indexes.

    Args:
        image (np.ndarray): uint8 RGB, (H, W, 3).

    Returns:
        np.ndarray: uint8 (H, W), indexes into :data:`COLOURS`, give or take
        :data:`TOLERANCE` a channel; :data:`UNKNOWN` for other colours.
    """
    high = image >= 128
    # The bits of red, green and blue as a number of 0 to 7.
    code = high @ np.array([4, 2, 1], np.uint8)
    table = np.full(8, UNKNOWN, np.uint8)
    for index, colour in enumerate(COLOURS):
        table[np.dot(np.array(colour) > 0, [4, 2, 1])] = index
    indexes = table[code]
    distance = np.where(high, 255 - image, image).max(axis=2)
    return np.where(distance > TOLERANCE, np.uint8(UNKNOWN), indexes)


def write_image_tiles(source: SourceFile, outputs: dict[Path, Window]) -> None:
    """Cut an image into PNG tiles.

    One row of tiles is in memory at a time, however large the image.

    Args:
        source (SourceFile): The image.
        outputs (dict[Path, Window]): Top, left, height and width of each tile, row by
            row.

    Raises:
        PreparationError: If the image is damaged.
    """
    for tiles, strip in _strips(source, outputs):
        for path, (_, left, _, width) in tiles.items():
            write_image(path, strip[:, left : left + width])


def write_label_tiles(
    source: SourceFile, outputs: dict[Path, Window], unknown: Path
) -> None:
    """Cut a label image into PNG tiles of indexes.

    Pixels with none of the colours become 0, unlabelled, where they are few.

    Args:
        source (SourceFile): The label image.
        outputs (dict[Path, Window]): As for :func:`write_image_tiles`.
        unknown (Path): Written first if there are such pixels; says how many.

    Raises:
        PreparationError: If the image is damaged, or more than
            :data:`MAX_UNKNOWN_SHARE` of its pixels have none of the colours.
    """
    rows, count, first = [], 0, ''
    for tiles, strip in _strips(source, outputs):
        indexes = colours_to_indexes(strip)
        top = next(iter(tiles.values()))[0]
        places = np.argwhere(indexes == UNKNOWN)
        if len(places) and not first:
            row, column = places[0]
            colour = tuple(map(int, strip[row, column]))
            first = f'the first {colour} at row {top + row}, column {column}'
        # Tiles may overlap; then these pixels are counted twice, as all others are.
        count += len(places)
        rows.append((tiles, indexes))
    share = count / sum(indexes.size for _, indexes in rows)
    if share > MAX_UNKNOWN_SHARE:
        raise PreparationError(
            f'{source}: {100 * share:.3g} % of the pixels have none of the label '
            f'colours {COLOURS}, {first}; at most {100 * MAX_UNKNOWN_SHARE:g} % are '
            'taken as unlabelled. Is this a label image of the data set, not '
            'resampled? --leave-out AREA prepares the others'
        )
    if count:
        text = f'{source}: {count} pixels of other colours, {first}\n'
        write_bytes(unknown, text.encode())
    for tiles, indexes in rows:
        labels = np.where(indexes == UNKNOWN, np.uint8(0), indexes)
        for path, (_, left, _, width) in tiles.items():
            write_image(path, labels[:, left : left + width])


def _strips(
    source: SourceFile, outputs: dict[Path, Window]
) -> Iterator[tuple[dict[Path, Window], NDArray[np.uint8]]]:
    """The tiles of each row, and the pixels of that row."""
    width = read_header(source.gdal_path).width
    rows: dict[tuple[int, int], dict[Path, Window]] = defaultdict(dict)
    for path, window in outputs.items():
        rows[window[0], window[2]][path] = window
    for (top, height), tiles in rows.items():
        try:
            strip = read_values(source.gdal_path, window=(top, 0, height, width)).values
        except UnreadableImageError as error:
            raise PreparationError(
                f'{source}: damaged ({error}); download it again'
            ) from None
        yield tiles, strip


@dataclass
class ISPRSPreparation(Preparation):
    """What Potsdam and Vaihingen share."""

    labels: str = field(
        default='eroded',
        metadata=dict(
            help='eroded leaves three pixels along boundaries unlabelled, as in the '
            'published results; full labels every pixel',
            choices=('eroded', 'full'),
        ),
    )
    tile_size: int = field(default=512, metadata=dict(help='side of a tile in pixels'))
    overlap: int = field(
        default=0, metadata=dict(help='pixels that neighbouring tiles share')
    )

    leave_out: tuple[str, ...] = field(
        default=(),
        metadata=dict(help='names of areas to leave out, for damaged files', type=str),
    )

    #: Names of the areas of each part.
    splits: ClassVar[dict[str, tuple[str, ...]]]

    def __post_init__(self) -> None:
        """Check the options."""
        if self.tile_size < 1 or not 0 <= self.overlap < self.tile_size:
            raise ValueError(
                f'--tile-size {self.tile_size} --overlap {self.overlap}: the overlap '
                'must be at least 0 and less than the tile size'
            )

    @property
    def areas(self) -> dict[str, list[str]]:
        """Names of the areas of each part that are not left out."""
        unknown = set(self.leave_out).difference(*self.splits.values())
        if unknown:
            raise PreparationError(
                f'--leave-out {" ".join(sorted(unknown))}: no such area; there are '
                f'{", ".join(itertools.chain(*self.splits.values()))}'
            )
        return {
            split: [area for area in areas if area not in self.leave_out]
            for split, areas in self.splits.items()
        }

    @abstractmethod
    def area(self, file: SourceFile) -> tuple[str, str] | None:
        """What a file is.

        Returns:
            tuple[str, str] | None: ``'image'`` or ``'label'`` and the name of the area;
            None for a file that is not needed.
        """

    def jobs(self, source: Path, destination: Path) -> list[Job]:
        """Find image and labels of each area; a job for each of them."""
        found: dict[tuple[str, str], SourceFile] = {}
        for file in source_files(source):
            kind = self.area(file)
            if kind is not None:
                found.setdefault(kind, file)
        absent = [
            f'{kind} of {area}'
            for areas in self.areas.values()
            for area in areas
            for kind in ('image', 'label')
            if (kind, area) not in found
        ]
        if absent:
            more = ', ...' if len(absent) > 6 else ''
            raise self.missing(
                f'{source} lacks {len(absent)} images or labels ({self.labels}): '
                f'{", ".join(absent[:6])}{more}'
            )
        jobs = []
        for split, areas in self.areas.items():
            for area in areas:
                image, label = found['image', area], found['label', area]
                size = read_header(image.gdal_path).shape
                if read_header(label.gdal_path).shape != size:
                    raise PreparationError(
                        f'{image} has {size} pixels (height, width), but {label} has '
                        f'{read_header(label.gdal_path).shape}; download both again'
                    )
                tiles = self._tiles(destination / 'img_dir' / split, area, size)
                jobs.append(Job(tuple(tiles), partial(write_image_tiles, image, tiles)))
                tiles = self._tiles(destination / 'ann_dir' / split, area, size)
                unknown = destination / _UNKNOWN_COLOURS / f'{area}.txt'
                write = partial(write_label_tiles, label, tiles, unknown)
                jobs.append(Job(tuple(tiles), write))
        return jobs

    def _tiles(
        self, folder: Path, area: str, size: tuple[int, int]
    ) -> dict[Path, Window]:
        """Files of an area's tiles, named as mmseg's converters name them."""
        return {
            folder / f'{area}_{left}_{top}_{left + width}_{top + height}.png': (
                top,
                left,
                height,
                width,
            )
            for top, left, height, width in tile_windows(
                *size, self.tile_size, self.overlap
            )
        }

    def check(self, destination: Path) -> str:
        """Check that images and labels correspond, and count."""
        counts = []
        for split in self.splits:
            images, labels = (
                {path.name for path in (destination / folder / split).glob('*.png')}
                for folder in ('img_dir', 'ann_dir')
            )
            if images != labels or not images:
                raise PreparationError(
                    f'{destination}: {len(images)} images and {len(labels)} labels in '
                    f'{split} do not correspond; remove the folder and run again'
                )
            counts.append(f'{len(images)} tiles in {split}')
        notes = sorted((destination / _UNKNOWN_COLOURS).glob('*.txt'))
        told = ''.join(f'\n{note.read_text().strip()}' for note in notes)
        if told:
            told += '\nThese pixels are unlabelled (0) in the tiles.'
        return ', '.join(counts) + told


@dataclass
class PotsdamPreparation(ISPRSPreparation):
    """Potsdam with the split of the benchmark."""

    name = 'potsdam'
    title = 'ISPRS Potsdam'
    url = 'https://www.isprs.org/resources/datasets/benchmarks/UrbanSemLab/'
    licence = 'research only, see the page'
    expects = (
        '  2_Ortho_RGB.zip (or 3_Ortho_IRRG.zip) and 5_Labels_all_noBoundary.zip (or\n'
        '  5_Labels_all.zip with --labels full), taken out of Potsdam.zip; or their\n'
        '  files, in any folders: top_potsdam_2_10_RGB.tif (or _IRRG.tif),\n'
        '  top_potsdam_2_10_label_noBoundary.tif (or _label.tif), 38 of each'
    )
    folder = 'data/potsdam'
    splits: ClassVar[dict[str, tuple[str, ...]]] = {
        'train': (
            *('2_10', '2_11', '2_12', '3_10', '3_11', '3_12', '4_10', '4_11'),
            *('4_12', '5_10', '5_11', '5_12', '6_7', '6_8', '6_9', '6_10'),
            *('6_11', '6_12', '7_7', '7_8', '7_9', '7_10', '7_11', '7_12'),
        ),
        'val': (
            *('2_13', '2_14', '3_13', '3_14', '4_13', '4_14', '4_15'),
            *('5_13', '5_14', '5_15', '6_13', '6_14', '6_15', '7_13'),
        ),
    }

    bands: str = field(
        default='RGB',
        metadata=dict(help='bands of the images', choices=('RGB', 'IRRG')),
    )

    def area(self, file: SourceFile) -> tuple[str, str] | None:
        """What a file is, by its name."""
        label = 'label_noBoundary' if self.labels == 'eroded' else 'label'
        match = re.search(
            rf'(?:^|/)top_potsdam_0?(\d+)_0?(\d+)_({self.bands}|{label})\.tif$',
            file.name,
        )
        if match is None:
            return None
        kind = 'image' if match[3] == self.bands else 'label'
        return kind, f'{match[1]}_{match[2]}'


@dataclass
class VaihingenPreparation(ISPRSPreparation):
    """Vaihingen with the split of the benchmark."""

    name = 'vaihingen'
    title = 'ISPRS Vaihingen'
    url = 'https://www.isprs.org/resources/datasets/benchmarks/UrbanSemLab/'
    licence = 'research only, see the page'
    expects = (
        '  ISPRS_semantic_labeling_Vaihingen.zip and\n'
        '  ISPRS_semantic_labeling_Vaihingen_ground_truth_eroded_COMPLETE.zip (or\n'
        '  ..._ground_truth_COMPLETE.zip with --labels full), taken out of\n'
        '  Vaihingen.zip; or their files, images in a folder named top:\n'
        '  top/top_mosaic_09cm_area1.tif, and labels in others:\n'
        '  top_mosaic_09cm_area1_noBoundary.tif (or top_mosaic_09cm_area1.tif),\n'
        '  33 of each'
    )
    folder = 'data/vaihingen'
    splits: ClassVar[dict[str, tuple[str, ...]]] = {
        'train': tuple(
            f'area{i}'
            for i in (1, 3, 5, 7, 11, 13, 15, 17, 21, 23, 26, 28, 30, 32, 34, 37)
        ),
        'val': tuple(
            f'area{i}'
            for i in (2, 4, 6, 8, 10, 12, 14, 16, 20, 22, 24, 27, 29, 31, 33, 35, 38)
        ),
    }

    def area(self, file: SourceFile) -> tuple[str, str] | None:
        """What a file is, by its name and folder."""
        match = re.search(
            r'(?:^|/)([^/]*)/?top_mosaic_09cm_(area\d+)(_noBoundary)?\.tif$', file.name
        )
        if match is None:
            return None
        folder, area, eroded = match.groups()
        if folder == 'top' and not eroded:
            return 'image', area
        if bool(eroded) == (self.labels == 'eroded'):
            return 'label', area
        return None
