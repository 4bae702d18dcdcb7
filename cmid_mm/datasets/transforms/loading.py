# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The first step of every pipeline: an image file becomes an array."""

from collections.abc import Sequence
from typing import Any

from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

from ...images import NoValidPixelError, Reading, load_array, load_image_and_mask
from ...images.notices import say_once
from ...images.pixels import missing_pixels
from ...ranges import AnyNumber, Count, Positive


@TRANSFORMS.register_module()
class LoadImagery(BaseTransform):
    """Load an image of any supported format, RGB (docs/method.md, Views).

    Required keys: ``img_path`` and optionally ``window``, and ``min_valid``, the share
    of its pixels that hold data in all bands; or, of an image in memory, ``img`` as
    OpenMMLab's inferencers give it: with three bands blue first, as OpenCV
    reads them, with others in the order of the file. Added keys: ``img`` (H, W, C),
    uint8 or float32 on the 0-255 scale, ``img_shape``, ``ori_shape``; of a file also
    ``img_missing``, bool (H, W), where it holds no data, None if it does everywhere.

    Args:
        size: Side in pixels of the square that the image is resized to. Defaults to
            None, the size of the file.
        bands: Bands to take, counted from 1, or by their names in the files. Defaults
            to None, all that hold data.
        value_range: Low and high value of non-8-bit files, mapped to 0 and 255: one
            pair, or one for each band. Defaults to None, the whole integer range.
        num_bands: Expected number of bands. Defaults to None: the number of
            ``bands``, or 3.
        nodata: Value of missing pixels where files do not mark them. Defaults to
            None.
        gsd: Distance of pixels on the ground in metres at which files are read;
            windows are in pixels of that distance. Defaults to None, as they are.
        quality: Mask beside each file, as a dict of ``file`` and ``values`` or
            ``bits``; see :class:`cmid_mm.images.Quality`. Defaults to None.

    Raises:
        ValueError: If the options contradict each other.
    """

    def __init__(
        self,
        size: Count | None = None,
        bands: Sequence[int | str] | None = None,
        value_range: Any = None,
        num_bands: Count | None = None,
        nodata: AnyNumber | None = None,
        gsd: Positive | None = None,
        quality: Any = None,
    ) -> None:
        self.reading = Reading(
            num_bands or 0, bands, value_range, size, nodata, gsd, quality
        )
        # The first file of each type of values.
        self._types: dict[Any, str] = {}

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Load ``results['img_path']``, or take ``results['img']``."""
        path = results.get('img_path')
        if path is None:
            array = results['img']
            blue_first = array.ndim == 3 and array.shape[2] == 3
            image = load_array(array[..., ::-1] if blue_first else array, self.reading)
        else:
            window = results.get('window')
            image, valid = load_image_and_mask(path, self.reading, window)
            least = results.get('min_valid', 0)
            share = 1.0 if valid is None else valid.all(axis=2).mean()
            if share < least:
                raise NoValidPixelError(
                    f'{path}: {share:.0%} of window {window} are valid pixels, fewer '
                    f'than min_valid={least:g}'
                )
            results['img_missing'] = missing_pixels(valid)
            self._compare_types(image.dtype, path)
        results['img'] = image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def _compare_types(self, dtype: Any, path: str) -> None:
        self._types.setdefault(dtype, path)
        if len(self._types) > 1:
            first, second = self._types.values()
            say_once(
                'types',
                f'{first} and {second} differ in the type of their values: 8-bit '
                f'values are taken as they are, others scaled by {self.reading}',
            )

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.reading})'
