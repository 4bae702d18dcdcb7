# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What all pictures of samples and predictions are drawn with.

Pictures are uint8 RGB arrays (H, W, 3).
"""

import colorsys
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Picture = NDArray[np.uint8]
Colour = Sequence[int]

GAP = 4
TITLE_HEIGHT = 22
LEGEND_ROW = 22
LONGEST_SIDE = 4096
"""Small images are not enlarged beyond it, in pixels."""
IGNORED = 255
"""Value of pixels in masks that belong to no class."""

#: Side of a picture on which letters have the size that they are given.
_PLAIN_SIDE = 800

#: Size in pixels of letters at scale 1.
_LETTERS = 29
# Told apart on imagery from above, where green and brown abound.
_COLOURS = (
    *((230, 25, 75), (0, 130, 200), (255, 225, 25), (245, 130, 48), (145, 30, 180)),
    *((70, 240, 240), (240, 50, 230), (60, 180, 75), (250, 190, 212), (170, 255, 195)),
)


def palette_of(meta: dict[str, Any], num_classes: int) -> list[tuple[int, ...]]:
    """Colours of classes: those of a data set's meta information, or distinct ones.

    Args:
        meta (dict): Meta information, with or without ``palette``.
        num_classes (int): Number of colours needed.

    Returns:
        list[tuple[int, ...]]: RGB, 0-255 each.
    """
    palette = meta.get('palette')
    if isinstance(palette, (list, tuple)) and len(palette) >= num_classes:
        return [tuple(int(value) for value in colour) for colour in palette]
    more = (
        tuple(round(255 * x) for x in colorsys.hsv_to_rgb(0.618 * i % 1, 0.8, 0.95))
        for i in range(num_classes)
    )
    return [*_COLOURS, *more][:num_classes]


def class_names(meta: dict[str, Any], num_classes: int) -> list[str]:
    """Names of classes from a data set's meta information, or their numbers."""
    names = meta.get('classes') or ()
    if len(names) >= num_classes:
        return [str(name) for name in names]
    return [str(index) for index in range(num_classes)]


