# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Reading of remote-sensing images: JPEG, PNG, GeoTIFF and JPEG 2000, any bands."""

from collections.abc import Sequence
from typing import Any

from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

from ...images.reading import load_image


@TRANSFORMS.register_module()
class LoadImagery(BaseTransform):
    """Load an image of any supported format, RGB (method.md section 1).

    Required keys: ``img_path`` and optionally ``window``. Added keys: ``img``
    (H, W, C), ``img_shape``, ``ori_shape``.

    Args:
        size (int, optional): Side in pixels of the square that the image is
            resized to. Defaults to None, the size of the file.
        bands (Sequence[int], optional): Bands to take, counted from 1. Defaults to
            None, all.
        value_range (Sequence[float], optional): Low and high value of non-8-bit
            files, mapped to 0 and 255. Defaults to None, the whole integer range.
        num_bands (int, optional): Expected number of bands. Defaults to None:
            the number of ``bands``, or 3.
        nodata (float, optional): Value of missing pixels where files carry no
            no-data tag. Defaults to None.
    """

    def __init__(
        self,
        size: int | None = None,
        bands: Sequence[int] | None = None,
        value_range: Sequence[float] | None = None,
        num_bands: int | None = None,
        nodata: float | None = None,
    ) -> None:
        if value_range is not None and not (
            len(value_range) == 2 and value_range[0] < value_range[1]
        ):
            raise ValueError(
                f'LoadImagery: value_range must be (low, high), got {value_range}'
            )
        self.size = size
        self.bands = None if bands is None else list(bands)
        self.value_range = (
            None if value_range is None else (value_range[0], value_range[1])
        )
        self.num_bands = num_bands or (3 if bands is None else len(bands))
        self.nodata = nodata

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Load ``results['img_path']``."""
        image = load_image(
            results['img_path'],
            self.size,
            self.num_bands,
            self.bands,
            self.value_range,
            self.nodata,
            results.get('window'),
        )
        results['img'] = image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(size={self.size}, bands={self.bands}, '
            f'value_range={self.value_range}, num_bands={self.num_bands}, '
            f'nodata={self.nodata})'
        )
