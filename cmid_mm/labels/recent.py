# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What is kept ready for the next window of an image."""

import os
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np
from rasterio.warp import transform_bounds

from ..images import ImageFile, Place

#: Images whose labels a layer holds ready in a process.
_HELD_READY = 16

_Item = TypeVar('_Item')


class Recent(Generic[_Item]):
    """What was made for each of the last images, made anew in each process.

    Args:
        close: What to do with an item that others displace.
    """

    def __init__(self, close: Callable[[_Item], object] | None = None) -> None:
        self._close = close
        self._items: OrderedDict[Any, _Item] = OrderedDict()

    def get(self, image: ImageFile, make: Callable[[ImageFile], _Item]) -> _Item:
        """What belongs to an image, made if it is not there."""
        # A process that was forked must not share its parent's file positions.
        key = os.getpid(), str(image.path), image.place, image.header.shape
        if key not in self._items:
            self._items[key] = make(image)
            if len(self._items) > _HELD_READY:
                (process, *_), oldest = self._items.popitem(last=False)
                if self._close is not None and process == os.getpid():
                    self._close(oldest)
        self._items.move_to_end(key)
        return self._items[key]

    def __reduce__(self) -> Any:
        """Nothing of it goes to another process."""
        return Recent, (self._close,)


def ground_bounds(
    place: Place, shape: tuple[int, int], crs: Any
) -> tuple[float, float, float, float]:
    """Left, bottom, right and top of an image in a reference system.

    Args:
        place: Of the image.
        shape: Its height and width in pixels.
        crs: The reference system.
    """
    height, width = shape
    corners = place.coordinates(
        np.array([[0, 0], [width, 0], [0, height], [width, height]], float)
    )
    low, high = corners.min(0), corners.max(0)
    return transform_bounds(place.crs, crs, *low, *high, densify_pts=21)
