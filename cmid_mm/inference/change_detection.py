# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Change detection: what differs between two dates."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..images.finding import find_pairs
from ..images.writing import write_geotiff, write_image
from ..visualization.panels import change_panel
from .images import AnyImage, ImagePair
from .segmentation import PICTURE_SIZE, Segmentation


@dataclass(frozen=True)
class ChangeResult:
    """What changed between two images.

    Attributes:
        image (ImagePair): The images.
        mask (np.ndarray): 1 where the place changed, else 0; uint8 (H, W).
    """

    image: ImagePair
    mask: NDArray[np.uint8]


class ChangeDetection(Segmentation):
    """Inference of change detection."""

    name = 'change detection'

    def find(self, names: Sequence[str | Path]) -> list[Any]:
        """Pairs that files or folders name."""
        return list(find_pairs(names))

    def open(self, image: Any) -> ImagePair:
        """Open both images of a pair."""
        if not isinstance(image, (tuple, list)) or len(image) != 2:
            raise ValueError(
                f'change detection takes pairs (first date, second date), got {image!r}'
            )
        return ImagePair(image, self.loader)

    def finish(self, image: AnyImage, mask: NDArray[np.uint8]) -> ChangeResult:
        """Make the result."""
        assert isinstance(image, ImagePair)
        return ChangeResult(image, mask)

    def save(self, result: Any, folder: Path, name: str) -> list[Path]:
        """Write ``name.tif`` or ``name.png``, 0 and 255, and ``name_overlay.jpg``.

        The GeoTIFF is written if the first date is georeferenced.
        """
        dates = [date.preview(PICTURE_SIZE) for date in result.image.dates]
        pixels = np.concatenate(dates, axis=2)
        drawn = change_panel(pixels, {'prediction': result.mask}, self.bands)
        paths = [folder / f'{name}.png', folder / f'{name}_overlay.jpg']
        write_image(paths[1], drawn)
        white = result.mask * np.uint8(255)
        if result.image.georeference is None:
            write_image(paths[0], white)
        else:
            paths[0] = folder / f'{name}.tif'
            write_geotiff(paths[0], white, result.image.georeference)
        return paths
