# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Oriented detection: DOTA v1.0 in tiles, DIOR-R."""

import contextlib
import itertools
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from ..transforms.loading import IMAGE_EXTENSIONS
from ..writing import link_or_copy, write_bytes, write_image
from .preparation import Job, Preparation, PreparationError, SourceFile, source_files

DOTA_CLASSES = (
    'plane',
    'baseball-diamond',
    'bridge',
    'ground-track-field',
    'small-vehicle',
    'large-vehicle',
    'ship',
    'tennis-court',
    'basketball-court',
    'storage-tank',
    'soccer-ball-field',
    'roundabout',
    'harbor',
    'swimming-pool',
    'helicopter',
)
_HEADERS = ('imagesource:', 'gsd:')

#: A tile that holds less of the image is left out, unless all hold less.
MIN_IMAGE_SHARE = 0.6
#: A box of which less lies in a tile is left out there.
MIN_BOX_SHARE = 0.7
#: Difficulty of a box of which only a part lies in the tile.
TRUNCATED = 2


@dataclass(frozen=True)
class Boxes:
    """The boxes of an image.

    Args:
        corners (np.ndarray): x and y of the four corners in pixels, float32 (N, 8).
        classes (tuple[str, ...]): N names.
        difficulties (tuple[int, ...]): N numbers, 0 easy, 1 difficult.
    """

    corners: NDArray[np.float32]
    classes: tuple[str, ...] = ()
    difficulties: tuple[int, ...] = ()


def read_boxes(content: str, name: str) -> Boxes:
    """Read a label file of DOTA.

    Args:
        content (str): Its text. Header lines and empty lines are skipped.
        name (str): What to call it in an error.

    Returns:
        Boxes: In the order of the file.

    Raises:
        PreparationError: If a line is not ``x1 y1 ... x4 y4 class [difficulty]`` or
            has a class that DOTA v1.0 does not have.
    """
    corners, classes, difficulties = [], [], []
    for number, line in enumerate(content.splitlines(), 1):
        words = line.split()
        if not words or line.lower().startswith(_HEADERS):
            continue
        try:
            corners.append([float(word) for word in words[:8]])
            classes.append(words[8])
            difficulties.append(int(words[9]) if words[9:] else 0)
        except (ValueError, IndexError):
            raise PreparationError(
                f'{name}, line {number}: expected x1 y1 x2 y2 x3 y3 x4 y4 class '
                f'difficulty, found {line!r}'
            ) from None
        if words[8] not in DOTA_CLASSES:
            raise PreparationError(
                f'{name}, line {number}: {words[8]!r} is no class of DOTA v1.0 (labels '
                'of v1.5 and v2.0 have others); give the folder with the v1.0 labels'
            )
    return Boxes(
        np.array(corners, np.float32).reshape(-1, 8),
        tuple(classes),
        tuple(difficulties),
    )


def tile_places(
    width: int, height: int, sizes: Sequence[int], gaps: Sequence[int]
) -> list[tuple[int, int, int]]:
    """Divide an image as DOTA's development kit and mmrotate do.

    The last tile of a row is moved back so that it ends with the image.

    Args:
        width (int): Width of the image in pixels.
        height (int): Height of the image in pixels.
        sizes (Sequence[int]): Sides of the tiles in pixels.
        gaps (Sequence[int]): For each size the pixels that neighbours share.

    Returns:
        list[tuple[int, int, int]]: Size, left and top of each tile.
    """
    places, shares = [], []
    for size, gap in zip(sizes, gaps, strict=True):
        for left, top in itertools.product(
            _starts(width, size, gap), _starts(height, size, gap)
        ):
            places.append((size, left, top))
            inside = min(size, width - left) * min(size, height - top)
            shares.append(inside / size**2)
    # A small image would have no tile: it gets those that hold most of it.
    limit = min(MIN_IMAGE_SHARE, max(shares) - 0.01)
    return [place for place, share in zip(places, shares, strict=True) if share > limit]


def _starts(length: int, size: int, gap: int) -> list[int]:
    if length <= size:
        return [0]
    count = ceil((length - size) / (size - gap) + 1)
    return [min(i * (size - gap), length - size) for i in range(count)]


