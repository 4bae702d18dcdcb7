# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Cutting of images with oriented boxes into tiles."""

import itertools
from collections.abc import Sequence
from math import ceil
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from ..files import link_or_copy, write_bytes
from ..images.writing import write_image
from ..labels.dota import Boxes, read_boxes
from .preparation import PreparationError, SourceFile

#: A tile that holds less of the image is left out, unless all hold less.
MIN_IMAGE_SHARE = 0.6

#: A box of which less lies in a tile is left out there.
MIN_BOX_SHARE = 0.7

#: Difficulty of a box of which only a part lies in the tile.
TRUNCATED = 2


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
