# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""JPEG and PNG: headers by Pillow, pixels by OpenCV."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from .errors import UnreadableImageError
from .limits import check_decoded, check_file_size
from .notices import say_once
from .pixels import Header, Pixels, Window, valid_values
from .values import reduced_shape, resize_by_area

JPEG_EXTENSIONS = ('.jpg', '.jpeg')
PNG_EXTENSIONS = ('.png',)

_JPEG, _PNG = b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n'
_ORIENTATION = 0x0112

# Reduction of the decoder -> flags for colour and for grey images.
_JPEG_REDUCTIONS = {
    8: (cv2.IMREAD_REDUCED_COLOR_8, cv2.IMREAD_REDUCED_GRAYSCALE_8),
    4: (cv2.IMREAD_REDUCED_COLOR_4, cv2.IMREAD_REDUCED_GRAYSCALE_4),
    2: (cv2.IMREAD_REDUCED_COLOR_2, cv2.IMREAD_REDUCED_GRAYSCALE_2),
    1: (cv2.IMREAD_COLOR, cv2.IMREAD_GRAYSCALE),
}


def photograph_header(path: Path) -> Header | None:
    """Header of a JPEG or PNG, which its content says it is, not its name.

    Args:
        path: The file; only its beginning is read.

    Returns:
        The header, or None if it is neither.

    Raises:
        UnreadableImageError: If the file cannot be opened or its header is broken.
    """
    try:
        with open(path, 'rb') as file:
            return _parse(path, file)[0] if _kind(file) else None
    except OSError as error:
        raise _unreadable(path, error) from None


def open_photograph(path: Path, keep: bool = False) -> 'Photograph | None':
    """Open a JPEG or PNG, which its content says it is, not its name.

    Args:
        path: The file.
        keep: Keep the decoded pixels for further windows. Defaults to False.

    Returns:
        The photograph, or None if it is neither.

    Raises:
        UnreadableImageError: If the file cannot be read or its header is broken.
    """
    try:
        check_file_size(path, path.stat().st_size)
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None
    return Photograph(path, content, keep) if _kind(BytesIO(content)) else None