def share_inside(quad: NDArray[np.float32], width: float, height: float) -> float:
    """Share of a quadrangle's area that lies in a window.

    Args:
        quad (np.ndarray): Corners relative to the window's top left one, (4, 2).
        width (float): Width of the window in pixels.
        height (float): Height of the window in pixels.

    Returns:
        float: 0 to 1; 1 exactly if all corners lie in the window.
    """
    low, high = quad.min(0), quad.max(0)
    if (low >= 0).all() and (high <= (width, height)).all():
        return 1.0
    if (high <= 0).any() or (low >= (width, height)).any():
        return 0.0
    points = quad.astype(np.float64)
    area = _area(points)
    for axis, sign, limit in ((0, 1, 0), (0, -1, width), (1, 1, 0), (1, -1, height)):
        points = _clip(points, sign * (points[:, axis] - limit))
    return _area(points) / max(area, 1e-6)


def _clip(points: NDArray[np.float64], depth: NDArray[np.float64]) -> NDArray:
    """The part of a polygon whose points have ``depth`` >= 0 (Sutherland-Hodgman)."""
    kept = []
    for i in range(len(points)):
        if (depth[i] >= 0) != (depth[i - 1] >= 0):
            share = depth[i] / (depth[i] - depth[i - 1])
            kept.append(points[i] + share * (points[i - 1] - points[i]))
        if depth[i] >= 0:
            kept.append(points[i])
    return np.array(kept).reshape(-1, 2)


def _area(points: NDArray[np.float64]) -> float:
    x, y = points.T
    return abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2


def tile_text(boxes: Boxes, size: int, left: int, top: int) -> str:
    """The label file of a tile.

    Args:
        boxes (Boxes): Boxes of the image.
        size (int): Side of the tile in pixels.
        left (int): Its first column.
        top (int): Its first row.

    Returns:
        str: A line for each box of which at least :data:`MIN_BOX_SHARE` lies in the
        tile; difficulty :data:`TRUNCATED` if not all of it does.
    """
    corners = boxes.corners - np.array([left, top] * 4, np.float32)
    lines = []
    for row, name, difficulty in zip(
        corners, boxes.classes, boxes.difficulties, strict=True
    ):
        share = share_inside(row.reshape(4, 2), size, size)
        if share >= MIN_BOX_SHARE:
            difficulty = difficulty if share == 1 else TRUNCATED
            lines.append(f'{" ".join(map(str, row.tolist()))} {name} {difficulty}\n')
    return ''.join(lines)


