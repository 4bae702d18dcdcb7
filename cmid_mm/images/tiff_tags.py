# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Tags of TIFF that GDAL does not tell."""

import struct
from typing import Any

from PIL.TiffImagePlugin import ImageFileDirectory_v2

_ORIENTATION = 274
#: Where GDAL keeps as XML what TIFF has no tag for.
_GDAL_METADATA = 42112


def orientation(name: str) -> int:
    """The orientation tag of a file; 1 without one, or if it is no TIFF."""
    value = _tag(name, _ORIENTATION)
    return value if isinstance(value, int) else 1


def gdal_metadata(name: str) -> bytes | None:
    """The XML that GDAL keeps in a TIFF; None without it, or if it is no TIFF."""
    value = _tag(name, _GDAL_METADATA)
    # Pillow takes the bytes of a text for Latin-1.
    return value.encode('latin-1') if isinstance(value, str) else None


def _tag(name: str, number: int) -> Any:
    try:
        with open(name, 'rb') as file:
            start = file.read(8)
            if b'+' in start[2:4]:  # BigTIFF
                start += file.read(8)
            tags = ImageFileDirectory_v2(start)
            file.seek(tags.next)
            tags.load(file)
            return tags.get(number)
    except (OSError, ValueError, SyntaxError, TypeError, KeyError, struct.error):
        return None  # of a kind, or at a place, that Pillow does not read
