# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The ground floor: what an image file holds. Nobody else opens one.

- which files are images: :func:`find_images`, :func:`named_images`,
  :func:`without_masks`
- what a file says of itself: :class:`Header`, :func:`read_header`
- where its pixels lie: :class:`Place`
- which pixels hold data: :attr:`Pixels.valid`
- how values become numbers: :class:`Reading`
- its pixels, whole or in windows: :class:`ImageFile`, :func:`load_image`,
  :func:`load_array` of one in memory
"""

from .errors import (
    BandMismatchError,
    NoValidPixelError,
    PlaceMismatchError,
    UnreadableImageError,
)
from .finding import find_images, find_pairs, is_image, is_image_name, named_images
from .image_file import IMAGE_EXTENSIONS, ImageFile, read_header
from .names import beside, image_path, is_missing
from .pixels import Header, Pixels, Quality, Reading, Window
from .place import Place
from .quality import without_masks
from .reading import (
    load_array,
    load_image,
    load_image_and_mask,
    read_stored,
    read_values,
)
from .scene_folders import say_if_offsets_differ
from .tiles import tile_windows
from .writing import write_geotiff, write_image

__all__ = [
    'IMAGE_EXTENSIONS',
    'BandMismatchError',
    'Header',
    'ImageFile',
    'NoValidPixelError',
    'Pixels',
    'Place',
    'PlaceMismatchError',
    'Quality',
    'Reading',
    'UnreadableImageError',
    'Window',
    'find_images',
    'find_pairs',
    'is_image',
    'is_image_name',
    'is_missing',
    'beside',
    'image_path',
    'load_array',
    'load_image',
    'load_image_and_mask',
    'named_images',
    'read_header',
    'read_stored',
    'read_values',
    'say_if_offsets_differ',
    'tile_windows',
    'without_masks',
    'write_geotiff',
    'write_image',
]