class Photograph:
    """A JPEG or PNG file.

    Args:
        path: The file, for messages.
        content: What it holds.
        keep: Keep the decoded pixels for further windows. Defaults to False.

    Raises:
        UnreadableImageError: If the header is broken.
    """

    def __init__(self, path: Path, content: bytes, keep: bool = False) -> None:
        self.path, self.content, self.keep = path, content, keep
        self.header, self._image = _parse(path, BytesIO(content))
        # Here, as Pillow has read up to the pixels now.
        self._scan = self._image.fp.tell()
        self._kept: NDArray[Any] | None = None

    def read(
        self,
        bands: Sequence[int],
        window: Window,
        min_size: int | None = None,
        marker: float | None = None,
    ) -> Pixels:
        """Read pixels as :meth:`cmid_mm.images.rasters.Raster.read` does."""
        header = self.header
        top, left, height, width = window
        whole = (height, width) == (header.height, header.width)
        reducible = whole and marker is None and header.alpha is None
        pixels = self._decoded(min_size if reducible else None)
        if not whole:
            pixels = pixels[top : top + height, left : left + width]
        valid = None
        if header.alpha is not None and header.alpha not in bands:
            opaque = pixels[..., header.alpha - 1 :] > 0
            valid = np.broadcast_to(opaque, (*opaque.shape[:2], len(bands)))
        if marker is not None:
            present = valid_values(pixels != marker, marker, pixels.dtype)
            present = present[..., [band - 1 for band in bands]]
            valid = present if valid is None else valid & present
        if list(bands) != list(range(1, pixels.shape[2] + 1)):
            pixels = np.ascontiguousarray(pixels[..., [band - 1 for band in bands]])
        shape = reduced_shape(pixels.shape[0], pixels.shape[1], min_size)
        pixels, valid = resize_by_area(pixels, valid, shape)
        return Pixels(pixels, valid)

    def read_indices(self, window: Window | None = None) -> Pixels:
        """Read values as stored: a palette's indices, one bit as 0 and 1."""
        header = self.header
        top, left, height, width = window or (0, 0, header.height, header.width)
        if self._image.mode in ('P', '1'):
            self._check_end()
            check_decoded(self.path, header.height, header.width, [np.uint8])
            indices = self._by_pillow(None)[top : top + height, left : left + width]
            return Pixels(indices.astype(np.uint8)[..., None])
        data = [band for band in range(1, header.count + 1) if band != header.alpha]
        return self.read(data, (top, left, height, width))

    def close(self) -> None:
        """Forget the decoded pixels."""
        self._kept = None

    def _decoded(self, min_size: int | None) -> NDArray[Any]:
        if self._kept is not None:
            return self._kept
        pixels = self._decode(min_size)
        if self.keep:
            self._kept = pixels
        return pixels

    def _check_end(self) -> None:
        """Refuse a file that was cut off: the decoder would paint the rest grey."""
        if isinstance(self._image, PngImageFile):
            complete = self.content.rfind(b'IEND') >= 0
        else:
            # Entropy-coded data cannot contain the end-of-image marker, and what
            # follows the end does not matter.
            complete = self.content.rfind(b'\xff\xd9', self._scan) >= 0
        if not complete:
            raise UnreadableImageError(
                f'{self.path}: truncated (no end-of-image marker)'
            )

    def _reduction(self, min_size: int | None) -> int:
        """By how much the decoder reduces: of a JPEG, while it stays large enough."""
        if min_size is None or not isinstance(self._image, JpegImageFile):
            return 1
        # libjpeg rounds the sides of a reduced image up.
        side = min(self.header.height, self.header.width)
        fitting = (by for by in _JPEG_REDUCTIONS if -(-side // by) >= min_size)
        return max(fitting, default=1)

    def _decode(self, min_size: int | None) -> NDArray[Any]:
        """Decode to grey, RGB, or either with transparency: (H, W, C)."""
        self._check_end()
        header, mode = self.header, self._image.mode
        factor = self._reduction(min_size)
        check_decoded(
            self.path,
            header.height // factor,
            header.width // factor,
            [header.dtype] * header.count,
        )
        if header.alpha is not None and mode not in ('LA', 'RGBA'):
            return self._by_pillow('RGBA')
        if isinstance(self._image, JpegImageFile):
            colour, grey = _JPEG_REDUCTIONS[factor]
        else:
            colour = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
            grey = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH
        flag = grey if header.count == 1 else colour
        if header.alpha is None:
            flag |= cv2.IMREAD_IGNORE_ORIENTATION
        else:
            flag = cv2.IMREAD_UNCHANGED
        try:
            pixels = cv2.imdecode(np.frombuffer(self.content, np.uint8), flag)
        except cv2.error as error:
            raise UnreadableImageError(f'{self.path}: {error}') from None
        if pixels is None:
            raise UnreadableImageError(f'{self.path}: corrupt image data')
        if pixels.ndim == 2:
            return pixels[..., None]
        if pixels.shape[2] == 4:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA)
            return pixels if header.count == 4 else pixels[..., [0, 3]]
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)

    def _by_pillow(self, mode: str | None) -> NDArray[Any]:
        try:
            image = self._image if mode is None else self._image.convert(mode)
            return np.asarray(image)
        except (OSError, SyntaxError, ValueError) as error:
            raise UnreadableImageError(f'{self.path}: {error}') from None


def _unreadable(path: Path, error: OSError) -> UnreadableImageError:
    if isinstance(error, UnreadableImageError):
        return error
    return UnreadableImageError(f'{path}: {error.strerror or error}')


def _kind(file: BinaryIO) -> type[Any] | None:
    """Pillow's class for the content, judged by its first bytes."""
    beginning = file.read(len(_PNG))
    file.seek(0)
    if beginning == _PNG:
        return PngImageFile
    return JpegImageFile if beginning.startswith(_JPEG) else None


def _parse(path: Path, file: BinaryIO) -> tuple[Header, Any]:
    """Header, and Pillow's image, whose pixels are not decoded yet."""
    kind = _kind(file)
    assert kind is not None
    try:
        # Not Image.open, which refuses images of more than some 180 megapixels.
        image = kind(file)
        height, width = image.height, image.width
        mode, deep = image.mode, '16' in str(image.tile[0][3])
    except Exception as error:  # Pillow raises whatever its parser stumbles over.
        raise UnreadableImageError(
            f'{path}: truncated or corrupt {kind.format} header ({error})'
        ) from None
    # Without the first condition Pillow would decode a PNG in search of a tag.
    if 'exif' in image.info and image.getexif().get(_ORIENTATION, 1) != 1:
        say_once(
            'orientation',
            f'{path} has an orientation tag, which is ignored: images are read as '
            'they are stored',
        )
    transparent = mode in ('LA', 'RGBA', 'PA') or 'transparency' in image.info
    # Grey of which one value is transparent is decoded to colours.
    grey = mode == 'LA' or (mode in ('1', 'L', 'I', 'I;16') and not transparent)
    colours = 1 if grey else 3
    header = Header(
        path,
        height,
        width,
        colours + transparent,
        np.dtype(np.uint16 if deep else np.uint8),
        alpha=colours + 1 if transparent else None,
        palette=mode in ('P', 'PA'),
    )
    return header, image
