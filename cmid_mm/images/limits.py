# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What is refused before it is opened or decoded: hostile files, by intent or not.

* What is no file: GDAL would wait for ever for what comes out of a pipe, be it the
  image itself, a file beside it, or what a VRT names.
* What would take more memory than :func:`max_decoded_bytes` to decode at once: a few
  kilobytes can say that they are a terabyte.
* Formats that nobody expects behind the ending of a name.
"""

import os
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np

from ..files import NotAFileError, check_regular, read_regular
from .errors import UnreadableImageError
from .names import beside, is_local, is_network

#: Environment variable with the bytes that one decoding may take.
LIMIT_VARIABLE = 'CMID_MM_MAX_DECODED_BYTES'
_MAX_DECODED_BYTES = 1 << 31

#: Endings behind which these formats are expected, as told by their first bytes. GDAL
#: would take many other things for images, some of which are read from servers.
_EXPECTED = re.compile(r'\.(jpe?g|png|tiff?|jp2|vrt)$', re.IGNORECASE)
_FORMATS = re.compile(
    rb'II[*+]\0|MM\0[*+]|\x89PNG\r\n|\xff\xd8\xff'  # TIFF and BigTIFF, PNG, JPEG
    rb'|\0\0\0\x0cjP  |\xff\x4f\xff\x51'  # JPEG 2000, in its file or bare
)
_VRT = b'<VRTDataset'  # anywhere in the first bytes, as GDAL sees it
_FIRST_BYTES = 1024
#: Files that GDAL looks for beside a raster, by what is added to its name, ...
_BESIDE_NAME = ('.aux.xml', '.ovr', '.msk')
#: ... and to its name without ending, in lower or upper case.
_BESIDE_STEM = (
    *('.aux', '.wld', '.tab', '.rpb', '.imd', '_rpc.txt', '_metadata.txt'),
    *('.tfw', '.tifw', '.tiffw', '.j2w', '.jp2w', '.jgw', '.jpgw', '.pgw', '.pngw'),
)
_VRT_SOURCE = re.compile(
    r'<Source(?:Filename|Dataset)([^>]*)>\s*([^<]*?)\s*</', re.DOTALL
)


def max_decoded_bytes() -> int:
    """Bytes of pixels that one decoding may take: 2 GiB, or as the variable says."""
    return int(os.environ.get(LIMIT_VARIABLE, _MAX_DECODED_BYTES))


def check_decoded(
    path: str | os.PathLike[str], height: int, width: int, dtypes: Sequence[Any]
) -> None:
    """Refuse to decode more at once than memory is meant for.

    Args:
        path: The image, for the message.
        height: Of what is decoded at once, in pixels.
        width: Likewise.
        dtypes: Types of the bands that are decoded.

    Raises:
        UnreadableImageError: If it is more than :func:`max_decoded_bytes`.
    """
    pixel = sum(np.dtype(dtype).itemsize for dtype in dtypes)
    size, most = height * width * pixel, max_decoded_bytes()
    if size > most:
        raise UnreadableImageError(
            f'{path}: {width} x {height} pixels of {pixel} bytes would have to '
            f'be decoded at once, {size / 2**30:,.1f} GiB, more than the '
            f'{most / 2**30:,.1f} GiB that are permitted. If it is what it says, '
            f'convert it to a tiled GeoTIFF and read it in windows, or set '
            f'{LIMIT_VARIABLE}'
        )


def check_no_pipe(name: str | os.PathLike[str]) -> None:
    """Refuse a pipe, a socket or a device.

    Raises:
        UnreadableImageError: If it is one.
    """
    try:
        check_regular(name)
    except NotAFileError as error:
        raise UnreadableImageError(str(error)) from None


def check_openable(name: str | os.PathLike[str]) -> None:
    """Refuse what GDAL would wait for, or what nobody expects behind its ending.

    Args:
        name: A path, or a name that GDAL knows.

    Raises:
        UnreadableImageError: If it, a file beside it, or one that it names as a VRT
            is a pipe, a socket or a device, or if its content is of another format
            than those of images.
    """
    try:
        _check(os.fspath(name), ())
    except OSError as error:
        raise UnreadableImageError(
            f'{name}: {error.strerror}' if error.strerror else str(error)
        ) from None


def _check(name: str, within: tuple[str, ...]) -> None:
    if not is_local(name):
        _check_virtual(name)
        return
    check_regular(name)
    if not os.path.isfile(name) or name in within:
        return
    stem = os.path.splitext(name)[0]
    for ending in _BESIDE_NAME:
        check_regular(name + ending)
    for ending in _BESIDE_STEM:
        check_regular(stem + ending)
        check_regular(stem + ending.upper())
    with open(name, 'rb') as file:
        beginning = file.read(_FIRST_BYTES)
    if _VRT in beginning:
        known = os.stat(name)
        for source in _sources(name, known.st_mtime_ns, known.st_size):
            _check(source, (*within, name))
    elif _EXPECTED.search(name) and not _FORMATS.match(beginning):
        raise UnreadableImageError(
            f'{name}: not recognized as being in a supported file format (its content '
            'is neither TIFF, JPEG 2000, VRT, PNG nor JPEG)'
        )


def _check_virtual(name: str) -> None:
    """Of ``/vsizip/...`` and the like, what stands behind the prefixes."""
    if re.search(r'/vsistdin', name):
        raise NotAFileError(f'{name}: the standard input is no image')
    if is_network(name):
        return
    for start in [match.start() for match in re.finditer('/', name)][1:]:
        check_regular(name[start:])


@lru_cache(maxsize=256)
def _sources(name: str, *version: int) -> tuple[str, ...]:
    """Names of the files that a VRT names."""
    text = read_regular(name).decode(errors='surrogateescape')
    return tuple(dict.fromkeys(_named_sources(text, os.path.dirname(name))))


def _named_sources(text: str, folder: str) -> Iterator[str]:
    for attributes, source in _VRT_SOURCE.findall(text):
        source = unescape(source)
        relative = re.search(r'relativeToVRT\s*=\s*["\']1', attributes)
        yield beside(folder, source) if relative else source


def check_file_size(path: Path, size: int) -> None:
    """Refuse to read a file whole that is larger than what it may hold, decoded.

    Raises:
        UnreadableImageError: If it is.
    """
    if size > max_decoded_bytes():
        raise UnreadableImageError(
            f'{path}: {size / 2**30:,.1f} GiB, more than the '
            f'{max_decoded_bytes() / 2**30:,.1f} GiB that are read of one JPEG or PNG '
            f'({LIMIT_VARIABLE})'
        )
