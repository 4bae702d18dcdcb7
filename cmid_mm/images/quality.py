# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Masks beside scenes: clouds, their shadows, snow, as a quality band says."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from .errors import UnreadableImageError
from .names import is_local
from .pixels import Pixels, Quality, Window
from .place import Place
from .rasters import Raster
from .reducing import in_strips
from .source import Source
from .values import reduced_shape

AnyPath = TypeVar('AnyPath', str, Path)


def mask_of(scene: Path, quality: Quality) -> Path:
    """The mask of a scene.

    Args:
        scene: The scene, a file or a folder.
        quality: How its mask is called.

    Raises:
        UnreadableImageError: If there is none, or more than one fits the name.
    """
    folder = scene if scene.is_dir() else scene.parent
    beside = glob.escape(str(folder))
    pattern = quality.file.format(folder=beside, stem=glob.escape(scene.stem))
    if '{folder}' not in quality.file:
        pattern = os.path.join(beside, pattern)
    found = sorted(glob.glob(pattern))
    if len(found) == 1:
        return Path(found[0])
    reason = f'fits {found[0]} and {len(found) - 1} others' if found else 'is missing'
    raise UnreadableImageError(
        f'{scene}: its quality mask {quality.file} {reason} ({pattern}); correct file '
        'of quality in LoadImagery, or leave such scenes out'
    )


def without_masks(paths: Sequence[AnyPath], quality: Quality | None) -> list[AnyPath]:
    """The images among files of a folder, of which some are the masks of others.

    Args:
        paths: What was found.
        quality: How masks are called.

    Returns:
        All that are not the mask of another one, in the same order.
    """
    if quality is None:
        return list(paths)
    masks = set()
    for scene in filter(is_local, paths):
        try:
            mask = os.path.abspath(mask_of(Path(scene), quality))
        except UnreadableImageError:
            continue  # said by whoever reads it, unless it is a mask
        if mask != os.path.abspath(scene):
            masks.add(mask)
    return [path for path in paths if os.path.abspath(path) not in masks]


class Masked:
    """An image of which more pixels are missing, as a raster beside it says.

    The mask is warped onto the pixels of the image, by the nearest pixel, unless it
    has the same. What lies outside it is not masked.

    Args:
        source: The image.
        place: Where it lies.
        quality: Its mask, and what it says.

    Raises:
        UnreadableImageError: If there is no such mask, or it cannot be read.
        PlaceMismatchError: If it differs in size and cannot be aligned.
    """

    def __init__(self, source: Source, place: Place | None, quality: Quality) -> None:
        self.source, self.quality = source, quality
        self.header = source.header
        path = mask_of(self.header.path, quality)
        self._mask = Raster(path)
        own = self._mask.place
        same = self._mask.header.shape == self.header.shape and (
            own is None or place is None or own == place
        )
        if not same:
            self._mask.close()
            self._mask = Raster(path, (self.header, place), stored=True)

    def read(
        self,
        bands: list[int],
        window: Window,
        min_size: int | None = None,
        marker: float | None = None,
    ) -> Pixels:
        """Read pixels as :meth:`cmid_mm.images.rasters.Raster.read` does."""

        def read(part: Window) -> Pixels:
            pixels = self.source.read(bands, part, None, marker)
            masked = self._masked(part)[..., None]
            if pixels.valid is not None:
                return Pixels(pixels.values, pixels.valid & ~masked)
            if not masked.any():
                return pixels
            return Pixels(pixels.values, np.broadcast_to(~masked, pixels.values.shape))

        # Overviews do not serve: they are averages of masked pixels too.
        shape = reduced_shape(*window[2:], min_size)
        row_bytes = window[3] * len(bands) * 2 * (self.header.dtype.itemsize + 1)
        return in_strips(read, window, shape, 0 if shape == window[2:] else row_bytes)

    def _masked(self, window: Window) -> NDArray[np.bool_]:
        """Which pixels of a window the mask counts out, (H, W)."""
        values, known = self._mask.read_band(window)
        found = np.isin(values, self.quality.values)
        flags = sum(1 << bit for bit in self.quality.bits)
        if flags and values.dtype.kind not in 'iu':
            raise UnreadableImageError(
                f'{self._mask.path}: bits of quality need integers, found '
                f'{values.dtype}; name values instead'
            )
        if flags:
            found |= values & np.array(flags).astype(values.dtype) != 0
        return found if known is None else found & known

    def read_indices(self, window: Window | None = None) -> Pixels:
        """Read values as stored, those masked as missing."""
        pixels = self.source.read_indices(window)
        whole = (0, 0, self.header.height, self.header.width)
        valid = ~self._masked(window or whole)[..., None]
        if pixels.valid is not None:
            valid = pixels.valid & valid
        return Pixels(pixels.values, np.broadcast_to(valid, pixels.values.shape))

    def close(self) -> None:
        """Let go of both files."""
        self._mask.close()
        self.source.close()
