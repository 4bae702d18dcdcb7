# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Decoding of JPEG and PNG."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .errors import UnreadableImageError

JPEG_EXTENSIONS = ('.jpg', '.jpeg')

PNG_EXTENSIONS = ('.png',)

HEADER_BYTES = 1 << 16

# Reduction of the decoder -> flags for colour and for grey images.
_JPEG_REDUCTIONS = {
    8: (cv2.IMREAD_REDUCED_COLOR_8, cv2.IMREAD_REDUCED_GRAYSCALE_8),
    4: (cv2.IMREAD_REDUCED_COLOR_4, cv2.IMREAD_REDUCED_GRAYSCALE_4),
    2: (cv2.IMREAD_REDUCED_COLOR_2, cv2.IMREAD_REDUCED_GRAYSCALE_2),
    1: (cv2.IMREAD_COLOR, cv2.IMREAD_GRAYSCALE),
}

# PNG colour type -> number of channels (palette entries are RGB or RGBA).
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}


def decode_jpeg(
    path: str | Path, content: bytes, min_size: int | None
) -> NDArray[np.uint8]:
    """Decode a JPEG to RGB or grey, (H, W, 3 | 1)."""
    height, width, components = jpeg_header(path, content)
    # Entropy-coded data cannot contain the end-of-image marker; a thumbnail can, but
    # stands before the first scan. So nothing but a cut-off file lacks it after that.
    if content.rfind(b'\xff\xd9') < content.rfind(b'\xff\xda'):
        raise UnreadableImageError(f'{path}: truncated JPEG (no end-of-image marker)')
    # libjpeg rounds the sides of a reduced image up.
    fitting = [
        factor
        for factor in _JPEG_REDUCTIONS
        if min_size is not None and -(-min(height, width) // factor) >= min_size
    ]
    colour, grey = _JPEG_REDUCTIONS[max(fitting, default=1)]
    flag = grey if components == 1 else colour
    return _decode(path, content, flag | cv2.IMREAD_IGNORE_ORIENTATION)


def decode_png(path: str | Path, content: bytes) -> NDArray[Any]:
    """Decode a PNG to grey, RGB or RGBA, 8 or 16 bit, (H, W, 1 | 3 | 4)."""
    _, _, channels = png_header(path, content)
    if b'IEND' not in content[-64:] and content.rfind(b'IEND') < 0:
        raise UnreadableImageError(f'{path}: truncated PNG (no end chunk)')
    if channels <= 2:
        flag = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH
    elif channels == 3:
        flag = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    else:
        flag = cv2.IMREAD_UNCHANGED
    return _decode(path, content, flag)


def _decode(path: str | Path, content: bytes, flag: int) -> NDArray[Any]:
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flag)
    except cv2.error as error:
        raise UnreadableImageError(f'{path}: {error}') from None
    if pixels is None:
        raise UnreadableImageError(f'{path}: corrupt image data')
    if pixels.ndim == 2:
        return pixels[..., None]
    if pixels.shape[2] == 4:
        return cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA)
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def jpeg_header(path: str | Path, content: bytes) -> tuple[int, int, int]:
    """Height, width and number of components."""
    if content[:2] != b'\xff\xd8':
        raise UnreadableImageError(f'{path}: not a JPEG file')
    position = 2
    while position + 9 < len(content):
        if content[position] != 0xFF:
            break
        marker = content[position + 1]
        if marker == 0xFF or 0xD0 <= marker <= 0xD8 or marker == 0x01:
            # Fill bytes and markers without a payload.
            position += 1 if marker == 0xFF else 2
            continue
        # Start of frame 0-15, but not Huffman, arithmetic or JPEG-extension tables.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height = int.from_bytes(content[position + 5 : position + 7], 'big')
            width = int.from_bytes(content[position + 7 : position + 9], 'big')
            if height == 0 or width == 0:
                break
            return height, width, content[position + 9]
        position += 2 + int.from_bytes(content[position + 2 : position + 4], 'big')
    raise UnreadableImageError(f'{path}: truncated or corrupt JPEG header')


def png_header(path: str | Path, content: bytes) -> tuple[int, int, int]:
    """Height, width and number of channels."""
    if content[:8] != b'\x89PNG\r\n\x1a\n' or content[12:16] != b'IHDR':
        raise UnreadableImageError(f'{path}: not a PNG file')
    if len(content) < 29 or content[25] not in _PNG_CHANNELS:
        raise UnreadableImageError(f'{path}: truncated or corrupt PNG header')
    width = int.from_bytes(content[16:20], 'big')
    height = int.from_bytes(content[20:24], 'big')
    return height, width, _PNG_CHANNELS[content[25]]


def file_bytes(path: str | Path, limit: int | None = None) -> bytes:
    """Content of a file, or its beginning."""
    try:
        with open(path, 'rb') as file:
            return file.read() if limit is None else file.read(limit)
    except OSError as error:
        raise UnreadableImageError(f'{path}: {error.strerror}') from None