def write_tiles(
    image: SourceFile,
    label: SourceFile | None,
    folders: Sequence[Path],
    done: Path,
    sizes: Sequence[int],
    gaps: Sequence[int],
) -> None:
    """Cut an image and its boxes into tiles.

    Args:
        image (SourceFile): The image.
        label (SourceFile, optional): Its label file; None for an image of test.
        folders (Sequence[Path]): Where to put ``images`` and ``annfiles``; the
            second and further ones get the same files, linked where possible.
        done (Path): Written last; lists the tiles.
        sizes (Sequence[int]): Sides of the tiles in pixels.
        gaps (Sequence[int]): For each size the pixels that neighbours share.

    Raises:
        PreparationError: If the image is damaged or the label file malformed.
    """
    pixels = cv2.imdecode(np.frombuffer(image.read(), np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        raise PreparationError(f'{image} is damaged; download it again')
    boxes = read_boxes(label.read().decode(), str(label)) if label else None
    height, width = pixels.shape[:2]
    stems = []
    for size, left, top in tile_places(width, height, sizes, gaps):
        tile = np.zeros((size, size, 3), np.uint8)  # black outside the image
        part = pixels[top : top + size, left : left + size]
        tile[: part.shape[0], : part.shape[1]] = part
        stems.append(f'{PurePosixPath(image.name).stem}__{size}__{left}___{top}')
        written = [folders[0] / 'images' / f'{stems[-1]}.png']
        write_image(written[0], tile[..., ::-1])
        if boxes is not None:
            written.append(folders[0] / 'annfiles' / f'{stems[-1]}.txt')
            write_bytes(written[1], tile_text(boxes, size, left, top).encode())
        for path, folder in itertools.product(written, folders[1:]):
            link_or_copy(path, folder / path.relative_to(folders[0]))
    write_bytes(done, ('\n'.join(stems) + '\n').encode())


@dataclass
class DOTAPreparation(Preparation):
    """DOTA v1.0 in tiles of one scale."""

    name = 'dota'
    title = 'DOTA v1.0'
    url = 'https://captain-whu.github.io/DOTA/dataset.html'
    licence = 'images of Google Earth, GF-2, JL-1, CycloMedia; academic use only'
    expects = (
        '  train/  part1.zip part2.zip part3.zip labelTxt.zip\n'
        '  val/    part1.zip labelTxt.zip\n'
        '  test/   part1.zip part2.zip\n'
        '  or what is in them, in folders of any name below train, val, test: images '
        '(P0000.png ...)\n'
        '  and the oriented v1.0 labels (P0000.txt ...). 1411, 458 and 937 images.'
    )
    folder = 'data/split_ss_dota'

    size: int = field(default=1024, metadata=dict(help='side of the tiles in pixels'))
    gap: int = field(
        default=200, metadata=dict(help='pixels that neighbouring tiles share')
    )
    rates: tuple[float, ...] = field(
        default=(1.0,),
        metadata=dict(help='size and gap are divided by each of these'),
    )
    splits: tuple[str, ...] = field(
        default=('train', 'val', 'test'), metadata=dict(help='splits to prepare')
    )
    complete: str = field(
        default='yes',
        metadata=dict(
            help='no: take as many images as there are, some of DOTA or your own',
            choices=['yes', 'no'],
        ),
    )

    def jobs(self, source: Path, destination: Path) -> list[Job]:
        """Match images and labels of each split; a job for each image."""
        sizes = [int(self.size / rate) for rate in self.rates]
        gaps = [int(self.gap / rate) for rate in self.rates]
        if not 0 <= self.gap < self.size or min(self.rates) <= 0:
            raise PreparationError(
                f'gap {self.gap} must be smaller than size {self.size}, and rates '
                f'{self.rates} positive'
            )
        jobs = []
        for split in self.splits:
            images, labels = self._files(source, split)
            folders = [destination / split]
            if split != 'test':
                folders.append(destination / 'trainval')
            for name, image in images.items():
                done = destination / 'done' / split / f'{name}.txt'
                label = labels.get(name)
                write = partial(write_tiles, image, label, folders, done, sizes, gaps)
                jobs.append(Job((done,), write))
        return jobs

    def _files(
        self, source: Path, split: str
    ) -> tuple[dict[str, SourceFile], dict[str, SourceFile]]:
        """Images and labels of a split, each by its name without suffix."""
        if split not in _COUNTS:
            raise PreparationError(f'split {split!r} is none of {", ".join(_COUNTS)}')
        if not (source / split).is_dir():
            raise self.missing(f'{source} has no folder {split}')
        images: dict[str, SourceFile] = {}
        labels: dict[str, SourceFile] = {}
        for file in source_files(source / split):
            path = PurePosixPath(file.name)
            if path.suffix.lower() in IMAGE_EXTENSIONS:
                group = images
            elif path.suffix == '.txt' and not _is_other_label(file, source):
                group = labels
            else:
                continue
            if group.setdefault(path.stem, file) is not file:
                raise PreparationError(
                    f'{group[path.stem]} and {file} are both {path.name} of {split}; '
                    'remove one'
                )
        if not images or (self.complete == 'yes' and len(images) != _COUNTS[split]):
            raise self.missing(
                f'{source / split} has {len(images)} images, not {_COUNTS[split]} '
                '(--complete no accepts any number)'
            )
        if split == 'test':
            return images, {}
        for these, those, what in (
            (images, labels, 'image'),
            (labels, images, 'label file'),
        ):
            alone = sorted(set(these) - set(those))
            if alone:
                raise self.missing(
                    f'{source / split}: {len(alone)} times a {what} without its '
                    f'counterpart, first {these[alone[0]]}'
                )
        return images, labels

    def check(self, destination: Path) -> str:
        """Compare the tiles with the lists, and images with label files."""
        summary = []
        for split in self.splits:
            expected = {
                stem
                for file in (destination / 'done' / split).glob('*.txt')
                for stem in file.read_text().split()
            }
            kinds = ['images', 'annfiles'] if split != 'test' else ['images']
            for kind in kinds:
                found = {path.stem for path in (destination / split / kind).iterdir()}
                if found != expected:
                    raise PreparationError(
                        f'{destination / split / kind} does not hold the '
                        f'{len(expected)} tiles that were written, first difference '
                        f'{min(found ^ expected)}; remove {destination}, run again'
                    )
            boxes = sum(
                file.read_text().count('\n')
                for file in (destination / split).glob('annfiles/*.txt')
            )
            counted = '' if split == 'test' else f' with {boxes} boxes'
            summary.append(f'{split} {len(expected)} tiles{counted}')
            if split != 'test' and not boxes:
                raise PreparationError(f'{destination / split} has no box at all')
        return ', '.join(summary)


#: Images of DOTA v1.0.
_COUNTS = {'train': 1411, 'val': 458, 'test': 937}


def _is_other_label(file: SourceFile, source: Path) -> bool:
    """Whether a text file holds horizontal boxes or labels of a later version."""
    place = f'{file.path.relative_to(source)}/{file.name}'.lower()
    return any(word in place for word in ('v1.5', 'v2.0', 'reclabel', 'task2'))


@dataclass
class DOTAMultiScalePreparation(DOTAPreparation):
    """DOTA v1.0 in tiles of three scales."""

    name = 'dota-ms'
    title = 'DOTA v1.0, three scales'
    folder = 'data/split_ms_dota'
    gap: int = field(
        default=500, metadata=dict(help='pixels that neighbouring tiles share')
    )
    rates: tuple[float, ...] = field(
        default=(0.5, 1.0, 1.5),
        metadata=dict(help='size and gap are divided by each of these'),
    )


DIOR_CLASSES = (
    'airplane',
    'airport',
    'baseballfield',
    'basketballcourt',
    'bridge',
    'chimney',
    'expressway-service-area',
    'expressway-toll-station',
    'dam',
    'golffield',
    'groundtrackfield',
    'harbor',
    'overpass',
    'ship',
    'stadium',
    'storagetank',
    'tenniscourt',
    'trainstation',
    'vehicle',
    'windmill',
)
_CORNERS = [
    f'{axis}_{corner}'
    for corner in ('left_top', 'right_top', 'right_bottom', 'left_bottom')
    for axis in 'xy'
]


def check_dior_label(content: bytes, name: str) -> None:
    """Check an annotation of DIOR-R as far as mmrotate reads it.

    Args:
        content (bytes): The XML file.
        name (str): What to call it in an error.

    Raises:
        PreparationError: If it is no XML, or an object has an unknown class or not
            the eight coordinates of an oriented box.
    """
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise PreparationError(f'{name} is no XML file: {error}') from None
    for item in root.findall('object'):
        found = (item.findtext('name') or '').lower()
        if found not in DIOR_CLASSES:
            raise PreparationError(f'{name}: {found!r} is no class of DIOR')
        try:
            for corner in _CORNERS:
                float(item.findtext(f'robndbox/{corner}') or '')
        except ValueError:
            raise PreparationError(
                f'{name}: a {found} has no number for robndbox/{corner}; expected the '
                'oriented boxes of DIOR-R'
            ) from None


def write_dior(files: Sequence[tuple[SourceFile, Path]]) -> None:
    """Put images and annotations into place, and read each once.

    Args:
        files (Sequence[tuple[SourceFile, Path]]): Files of the download, and where to
            put them.

    Raises:
        PreparationError: If one is damaged; names it.
    """
    with contextlib.ExitStack() as stack:
        archives: dict[Path, zipfile.ZipFile] = {}
        for file, path in files:
            if path.exists():
                continue
            if file.member is None:
                content = file.path.read_bytes()
            else:
                # Opened once: reading the directory of a large archive takes long.
                if file.path not in archives:
                    archive = zipfile.ZipFile(file.path)
                    archives[file.path] = stack.enter_context(archive)
                content = archives[file.path].read(file.member)
            if path.suffix == '.xml':
                check_dior_label(content, str(file))
            elif cv2.imdecode(np.frombuffer(content, np.uint8), 1) is None:
                raise PreparationError(f'{file} is damaged; download it again')
            if file.member is None:
                link_or_copy(file.path, path)
            else:
                write_bytes(path, content)


@dataclass
class DIORRPreparation(Preparation):
    """DIOR with oriented boxes, as mmrotate reads it."""

    name = 'dior-r'
    title = 'DIOR-R'
    url = 'https://gcheng-nwpu.github.io/#Datasets'
    licence = 'images of Google Earth; academic use only'
    expects = (
        '  JPEGImages-trainval.zip JPEGImages-test.zip Annotations.zip ImageSets.zip '
        '(also Main.zip),\n'
        '  or what is in them, in folders of any name: 00001.jpg ... 23463.jpg,\n'
        '  Oriented Bounding Boxes/00001.xml ..., and the lists train.txt, val.txt, '
        'test.txt'
    )
    folder = 'data/DIOR'
    complete: str = field(
        default='yes',
        metadata=dict(
            help='no: take as many images as the lists name', choices=['yes', 'no']
        ),
    )

    def jobs(self, source: Path, destination: Path) -> list[Job]:
        """Match lists, images and annotations; a job for 256 images."""
        images: dict[str, SourceFile] = {}
        labels: dict[str, SourceFile] = {}
        lists: dict[str, list[str]] = {}
        for file in source_files(source):
            path = PurePosixPath(file.name)
            if path.suffix == '.jpg':
                images[path.stem] = file
            elif path.suffix == '.xml' and 'Oriented' in f'{file.path}/{file.name}':
                labels[path.stem] = file
            elif path.stem in _DIOR_COUNTS and path.suffix == '.txt':
                lists[path.stem] = file.read().decode().split()
        for split, count in _DIOR_COUNTS.items():
            if split not in lists:
                raise self.missing(f'{source} has no {split}.txt')
            if self.complete == 'yes' and len(lists[split]) != count:
                raise self.missing(
                    f'{split}.txt of {source} names {len(lists[split])} images, not '
                    f'{count}'
                )
            for found, what in ((images, '.jpg'), (labels, '.xml')):
                absent = [name for name in lists[split] if name not in found]
                if absent:
                    raise self.missing(
                        f'{source} lacks {len(absent)} {what} files of {split}.txt, '
                        f'first {absent[0]}{what}'
                    )
        main = destination / 'ImageSets' / 'Main'
        lists['trainval'] = lists['train'] + lists['val']
        jobs = []
        for split, names in lists.items():
            target, content = main / f'{split}.txt', '\n'.join(names) + '\n'
            jobs.append(Job((target,), partial(write_bytes, target, content.encode())))
        for split in ('trainval', 'test'):
            pictures = destination / f'JPEGImages-{split}'
            boxes = destination / 'Annotations' / 'Oriented Bounding Boxes'
            for start in range(0, len(lists[split]), 256):
                files = []
                for name in lists[split][start : start + 256]:
                    files.append((images[name], pictures / f'{name}.jpg'))
                    files.append((labels[name], boxes / f'{name}.xml'))
                outputs = tuple(path for _, path in files)
                jobs.append(Job(outputs, partial(write_dior, files)))
        return jobs

    def check(self, destination: Path) -> str:
        """Count what the lists name."""
        main = destination / 'ImageSets' / 'Main'
        sizes = [
            f'{split} {len((main / f"{split}.txt").read_text().split())} images'
            for split in ('trainval', 'test')
        ]
        return ', '.join(sizes)


#: Images of DIOR.
_DIOR_COUNTS = {'train': 5862, 'val': 5863, 'test': 11738}
