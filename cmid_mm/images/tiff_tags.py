# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The orientation tag of TIFF, which GDAL does not tell."""

import struct

from PIL.TiffImagePlugin import ImageFileDirectory_v2

_TAG = 274


def orientation(name: str) -> int:
    """The orientation tag of a file; 1 without one, or if it is no TIFF."""
    try:
        with open(name, 'rb') as file:
            start = file.read(8)
            if start[2:3] == b'+':  # BigTIFF
                start += file.read(8)
            tags = ImageFileDirectory_v2(start)
            file.seek(tags.next)
            tags.load(file)
            return int(tags.get(_TAG, 1))
    except (OSError, ValueError, SyntaxError, TypeError, KeyError, struct.error):
        return 1  # of a kind, or at a place, that Pillow does not read
