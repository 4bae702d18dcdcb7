# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Images read as a config's pipeline reads them, whole or in windows."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import LoadImageFromFile
from numpy.typing import NDArray
from rasterio.windows import Window as RasterWindow

from ..datasets.transforms.bitemporal import LoadImagePair
from ..datasets.transforms.loading import LoadImagery
from ..images.errors import BandMismatchError, UnreadableImageError, Window
from ..images.place import Georeference
from ..images.rasters import RASTER_EXTENSIONS, opened_raster
from ..images.reading import count_bands, image_size, read_raw
from ..images.values import to_display_range

Loader = Callable[[dict[str, Any]], dict[str, Any]]


class ImageFile:
    """One image, as the first transform of a test pipeline loads it.

    Of a TIFF, GeoTIFF or JPEG 2000 only the window that is asked for is read. Other
    files, and rasters that ``LoadImageFromFile`` itself converts to 8 bits, are
    decoded whole, once.

    Args:
        path (str | Path): The file.
        loader (Callable): ``LoadImagery``, ``LoadImageFromFile`` or another
            transform that makes ``img`` of ``img_path``.

    Raises:
        UnreadableImageError: If the file is missing or its header is broken.
        BandMismatchError: If it has another number of bands than is loaded.
    """

    def __init__(self, path: str | Path, loader: Loader) -> None:
        self.path = Path(path)
        self.loader = loader
        self._whole: NDArray[Any] | None = None
        self._reads_bgr = isinstance(loader, LoadImageFromFile)
        self._windowed = isinstance(loader, LoadImagery)
        self.georeference: Georeference | None = None
        if not self.path.is_file():
            raise UnreadableImageError(f'{path} does not exist')
        if self.path.suffix.lower() in RASTER_EXTENSIONS:
            self._read_header()
        if self._windowed or self._is_plain_raster():
            self.height, self.width = image_size(self.path)
        else:
            self.height, self.width = self._decoded().shape[:2]

    def _read_header(self) -> None:
        with opened_raster(self.path) as source:
            self._dtype, self._count = source.dtypes[0], source.count
            self._has_nodata = source.nodata is not None
            if source.crs is not None and not source.transform.is_identity:
                self.georeference = Georeference(source.crs, source.transform)
        if self._reads_bgr and self._count not in (1, 3, 4):
            raise BandMismatchError(
                f'{self.path}: has {self._count} bands, but the config loads 3 '
                '(LoadImageFromFile); use a model that was trained on these bands, '
                'with LoadImagery'
            )

    def _is_plain_raster(self) -> bool:
        """Whether LoadImageFromFile gives the raster's own values."""
        loader: Any = self.loader
        return (
            self._reads_bgr
            and self.path.suffix.lower() in RASTER_EXTENSIONS
            and self._dtype == 'uint8'
            and self._count >= 3
            and (loader.color_type, loader.imdecode_backend) == ('color', 'cv2')
        )

    def read(self, window: Window | None = None) -> NDArray[Any]:
        """Load pixels, (H, W, C), in the order of bands that the config loads.

        Args:
            window (tuple, optional): Top, left, height and width in pixels.
                Defaults to None, the whole image.

        Raises:
            UnreadableImageError: If the pixels cannot be read.
            BandMismatchError: If the number of bands is wrong.
        """
        if self._windowed:
            data: dict[str, Any] = {'img_path': str(self.path)}
            if window is not None:
                data['window'] = window
            return self.loader(data)['img']
        if self._is_plain_raster():
            pixels = self._read_bgr(window)
            return pixels.astype(np.float32) if self._to_float() else pixels
        pixels = self._decoded()
        if window is None:
            return pixels
        top, left, height, width = window
        return pixels[top : top + height, left : left + width]

    def _to_float(self) -> bool:
        return bool(getattr(self.loader, 'to_float32', False))

    def _read_bgr(self, window: Window | None) -> NDArray[Any]:
        top, left, height, width = window or (0, 0, self.height, self.width)
        with opened_raster(self.path) as source:
            try:
                planes = source.read(
                    [3, 2, 1], window=RasterWindow(left, top, width, height)
                )
            except OSError as error:  # rasterio's errors are OSErrors
                reason = error.__cause__ or error
                raise UnreadableImageError(f'{self.path}: {reason}') from None
        return np.ascontiguousarray(planes.transpose(1, 2, 0))

    def _decoded(self) -> NDArray[Any]:
        if self._whole is None:
            # OpenCV fills the missing part of a truncated file with grey.
            bands = count_bands(self.path)
            read_raw(self.path, num_bands=bands)
            try:
                loaded = self.loader({'img_path': str(self.path)})
            except (cv2.error, AttributeError, AssertionError) as error:
                raise UnreadableImageError(
                    f'{self.path}: {type(self.loader).__name__} cannot decode it '
                    f'({error})'
                ) from None
            self._whole = loaded['img']
        return self._whole

    def preview(self, most: int) -> NDArray[Any]:
        """The image at reduced size, for pictures.

        Args:
            most (int): Longest side of the result in pixels.

        Returns:
            np.ndarray: RGB, or all bands on the 0-255 scale, (H, W, C).
        """
        factor = min(1.0, most / max(self.height, self.width))
        height, width = round(self.height * factor), round(self.width * factor)
        if self._windowed:
            loader: Any = self.loader
            least = min(height, width) if factor < 1 else None
            raw = read_raw(
                self.path, least, loader.num_bands, loader.bands, loader.nodata
            )
            pixels = to_display_range(raw.pixels, loader.value_range, self.path)
        elif self._is_plain_raster() and factor < 1:
            with opened_raster(self.path) as source:
                planes = source.read([1, 2, 3], out_shape=(3, height, width))
            return planes.transpose(1, 2, 0)
        else:
            pixels = self.read()
            if pixels.shape[2] == 3:
                pixels = pixels[..., ::-1]
        if factor == 1:
            return pixels
        channels = pixels.shape[2]
        # OpenCV resizes at most four channels at a time.
        parts = [
            cv2.resize(
                np.ascontiguousarray(pixels[..., i : i + 4]),
                (width, height),
                interpolation=cv2.INTER_AREA,
            ).reshape(height, width, -1)
            for i in range(0, channels, 4)
        ]
        return np.concatenate(parts, axis=2)

    def missing(self) -> NDArray[np.bool_] | None:
        """Pixels that the file marks as no data, (H, W); None if it marks none."""
        if self.path.suffix.lower() not in RASTER_EXTENSIONS or not self._has_nodata:
            return None
        with opened_raster(self.path) as source:
            missing = source.dataset_mask() == 0
        return missing if missing.any() else None


