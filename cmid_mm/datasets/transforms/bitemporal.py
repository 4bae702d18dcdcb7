# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Reading and turning pairs of images with a mask of what changed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmengine.registry import TRANSFORMS

from ...images import Reading
from ...images.pairs import ImagePair
from ...images.pixels import missing_pixels
from ...labels.masks import check_size, read_change_mask
from ...ranges import AnyNumber, Count, Positive


@TRANSFORMS.register_module()
class LoadImagePair(BaseTransform):
    """Load two dates of a place and stack them on channels.

    As one array, both dates go through every later step (crops, flips, rotations)
    together. Required keys: ``img_path`` and ``img_path2``, optionally ``window``.
    Added keys: ``img`` (H, W, 2C), RGB if they are photographs, uint8 or float32 on
    the 0-255 scale; ``img_shape``, ``ori_shape``; ``img_missing``, bool (H, W), where
    one of the dates holds no data, None if both do everywhere.

    Args:
        bands: Bands to take, counted from 1, or by their names in the files. Defaults
            to None, all that hold data.
        value_range: Low and high value of non-8-bit files, mapped to 0 and 255: one
            pair, or one for each band. Defaults to None, the whole integer range.
        num_bands: Expected number C of bands. Defaults to None: the number of
            ``bands``, or 3.
        nodata: Value of missing pixels where files do not mark them. Defaults to
            None.
        align: Warp the second date onto the pixels of the first where their places
            differ. Defaults to False: such pairs are refused.
        gsd: Distance of pixels on the ground in metres at which files are read.
            Defaults to None, as they are.
        quality: Mask beside each file, as of :class:`LoadImagery`. Defaults to None.

    Raises:
        ValueError: If the options contradict each other.
    """

    def __init__(
        self,
        bands: Sequence[int | str] | None = None,
        value_range: Any = None,
        num_bands: Count | None = None,
        nodata: AnyNumber | None = None,
        align: bool = False,
        gsd: Positive | None = None,
        quality: Any = None,
    ) -> None:
        self.reading = Reading(
            num_bands or 0, bands, value_range, None, nodata, gsd, quality
        )
        self.align = align

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Load ``results['img_path']`` and ``results['img_path2']``.

        Raises:
            PlaceMismatchError: If the two differ in size or place.
        """
        paths = results['img_path'], results['img_path2']
        with ImagePair(paths, self.align, reading=self.reading) as pair:
            results['img'], valid = pair.load(self.reading, results.get('window'))
        # Without either date nobody knows whether something changed.
        dates = [None] if valid is None else np.split(valid, 2, axis=2)
        missing = [lost for v in dates if (lost := missing_pixels(v)) is not None]
        results['img_missing'] = np.any(missing, axis=0) if missing else None
        results['img_shape'] = results['ori_shape'] = results['img'].shape[:2]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.reading}, align={self.align})'


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
            LabelError: If the mask is not of the images' size, or not clearly a mask.
        """
        path = results['seg_map_path']
        mask = read_change_mask(path, self.changed_from)
        check_size(path, mask, results['img_path'], results['ori_shape'])
        results['gt_seg_map'] = mask
        results.setdefault('seg_fields', []).append('gt_seg_map')
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(changed_from={self.changed_from})'


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
