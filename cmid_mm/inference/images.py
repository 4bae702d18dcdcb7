# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Images read as a config's pipeline reads them, whole or in windows."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from mmcv.transforms import LoadImageFromFile
from numpy.typing import NDArray

from ..datasets.transforms.bitemporal import LoadImagePair
from ..datasets.transforms.loading import LoadImagery
from ..images import ImageFile, Place, Reading, Window, image_path
from ..images.pairs import ImagePair
from ..images.pixels import missing_pixels
from ..labels.vectors import Area
from .areas import PartInArea

#: Pictures of strips are so many times as long as those of square images at most.
_LONGEST = 4.0

Loader = Callable[[dict[str, Any]], dict[str, Any]]


class InputImage:
    """One image, as the first transform of a test pipeline loads it.

    Args:
        path: The file.
        loader: ``LoadImagery``, or mmcv's ``LoadImageFromFile``, whose 8-bit BGR
            pixels are read by the same reader.
        area: Pixels outside of it count as missing. Defaults to None.

    Raises:
        UnreadableImageError: If the file is missing or its header is broken.
        ValueError: If the config loads images in another way.
        OutsideAreaError: If the image lies outside the area.
    """

    def __init__(
        self, path: str | Path, loader: Loader, area: Area | None = None
    ) -> None:
        self.path = image_path(path)
        self._blue_first = isinstance(loader, LoadImageFromFile)
        if isinstance(loader, LoadImagery):
            self.reading = loader.reading
        elif isinstance(loader, LoadImageFromFile) and loader.color_type == 'color':
            self.reading = Reading()
        else:
            raise ValueError(
                f'the test pipeline begins with {loader}; images are predicted if it '
                'begins with LoadImagery, or with LoadImageFromFile(color_type='
                "'color')"
            )
        self._to_float = bool(getattr(loader, 'to_float32', False))
        self.file = ImageFile(path, keep=True, reading=self.reading)
        self.height, self.width = self.file.header.shape
        self.part = _part(area, self.path, self.place, self.file.header.shape)

    @property
    def place(self) -> Place | None:
        """Where the image lies."""
        return self.file.place

    @property
    def paths(self) -> list[Path]:
        """The files of which it is made."""
        return [self.path]

    def read(
        self, window: Window | None = None
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Load pixels in the order of bands that the config loads.

        Args:
            window: Part to load. Defaults to None, the whole image.

        Returns:
            Pixels (H, W, C), and which of them are missing, (H, W), or None.

        Raises:
            NoValidPixelError: If a band holds no data there.
            UnreadableImageError: If the pixels cannot be read.
            BandMismatchError: If the number of bands is wrong.
        """
        pixels, valid = self.file.load(self.reading, window)
        if self._blue_first:
            kind = np.float32 if self._to_float else np.uint8
            pixels = np.rint(pixels[..., ::-1]).astype(kind)
        return pixels, _limited(missing_pixels(valid), self.part, pixels, window)

    def preview(self, most: int) -> NDArray[Any]:
        """The image at reduced size, for pictures: RGB, or all bands, (H, W, C).

        Args:
            most: See :func:`picture_side`.
        """
        side = picture_side(self.height, self.width, most)
        return self.file.preview(replace(self.reading, size=None), side)


class InputPair:
    """Two dates of one place, as ``LoadImagePair`` loads them.

    Args:
        paths: The first and the second date.
        loader: First transform of the test pipeline.
        area: Pixels outside of it count as missing. Defaults to None.

    Raises:
        UnreadableImageError: If a file is missing or broken.
        PlaceMismatchError: If the two differ in size or place.
        OutsideAreaError: If they lie outside the area.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        loader: LoadImagePair,
        area: Area | None = None,
    ) -> None:
        self.reading = loader.reading
        self.pair = ImagePair(paths, loader.align, keep=True, reading=self.reading)
        self.path, self.path2 = (date.path for date in self.pair.dates)
        self.height, self.width = self.pair.height, self.pair.width
        self.place = self.pair.place
        self.part = _part(area, self.path, self.place, (self.height, self.width))

    @property
    def paths(self) -> list[Path]:
        """The files of which it is made."""
        return [self.path, self.path2]

    def read(
        self, window: Window | None = None
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Both dates stacked on channels (H, W, 2C), and what is missing at either."""
        pixels, valid = self.pair.load(self.reading, window)
        missing = None
        if valid is not None:
            dates = [missing_pixels(mask) for mask in np.split(valid, 2, axis=2)]
            known = [mask for mask in dates if mask is not None]
            missing = np.logical_or.reduce(known) if known else None
        return pixels, _limited(missing, self.part, pixels, window)

    def previews(self, most: int) -> list[NDArray[Any]]:
        """Both dates at reduced size, for pictures."""
        reading = replace(self.reading, size=None)
        side = picture_side(self.height, self.width, most)
        return [date.preview(reading, side) for date in self.pair.dates]


AnyImage = InputImage | InputPair


def picture_side(height: int, width: int, most: int) -> int:
    """Longest side of the picture of an image, which of a strip is longer.

    Args:
        height: Height of the image.
        width: Width of the image.
        most: That of a square image; the picture has not many more pixels.
    """
    longest, shortest = max(height, width), min(height, width)
    return round(most * min((longest / shortest) ** 0.5, _LONGEST))


def _part(
    area: Area | None, path: Path, place: Place | None, shape: tuple[int, int]
) -> PartInArea | None:
    return None if area is None else PartInArea(area, path, place, shape)


def _limited(
    missing: NDArray[np.bool_] | None,
    part: PartInArea | None,
    pixels: NDArray[Any],
    window: Window | None,
) -> NDArray[np.bool_] | None:
    """Missing pixels, with those outside the area."""
    if part is None:
        return missing
    outside = part.outside(window, (pixels.shape[0], pixels.shape[1]))
    return outside if missing is None else missing | outside


def output_names(
    paths: Sequence[Path], folder: Path, others: Sequence[Path] = ()
) -> list[str]:
    """Names for the results of images: unique, without extension.

    The part of the paths that all have in common is left out.

    Args:
        paths: The images.
        folder: Where the results shall go.
        others: Further images that are read.

    Raises:
        ValueError: If two paths differ in nothing but the extension, or a result
            might replace an image that is read.
        NotADirectoryError: If the folder is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f'{folder} is a file, but shall be a folder')
    if not paths:
        return []
    folders = [os.path.abspath(path.parent) for path in paths]
    root = os.path.commonpath(folders)
    names: dict[str, Path] = {}
    for place, path in zip(folders, paths, strict=True):
        name = str(Path(os.path.relpath(place, root), path.stem))
        if name in names:
            raise ValueError(
                f'{path} and {names[name]} would have the same output name; predict '
                'them in two runs'
            )
        names[name] = path
    read = {os.path.realpath(path.with_suffix('')): path for path in (*paths, *others)}
    replaced = [read.get(os.path.realpath(folder / name)) for name in names]
    for image in filter(None, replaced):
        raise ValueError(
            f'results in {folder} could replace {image}, which is read; give another '
            'folder'
        )
    return list(names)