class ImagePair:
    """Two dates of one place, as ``LoadImagePair`` loads them.

    Args:
        paths (tuple[str | Path, str | Path]): The first and the second date.
        loader (LoadImagePair): First transform of the test pipeline.

    Raises:
        UnreadableImageError: If a file is missing or broken.
        ValueError: If the two differ in size.
    """

    def __init__(self, paths: Sequence[str | Path], loader: LoadImagePair) -> None:
        options = loader.options
        as_loaded = LoadImagery(None, **options)
        self.dates = [ImageFile(path, as_loaded) for path in paths]
        before, after = self.dates
        self.path, self.path2 = before.path, after.path
        self.height, self.width = before.height, before.width
        if (after.height, after.width) != (self.height, self.width):
            raise ValueError(
                f'{after.path} is {after.width} x {after.height} pixels, but '
                f'{before.path} is {before.width} x {before.height}; both dates must '
                'be of one size and cover the same place'
            )
        self.georeference = before.georeference

    def read(self, window: Window | None = None) -> NDArray[Any]:
        """Both dates stacked on channels, (H, W, 2C)."""
        return np.concatenate([date.read(window) for date in self.dates], axis=2)


AnyImage = ImageFile | ImagePair


def output_names(paths: Sequence[Path]) -> list[str]:
    """Names for the results of images: unique, without extension.

    The part of the paths that all have in common is left out.

    Raises:
        ValueError: If two paths differ in nothing but the extension.
    """
    if not paths:
        return []
    folders = [os.path.abspath(path.parent) for path in paths]
    root = os.path.commonpath(folders)
    names: dict[str, Path] = {}
    for folder, path in zip(folders, paths, strict=True):
        name = str(Path(os.path.relpath(folder, root), path.stem))
        if name in names:
            raise ValueError(
                f'{path} and {names[name]} would have the same output name; predict '
                'them in two runs'
            )
        names[name] = path
    return list(names)
