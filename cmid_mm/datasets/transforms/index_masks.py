# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Loading of masks of class indexes."""

from collections.abc import Mapping
from typing import Any

from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

from ...labels.masks import check_size, read_index_mask
from ...ranges import Count


@TRANSFORMS.register_module()
class LoadIndexMask(BaseTransform):
    """Load the mask of an image; stands in for mmseg's ``LoadAnnotations``.

    Required keys: ``seg_map_path``; used if there: ``reduce_zero_label`` and
    ``label_map`` of mmseg's data sets, ``num_classes`` of ours, ``ori_shape`` and
    ``img_path``. Added keys: ``gt_seg_map``, uint8 (H, W), and ``seg_fields``. See
    :func:`~cmid_mm.labels.masks.read_index_mask` for what masks may look like.

    Args:
        num_classes: Number of classes; other values, but 255 for ignored, are refused.
            Defaults to None, what the data set says.
        label_map: What values of the files mean: class (or 255 for ignored) by value,
            such as ``{255: 1}`` for black and white masks. Defaults to None: the
            values are the classes. What the data set does with classes comes after it.
    """

    def __init__(
        self,
        num_classes: Count | None = None,
        label_map: Mapping[int, int] | None = None,
    ) -> None:
        self.num_classes = num_classes
        # Numbers are strings where they come from a command line.
        self.label_map = {int(v): int(label) for v, label in (label_map or {}).items()}

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Load ``results['seg_map_path']``.

        Raises:
            LabelError: If the mask is not of the image's size, or not clearly a mask.
        """
        path = results['seg_map_path']
        mask = read_index_mask(
            path,
            self.num_classes or results.get('num_classes'),
            self.label_map,
            bool(results.get('reduce_zero_label')),
            results.get('label_map'),
        )
        shape = results.get('ori_shape')
        if shape is not None:
            check_size(path, mask, results.get('img_path', 'its image'), shape)
        results['gt_seg_map'] = mask
        results.setdefault('seg_fields', []).append('gt_seg_map')
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(num_classes={self.num_classes}, '
            f'label_map={self.label_map})'
        )
