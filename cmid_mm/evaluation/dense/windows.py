# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Labelled windows of scenes, one after the other."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...datasets.windowed.scenes import LabelledScenes, Labels
from ...images import ImageFile, NoValidPixelError, Reading, Window
from ...images.pixels import missing_pixels
from ...labels.layers import LabelLayer
from ...labels.masks import IGNORED

#: Side of the windows in pixels where nothing else is said.
WINDOW = 512


class LabelledWindows:
    """The windows that the windowed data sets train on, without their pipeline.

    Nothing is kept: a pass reads scene by scene, window by window.

    Args:
        images: Scenes: files, folders, patterns, or lists of such (``*.txt``),
            relative to ``data_root``. Tiles of an ordinary data set are scenes, too.
        labels: Their label raster or vector layer, or a dict of this ``path`` and the
            other arguments of :class:`~cmid_mm.labels.layers.LabelLayer`; with
            ``{stem}`` in it, a file for each scene: ``'masks/{stem}.png'``.
        window: Side of the windows in pixels. Scenes that are smaller are one window.
        aoi: Vector layer of polygons in which windows lie, such as a part that
            ``tools/split_dataset.py`` wrote. Defaults to None, everywhere.
        data_root: Folder that all names are relative to. Defaults to ''.
        reading: How the scenes become numbers. Defaults to None, three bands.

    Attributes:
        names: Names of the scenes.
        classes: Names of the classes.
        aoi: Name of the vector layer of the area; None for everywhere.
        size: Side of the windows in pixels.

    Raises:
        FileNotFoundError: If a scene or the labels are missing.
        LabelError: If the labels cannot be used.
        ValueError: If the window is out of range.
    """

    def __init__(
        self,
        images: str | Sequence[str],
        labels: Labels,
        window: int = WINDOW,
        aoi: str | None = None,
        data_root: str = '',
        reading: Reading | None = None,
    ) -> None:
        self._reading = reading or Reading()
        self._scenes = LabelledScenes(
            LabelLayer, images, labels, window, 0, aoi, data_root, self._reading
        )
        self.names: list[str] = self._scenes.names
        self.aoi = None if self._scenes.area is None else str(self._scenes.area.path)
        self.size = window
        self.classes: tuple[str, ...] = tuple(self._scenes.layers.classes)

    def __iter__(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Read the windows that have labels.

        Pixels that an earlier window has shown too, and pixels without data, are
        ignored in the mask.

        Yields:
            Index of the scene; its window on the 0-255 scale, (C, h, w); the classes
            of its pixels, uint8 (h, w), 255 ignored.

        Raises:
            LabelError: If no scene lies where the labels are, or no window is labelled.
        """
        grids = self._scenes.windows()
        labelled = False
        indices = {name: index for index, name in enumerate(self.names)}
        for scene, placed in grids.items():
            grid = np.array([window for window, _ in placed])
            with ImageFile(scene, keep=True, reading=self._reading) as image:
                for number, (window, _) in enumerate(placed):
                    mask = self._scenes.mask(scene, window)
                    _ignore_seen(mask, window, grid[:number])
                    pixels = self._load(image, window, mask)
                    if pixels is not None:
                        labelled = True
                        yield indices[scene], pixels, torch.from_numpy(mask)
        if not labelled:
            raise self._scenes.nothing_labelled(sum(map(len, grids.values())))

    def _load(
        self, image: ImageFile, window: Window, mask: NDArray[np.uint8]
    ) -> Tensor | None:
        """Pixels of a window; None if none of them has a label and data."""
        if (mask == IGNORED).all():
            return None
        try:
            pixels, valid = image.load(self._reading, window)
        except NoValidPixelError:
            return None
        missing = missing_pixels(valid)
        if missing is not None:
            mask[missing] = IGNORED
        if (mask == IGNORED).all():
            return None
        return torch.from_numpy(pixels).permute(2, 0, 1)


def windows_to_probe(
    options: Any, labels: Mapping[str, Any], data_root: str, reading: Reading
) -> tuple[LabelledWindows, LabelledWindows]:
    """Windows to learn from, and those to test on, which are of the same by default.

    Args:
        options: With ``train``, ``labels`` and ``train_area``, ``test``,
            ``test_labels`` and ``test_area``, and ``window``; those of a command, or of
            a task of a comparison.
        labels: How labels are read: the arguments of a layer besides its path.
        data_root: Folder that all names are relative to.
        reading: How the scenes become numbers.
    """

    def windows(images: str, path: str, aoi: str | None) -> LabelledWindows:
        how = dict(labels, path=path)
        side = WINDOW if options.window is None else options.window
        return LabelledWindows(images, how, side, aoi, data_root, reading)

    return (
        windows(options.train, options.labels, options.train_area),
        windows(
            options.test or options.train,
            options.test_labels or options.labels,
            options.test_area,
        ),
    )


def _ignore_seen(
    mask: NDArray[np.uint8], window: Window, earlier: NDArray[np.int64]
) -> None:
    """Ignore the pixels of a window that lie in one of the earlier windows, (N, 4)."""
    if not len(earlier):
        return
    first = earlier[:, :2] - window[:2]
    last = np.minimum(first + earlier[:, 2:], window[2:])
    first = np.maximum(first, 0)
    for (top, left), (bottom, right) in zip(first, last, strict=True):
        if top < bottom and left < right:
            mask[top:bottom, left:right] = IGNORED
