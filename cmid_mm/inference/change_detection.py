# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Change detection: what differs between two dates."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..images import find_pairs
from ..images.writing import write_geotiff, write_image
from ..visualization.panels import change_panel
from .images import AnyImage, InputPair
from .segmentation import PICTURE_SIZE, Segmentation

#: Value of pixels without data in the files, between unchanged and changed.
_NO_DATA = 127
_GREYS = np.full(256, _NO_DATA, np.uint8)
_GREYS[:2] = 0, 255


@dataclass(frozen=True)
class ChangeResult:
    """What changed between two images.

    Attributes:
        image (InputPair): The images.
        mask (np.ndarray): 1 where the place changed, else 0, and 255 where either
            date holds no data; uint8 (H, W).
    """

    image: InputPair
    mask: NDArray[np.uint8]


class ChangeDetection(Segmentation):
    """Inference of change detection."""

    name = 'change detection'

    def find(self, names: Sequence[str | Path]) -> list[Any]:
        """Pairs that files or folders name."""
        return list(find_pairs(names))

    def open(self, image: Any) -> InputPair:
        """Open both images of a pair."""
        if not isinstance(image, (tuple, list)) or len(image) != 2:
            raise ValueError(
                f'change detection takes pairs (first date, second date), got {image!r}'
            )
        return InputPair(image, self.loader, self.area)

    def finish(self, image: AnyImage, mask: NDArray[np.uint8]) -> ChangeResult:
        """Make the result."""
        assert isinstance(image, InputPair)
        return ChangeResult(image, mask)

    def save(self, result: Any, folder: Path, name: str) -> list[Path]:
        """Write ``name.tif`` or ``name.png`` and ``name_overlay.jpg``.

        0 is unchanged, 255 changed and 127 without data at either date. The GeoTIFF
        is written if the first date has a place.
        """
        pixels = np.concatenate(result.image.previews(PICTURE_SIZE), axis=2)
        drawn = change_panel(pixels, {'prediction': result.mask}, self.bands)
        paths = [folder / f'{name}.png', folder / f'{name}_overlay.jpg']
        write_image(paths[1], drawn)
        if result.image.place is None:
            write_image(paths[0], _GREYS[result.mask])
        else:
            paths[0] = folder / f'{name}.tif'
            greys = _GREYS[result.mask]
            write_geotiff(paths[0], greys, result.image.place, nodata=_NO_DATA)
        return paths
