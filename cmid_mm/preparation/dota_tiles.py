# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Cutting of images with oriented boxes into tiles."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ..files import link_or_copy, write_bytes
from ..images import (
    BandMismatchError,
    Reading,
    load_image,
    read_header,
    tile_windows,
    write_image,
)
from ..labels.dota import (
    DOTA_CLASSES,
    MIN_BOX_SHARE,
    TRUNCATED,
    LabelledBoxes,
    format_boxes,
    parse_boxes,
)
from ..polygons import share_inside
from .errors import PreparationError
from .sources import SourceFile

#: A tile that holds less of the image is left out, unless all hold less.
MIN_IMAGE_SHARE = 0.6


def tile_places(
    width: int, height: int, sizes: Sequence[int], gaps: Sequence[int]
) -> list[tuple[int, int, int]]:
    """Divide an image as DOTA's development kit and mmrotate do.

    That is the division of :func:`~cmid_mm.images.tiles.tile_windows`, at several
    sizes, without the tiles that are mostly beside the image.

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
        for top, left, rows, columns in tile_windows(height, width, size, gap):
            places.append((size, left, top))
            shares.append(rows * columns / size**2)
    # A small image would have no tile: it gets those that hold most of it.
    limit = min(MIN_IMAGE_SHARE, max(shares) - 0.01)
    return [place for place, share in zip(places, shares, strict=True) if share > limit]


def tile_text(boxes: LabelledBoxes, size: int, left: int, top: int) -> bytes:
    """The label file of a tile.

    Args:
        boxes (LabelledBoxes): Boxes of the image.
        size (int): Side of the tile in pixels.
        left (int): Its first column.
        top (int): Its first row.

    Returns:
        bytes: A line for each box of which at least :data:`MIN_BOX_SHARE` lies in the
        tile; difficulty :data:`TRUNCATED` if not all of it does.
    """
    # As mmrotate's splitter, whose digits the files have.
    corners = boxes.corners.astype(np.float32) - np.array([left, top] * 4, np.float32)
    shares = [share_inside(row.reshape(4, 2), size, size) for row in corners]
    kept = [i for i, share in enumerate(shares) if share >= MIN_BOX_SHARE]
    return format_boxes(
        corners[kept],
        [boxes.classes[i] for i in kept],
        [boxes.difficulties[i] if shares[i] == 1 else TRUNCATED for i in kept],
        decimals=None,
    )


@dataclass(frozen=True)
class TileSettings:
    """How images are cut.

    Args:
        sizes: Sides of the tiles in pixels.
        gaps: For each size the pixels that neighbours share.
        classes: Names that labels may have.
        reading: Bands of the tiles, and values that become 0 and 255.
    """

    sizes: tuple[int, ...]
    gaps: tuple[int, ...]
    classes: tuple[str, ...] = DOTA_CLASSES
    reading: Reading = Reading()


def write_labelled_tiles(
    image: SourceFile,
    label: SourceFile | None,
    folders: Sequence[Path],
    done: Path,
    settings: TileSettings,
) -> None:
    """Cut an image and its boxes into tiles.

    Args:
        image (SourceFile): The image.
        label (SourceFile, optional): Its label file; None for an image of test.
        folders (Sequence[Path]): Where to put ``images`` and ``annfiles``; the
            second and further ones get the same files, linked where possible.
        done (Path): Written last; says which tiles there are, and how many boxes
            without area were left out.
        settings (TileSettings): Sizes, bands and values.

    Raises:
        PreparationError: If the image is damaged, has other bands than three, or
            values that are not known to fit 8 bits.
        LabelError: If the label file is malformed.
    """
    pixels = _read_image(image, settings)
    boxes = None
    if label is not None:
        boxes = parse_boxes(label.read(), str(label), settings.classes, _ADVICE)
    height, width = pixels.shape[:2]
    stems = []
    for size, left, top in tile_places(width, height, settings.sizes, settings.gaps):
        tile = np.zeros((size, size, 3), np.uint8)  # black outside the image
        part = pixels[top : top + size, left : left + size]
        tile[: part.shape[0], : part.shape[1]] = part
        stems.append(f'{PurePosixPath(image.name).stem}__{size}__{left}___{top}')
        written = [folders[0] / 'images' / f'{stems[-1]}.png']
        write_image(written[0], tile)
        if boxes is not None:
            written.append(folders[0] / 'annfiles' / f'{stems[-1]}.txt')
            write_bytes(written[1], tile_text(boxes, size, left, top))
        for path, folder in itertools.product(written, folders[1:]):
            link_or_copy(path, folder / path.relative_to(folders[0]))
    record = {
        'tiles': stems,
        'flat': boxes.flat if boxes else 0,
        'label': PurePosixPath(label.name).name if label else None,
    }
    write_bytes(done, json.dumps(record, indent=2).encode())


#: About classes that are not known.
_ADVICE = 'labels of v1.5 and v2.0 have others than v1.0; --classes names your own'


def _read_image(image: SourceFile, settings: TileSettings) -> NDArray[np.uint8]:
    """An image as 8-bit RGB."""
    ranged = settings.reading.value_range is not None
    pixels = None
    with image.opened() as path:
        try:
            pixels = load_image(path, settings.reading)
        except BandMismatchError:
            count = read_header(path).num_bands
            raise PreparationError(
                f'{image}: has {count} bands, tiles have three; choose them, counted '
                'from 1: --bands 3 2 1'
            ) from None
        except ValueError:
            if ranged:
                raise  # else its values have no range of their own
    if pixels is None or (pixels.dtype != np.uint8 and not ranged):
        raise PreparationError(
            f'{image}: is no 8-bit image, as tiles are; say which values become 0 and '
            '255: --value-range LOW HIGH, or LOW HIGH of each band '
            '(tools/dataset_stats.py measures them)'
        )
    return pixels if pixels.dtype == np.uint8 else np.rint(pixels).astype(np.uint8)
