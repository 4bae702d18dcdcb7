# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What is kept ready for the next window of an image."""

import os
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

import numpy as np
from rasterio.warp import transform_bounds

from ..images import ImageFile, Place

#: Images for which a layer holds something ready in a process.
_HELD_READY = 16

_Item = TypeVar('_Item')


class Recent(Generic[_Item]):
    """What was made for the last images or places, made anew in each process.

    Args:
        most: Size of all that is kept; the last item is kept whatever its size.
            Defaults to some items.
        size: Of an item. Defaults to None, 1 each.
        close: What to do with an item that others displace.
    """

    def __init__(
        self,
        most: int = _HELD_READY,
        size: Callable[[_Item], int] | None = None,
        close: Callable[[_Item], object] | None = None,
    ) -> None:
        self._options = most, size, close
        self._items: OrderedDict[Any, tuple[int, _Item]] = OrderedDict()

    def of_image(self, image: ImageFile, make: Callable[[ImageFile], _Item]) -> _Item:
        """What belongs to an image, made if it is not there."""
        key = str(image.path), image.place, image.header.shape
        return self.get(key, lambda: make(image))

    def get(self, key: Hashable, make: Callable[[], _Item]) -> _Item:
        """What belongs to a key, made if it is not there."""
        most, size, close = self._options
        # A process that was forked must not share its parent's file positions.
        key = os.getpid(), key
        if key not in self._items:
            item = make()
            self._items[key] = (1 if size is None else size(item)), item
            total = sum(size for size, _ in self._items.values())
            while total > most and len(self._items) > 1:
                (process, _), (displaced, oldest) = self._items.popitem(last=False)
                total -= displaced
                if close is not None and process == os.getpid():
                    close(oldest)
        self._items.move_to_end(key)
        return self._items[key][1]

    def __reduce__(self) -> Any:
        """Nothing of it goes to another process."""
        return Recent, self._options


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