def to_picture(pixels: NDArray[Any], bands: Sequence[int] | None = None) -> Picture:
    """Make pixels of any number of bands visible.

    Three bands are shown as they are, on the 0-255 scale; other imagery, whose
    values seldom fill that scale, is stretched from the 2nd to the 98th percentile
    of each band, and so are chosen bands.

    Args:
        pixels (np.ndarray): RGB or other bands, (H, W, C).
        bands (Sequence[int], optional): Three bands to show as red, green and
            blue, or one to show in grey, counted from 1. Defaults to None: the
            first three, or the first if there are fewer.

    Returns:
        np.ndarray: RGB uint8 (H, W, 3).

    Raises:
        ValueError: If ``bands`` is not one or three bands of the image.
    """
    count = pixels.shape[2]
    stretch = bands is not None or count != 3
    if bands is None:
        bands = (1, 2, 3) if count >= 3 else (1,)
    if len(bands) not in (1, 3) or not all(1 <= band <= count for band in bands):
        raise ValueError(
            f'bands must be one or three of 1 to {count}, got {list(bands)}'
        )
    shown = pixels[..., [band - 1 for band in bands] * (3 // len(bands))]
    if stretch:
        low, high = np.percentile(shown, (2, 98), axis=(0, 1))
        # A flat band has no contrast to stretch.
        shown = (shown - low) * (255 / np.maximum(high - low, 1e-6))
    return np.ascontiguousarray(np.rint(np.clip(shown, 0, 255)), np.uint8)


def write_text(
    image: Picture,
    text: str,
    left: float,
    baseline: float,
    colour: Colour = (255, 255, 255),
    outline: bool = True,
    scale: float = 0.5,
) -> None:
    """Write text into the picture, with a black outline where it lies on imagery."""
    place = int(left), int(baseline)
    font = _font(scale)
    stroke = round(2 * scale) if outline else 0
    box = font.getbbox(text, anchor='ls', stroke_width=stroke)
    # Only the part of the picture under the text is touched.
    left, top = (max(0, int(box[i]) + place[i]) for i in (0, 1))
    right, bottom = (max(0, int(box[i + 2]) + place[i] + 1) for i in (0, 1))
    under = image[top:bottom, left:right]
    if not under.size:
        return
    part = Image.fromarray(np.ascontiguousarray(under))
    start = place[0] - left, place[1] - top
    ImageDraw.Draw(part).text(
        start,
        text,
        tuple(colour),
        font,
        anchor='ls',
        stroke_width=stroke,
        stroke_fill=(0, 0, 0),
    )
    under[:] = np.asarray(part)


def text_width(text: str, scale: float = 0.5) -> int:
    """Width of a text in pixels."""
    return math.ceil(_font(scale).getlength(text))


def shortened(text: str, most: int, scale: float = 0.45) -> str:
    """A text without its middle, if it is wider than so many pixels."""
    short, half = text, len(text) // 2
    while half and text_width(short, scale) > most:
        short = f'{text[:half]}\N{HORIZONTAL ELLIPSIS}{text[-half:]}'
        half -= 1
    return short


@lru_cache
def _font(scale: float) -> ImageFont.FreeTypeFont:
    """Letters of a size, 1 as high as OpenCV's; Latin, Greek and Cyrillic."""
    from matplotlib import get_data_path

    path = Path(get_data_path(), 'fonts', 'ttf', 'DejaVuSans.ttf')
    return ImageFont.truetype(path, round(_LETTERS * scale))


def letter_size(image: Picture) -> float:
    """How much larger letters have to be on a large picture, seen as a whole."""
    return max(1.0, (image.shape[0] * image.shape[1]) ** 0.5 / _PLAIN_SIDE)


def enlarge(image: NDArray[Any], least: int) -> NDArray[Any]:
    """Repeat pixels until the shorter side is at least ``least`` pixels.

    Not beyond :data:`LONGEST_SIDE`, so that a picture of a narrow strip can be written.
    """
    height, width = image.shape[:2]
    factor = -(-least // min(height, width))
    factor = max(1, min(factor, LONGEST_SIDE // max(height, width)))
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def fit(image: Picture, most: int) -> Picture:
    """Shrink a picture so that no side is longer than ``most`` pixels."""
    factor = most / max(image.shape[:2])
    if factor >= 1:
        return image
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return small.astype(np.uint8)


def resized_mask(mask: NDArray[Any], size: Sequence[int]) -> NDArray[np.uint8]:
    """Resize class indices (H, W) to a height and width, by the nearest pixels."""
    mask = mask.astype(np.uint8)
    if mask.shape == tuple(size[:2]):
        return mask
    how = cv2.INTER_NEAREST
    return cv2.resize(mask, (size[1], size[0]), interpolation=how).astype(np.uint8)


def titled(image: Picture, title: str, size: float = 1.0) -> Picture:
    """Put a line of text above a picture, which gets as wide as the text."""
    scale, height = 0.45 * size, round(TITLE_HEIGHT * size)
    width = max(image.shape[1], text_width(title, scale) + 4)
    head = np.full((height, width, 3), 255, np.uint8)
    write_text(head, title, 2, height - 7 * size, (0, 0, 0), False, scale)
    return stacked([head, image], gap=0)


def side_by_side(pictures: Sequence[Picture], gap: int = GAP) -> Picture:
    """Join pictures in a row, white between them and below shorter ones."""
    height = max(picture.shape[0] for picture in pictures)
    padded = [
        np.pad(
            picture,
            ((0, height - picture.shape[0]), (0, gap * (not last)), (0, 0)),
            constant_values=255,
        )
        for picture, last in zip(
            pictures, [False] * (len(pictures) - 1) + [True], strict=True
        )
    ]
    return np.concatenate(padded, axis=1)


def stacked(pictures: Sequence[Picture], gap: int = GAP) -> Picture:
    """Join pictures in a column, white between them and beside narrower ones."""
    turned = [picture.transpose(1, 0, 2) for picture in pictures]
    return side_by_side(turned, gap).transpose(1, 0, 2)


def arranged(pictures: Sequence[Picture]) -> Picture:
    """Join pictures in a row, or in a column if they are wide."""
    height, width = pictures[0].shape[:2]
    return stacked(pictures) if width > 2 * height else side_by_side(pictures)


def overlay_mask(
    image: Picture, mask: NDArray[Any], palette: Sequence[Colour], alpha: float = 0.45
) -> Picture:
    """Colour the pixels of an image by their class.

    Pixels of no class of the palette (255, the ignored ones) are hatched in grey.

    Args:
        image (np.ndarray): (H, W, 3).
        mask (np.ndarray): Class indices, (H, W).
        palette (Sequence): RGB of each class.
        alpha (float): Opacity of the colours, 0-1. Defaults to 0.45.

    Returns:
        np.ndarray: (H, W, 3).
    """
    table = np.full((256, 3), 128, np.float32)
    table[: len(palette)] = palette
    colours = table[np.clip(mask, 0, 255).astype(np.uint8)]
    mixed = image * (1 - alpha) + colours * alpha
    rows, columns = np.indices(mask.shape, sparse=True)
    width = 2 * round(letter_size(image))
    stripes = (rows + columns) % (4 * width) < width
    unlabelled = (mask < 0) | (mask >= len(palette))
    mixed[unlabelled & stripes] = 60
    return np.ascontiguousarray(np.rint(mixed), np.uint8)


def overlay_change(image: Picture, mask: NDArray[Any]) -> Picture:
    """Tint what has changed (1 in the mask) red, with a yellow outline.

    Pixels that are ignored (255) are hatched in grey.
    """
    tinted = overlay_mask(image, mask, [(0, 0, 0), (255, 0, 0)], 0.4)
    tinted[mask == 0] = image[mask == 0]
    changed = (mask == 1).astype(np.uint8)
    outlines, _ = cv2.findContours(changed, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(tinted, outlines, -1, (255, 255, 0), 1)
    return tinted


def draw_boxes(
    image: Picture,
    corners: NDArray[Any],
    labels: Sequence[int],
    names: Sequence[str],
    palette: Sequence[Colour],
    scores: Sequence[float] | None = None,
    size: float = 1.0,
    most_texts: int = 25,
) -> Picture:
    """Outline oriented boxes in the colour of their class.

    Args:
        image (np.ndarray): (H, W, 3).
        corners (np.ndarray): x1 y1 ... x4 y4 in pixels, (N, 8).
        labels (Sequence[int]): Class index of each box.
        names (Sequence[str]): Names of the classes.
        palette (Sequence): RGB of each class.
        scores (Sequence[float], optional): Scores, 0-1. Defaults to None.
        size (float): Of letters, and of lines around large boxes. Defaults to 1.
        most_texts (int): Names are written beside the boxes if there are no more
            boxes than that; among more they would hide the image, and the legend
            says them. Defaults to 25.

    Returns:
        np.ndarray: (H, W, 3).
    """
    drawn = image.copy()
    polygons = np.asarray(corners, np.float64).reshape(-1, 4, 2)
    for polygon, label in zip(polygons, labels, strict=True):
        points = np.rint(polygon).astype(np.int32)
        # Thick lines would hide what is small.
        side = np.hypot(*np.diff(polygon[:3], axis=0).T).min()
        line = round(min(2 * size, max(side / 8, 2)))
        cv2.polylines(drawn, [points], True, palette[label], line, cv2.LINE_AA)
    if len(polygons) <= most_texts:
        for index, (polygon, label) in enumerate(zip(polygons, labels, strict=True)):
            text = names[label]
            if scores is not None:
                text += f' {scores[index]:.2f}'
            scale = 0.4 * size
            right = drawn.shape[1] - text_width(text, scale) - 2
            x = max(min(polygon[:, 0].min(), right), 1)
            y = polygon[:, 1].min() - 4 * size
            if y < 10 * size:
                lowest = drawn.shape[0] - 3 * size
                y = min(polygon[:, 1].max() + 12 * size, lowest)
            write_text(drawn, text, x, y, scale=scale)
    return drawn


def legend(
    width: int,
    names: Sequence[str],
    palette: Sequence[Colour],
    size: float = 1.0,
) -> Picture:
    """A strip with a colour and a name for each class.

    Args:
        width (int): Width in pixels; the strip is wider if a name is.
        names (Sequence[str]): Names.
        palette (Sequence): RGB of each name.
        size (float): Of the letters. Defaults to 1.

    Returns:
        np.ndarray: (rows * ``LEGEND_ROW`` * size, width, 3).
    """
    needed = [round(36 * size) + text_width(name, 0.45 * size) for name in names]
    width = max([width, *needed])
    places = []
    left = row = 0
    for need in needed:
        if left and left + need > width:
            left, row = 0, row + 1
        places.append((left, row))
        left += need
    strip = np.full((round((row + 1) * LEGEND_ROW * size), width, 3), 255, np.uint8)
    for name, colour, (left, row) in zip(names, palette, places, strict=False):
        top = row * LEGEND_ROW * size
        corner, opposite = (
            (round(left + edge * size), round(top + (edge + 1) * size))
            for edge in (4, 16)
        )
        fill = [int(value) for value in colour]
        cv2.rectangle(strip, corner, opposite, fill, -1)
        cv2.rectangle(strip, corner, opposite, (0, 0, 0), 1)
        x, y = left + 22 * size, top + 16 * size
        write_text(strip, name, x, y, (0, 0, 0), False, 0.45 * size)
    return strip


def box_corners(boxes: NDArray[Any]) -> NDArray[np.float64]:
    """Corners of boxes.

    Args:
        boxes (np.ndarray): (N, 5), centre x, y, width, height in pixels and angle
            in radians from the x axis towards the y axis; or (N, 4), left, top,
            right, bottom; or (N, 8), corners already.

    Returns:
        np.ndarray: x1 y1 ... x4 y4, in order around the box, (N, 8).
    """
    boxes = np.asarray(boxes, np.float64)
    if boxes.shape[1] == 8:
        return boxes
    if boxes.shape[1] == 4:
        return boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]]
    x, y, width, height, angle = boxes.T
    along = 0.5 * np.stack((width * np.cos(angle), width * np.sin(angle)), -1)
    across = 0.5 * np.stack((-height * np.sin(angle), height * np.cos(angle)), -1)
    centre = np.stack((x, y), -1)
    return np.concatenate(
        [
            centre + a * along + b * across
            for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))
        ],
        axis=1,
    )
