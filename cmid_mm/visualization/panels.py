# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Images beside their labels or predictions, for each task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .drawing import (
    IGNORED,
    Picture,
    arranged,
    class_names,
    draw_boxes,
    enlarge,
    legend,
    letter_size,
    overlay_change,
    overlay_mask,
    palette_of,
    resized_mask,
    stacked,
    titled,
    to_picture,
)

LEAST_SIDE = 320
"""Smaller images are enlarged until their shorter side is at least so long."""


@dataclass(frozen=True)
class DrawnBoxes:
    """Oriented boxes of one image.

    Attributes:
        corners (np.ndarray): x1 y1 ... x4 y4 in pixels, (N, 8).
        labels (Sequence[int]): Class index of each.
        scores (Sequence[float], optional): Score of each, 0-1.
    """

    corners: NDArray[Any]
    labels: Sequence[int]
    scores: Sequence[float] | None = None


def mask_panel(
    image: Picture, masks: Mapping[str, NDArray[Any]], meta: dict[str, Any]
) -> Picture:
    """An image, then the image coloured by masks, and a legend of what occurs.

    Args:
        image (np.ndarray): RGB (H, W, 3).
        masks (Mapping): Class indices (h, w), 255 ignored, by title; resized to the
            image's size.
        meta (dict): Meta information of the data set: ``classes``, ``palette``.

    Returns:
        np.ndarray: RGB, uint8.
    """
    fitted = {name: resized_mask(mask, image.shape) for name, mask in masks.items()}
    present = sorted(
        {value for m in fitted.values() for value in np.unique(m).tolist()}
    )
    count = max([value + 1 for value in present if value != IGNORED], default=1)
    count = max(count, len(meta.get('classes') or ()))
    names, palette = class_names(meta, count), palette_of(meta, count)[:count]
    pictures = {'image': image}
    for title, mask in fitted.items():
        pictures[title] = overlay_mask(image, mask, palette)
    drawn, size = _arranged(pictures)
    shown = [value for value in present if value < count]
    texts = [names[value] for value in shown]
    colours = [palette[value] for value in shown]
    if len(shown) < len(present):
        texts.append('ignored')
        colours.append((128, 128, 128))
    return stacked([drawn, legend(drawn.shape[1], texts, colours, size)])


def change_panel(
    pixels: NDArray[Any],
    masks: Mapping[str, NDArray[Any]],
    bands: Sequence[int] | None = None,
) -> Picture:
    """Both dates, then the second one with what changed in red.

    Args:
        pixels (np.ndarray): Both dates stacked on channels, 0-255, (H, W, 2C).
        masks (Mapping): 1 changed, 0 not, 255 ignored, (h, w), by title.
        bands (Sequence[int], optional): Bands to show, of the C, counted from 1.

    Returns:
        np.ndarray: RGB, uint8.
    """
    dates = [to_picture(date, bands) for date in np.split(pixels, 2, axis=2)]
    pictures = {'first date': dates[0], 'second date': dates[1]}
    for title, mask in masks.items():
        share = f'{title}: {100 * (mask == 1).mean():.1f} % changed'
        fitted = resized_mask(mask, dates[1].shape)
        pictures[share] = overlay_change(dates[1], fitted)
    return _arranged(pictures)[0]


def box_panel(
    image: Picture, boxes: Mapping[str, DrawnBoxes], meta: dict[str, Any]
) -> Picture:
    """Boxes on an image, once for each set of them, with the number of each class.

    Args:
        image (np.ndarray): RGB (H, W, 3).
        boxes (Mapping[str, DrawnBoxes]): Sets of boxes by title.
        meta (dict): Meta information of the data set: ``classes``.

    Returns:
        np.ndarray: RGB, uint8.
    """
    # Small images have small objects, which the lines would hide.
    larger = enlarge(image, 2 * LEAST_SIDE)
    scale, size = larger.shape[0] / image.shape[0], letter_size(larger)
    drawn = []
    for title, found in boxes.items():
        count = max([*found.labels, len(meta.get('classes') or ()) - 1, 0]) + 1
        # Data sets' own colours are made for other grounds, some hardly seen here.
        names, palette = class_names(meta, count), palette_of({}, count)
        picture = draw_boxes(
            larger,
            found.corners * scale,
            found.labels,
            names,
            palette,
            found.scores,
            size,
        )
        present = sorted(set(found.labels))
        texts = [f'{names[i]} ({list(found.labels).count(i)})' for i in present]
        colours = [palette[i] for i in present]
        texts, colours = texts or ['nothing'], colours or [(255, 255, 255)]
        strip = legend(picture.shape[1], texts, colours, size)
        drawn.append(titled(stacked([picture, strip]), title, size))
    return arranged(drawn)


def _arranged(pictures: Mapping[str, Picture]) -> tuple[Picture, float]:
    """Pictures of one size with titles, and the size of the letters."""
    larger = [enlarge(picture, LEAST_SIDE) for picture in pictures.values()]
    size = letter_size(larger[0])
    entitled = map(titled, larger, pictures, [size] * len(larger))
    return arranged(list(entitled)), size


def label_text(sample: Any, meta: dict[str, Any]) -> str:
    """Class of an image, or the classes that were mixed, with their shares.

    Args:
        sample (DataSample): Sample of mmpretrain with ``gt_label`` or ``gt_score``.
        meta (dict): Meta information of the data set: ``classes``.
    """
    if 'gt_score' in sample:
        shares = sample.gt_score.cpu().numpy()
        names = class_names(meta, len(shares))
        order = [i for i in np.argsort(-shares) if shares[i] > 0.005]
        if len(order) > 1:
            return ' + '.join(f'{shares[i]:.2f} {names[i]}' for i in order)
        return names[order[0]]
    label = int(sample.gt_label.flatten()[0])
    return class_names(meta, label + 1)[label]
