# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Reading and turning pairs of images with a mask of what changed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmengine.registry import TRANSFORMS
from numpy.typing import NDArray

from ...images.reading import load_image
from ...labels.masks import read_change_mask


@TRANSFORMS.register_module()
class LoadImagePair(BaseTransform):
    """Load two dates of a place and stack them on channels.

    As one array, both dates go through every later step (crops, flips, rotations)
    together. Required keys: ``img_path`` and ``img_path2``. Added keys: ``img``
    (H, W, 2C), RGB if they are photographs, uint8 or float32 on the 0-255 scale;
    ``img_shape``, ``ori_shape``.

    Args:
        bands (Sequence[int], optional): Bands to take, counted from 1. Defaults to
            None, all.
        value_range (Sequence[float], optional): Low and high value of non-8-bit
            files, mapped to 0 and 255. Defaults to None, the whole integer range.
        num_bands (int, optional): Expected number C of bands. Defaults to None: the
            number of ``bands``, or 3.
        nodata (float, optional): Value of missing pixels where files carry no
            no-data tag. Defaults to None.
    """

    def __init__(
        self,
        bands: Sequence[int] | None = None,
        value_range: Sequence[float] | None = None,
        num_bands: int | None = None,
        nodata: float | None = None,
    ) -> None:
        self.options: dict[str, Any] = dict(
            num_bands=num_bands or (3 if bands is None else len(bands)),
            bands=bands,
            value_range=None if value_range is None else tuple(value_range),
            nodata=nodata,
        )

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Load ``results['img_path']`` and ``results['img_path2']``.

        Raises:
            ValueError: If the two differ in size.
        """
        paths = results['img_path'], results['img_path2']
        before, after = (load_image(path, **self.options) for path in paths)
        _check_size(paths[1], after, paths[0], before.shape[:2])
        results['img'] = np.concatenate([before, after], axis=2)
        results['img_shape'] = results['ori_shape'] = before.shape[:2]
        return results

    def __repr__(self) -> str:
        options = ', '.join(f'{key}={value}' for key, value in self.options.items())
        return f'{type(self).__name__}({options})'


@TRANSFORMS.register_module()
class LoadChangeMask(BaseTransform):
    """Load the mask of a pair as indexes: 0 unchanged, 1 changed, 255 ignored.

    Required keys: ``seg_map_path``, ``img_path``, ``ori_shape``. Added keys:
    ``gt_seg_map``, uint8 (H, W), and ``seg_fields``. See :func:`read_change_mask` for
    what masks may look like.

    Args:
        changed_from (int, optional): Lowest value that means change. Defaults to None,
            recognised from the file.
    """

    def __init__(self, changed_from: int | None = None) -> None:
        self.changed_from = changed_from

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Load ``results['seg_map_path']``.

        Raises:
            ValueError: If the mask is not of the images' size, or not clearly a mask.
        """
        path = results['seg_map_path']
        mask = read_change_mask(path, self.changed_from)
        _check_size(path, mask, results['img_path'], results['ori_shape'])
        results['gt_seg_map'] = mask
        results.setdefault('seg_fields', []).append('gt_seg_map')
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(changed_from={self.changed_from})'


def _check_size(
    path: str, image: NDArray[Any], other: str, shape: Sequence[int]
) -> None:
    if image.shape[:2] != tuple(shape):
        raise ValueError(
            f'{path} is {image.shape[1]} x {image.shape[0]} pixels, but {other} is '
            f'{shape[1]} x {shape[0]}; both dates and the mask must be of one size'
        )


@TRANSFORMS.register_module()
class RandomRotate90(BaseTransform):
    """Rotate by 0, 90, 180 or 270 degrees, each as likely as the others.

    Rotates the image, which may be a stacked pair, and its segmentation maps. Modified
    keys: ``img``, ``img_shape`` and those in ``seg_fields``. Not to be used
    before a transform that records flips for the test.
    """

    @cache_randomness
    def quarter_turns(self) -> int:
        """Draw the number of counter-clockwise quarter turns, 0-3."""
        return int(np.random.randint(4))

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Rotate all arrays by the same random angle."""
        turns = self.quarter_turns()
        for key in ('img', *results.get('seg_fields', [])):
            # Views with negative strides cannot become tensors.
            results[key] = np.ascontiguousarray(np.rot90(results[key], turns))
        results['img_shape'] = results['img'].shape[:2]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
