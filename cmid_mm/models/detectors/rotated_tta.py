# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Test-time augmentation of oriented detectors."""

from typing import Any

import torch
from mmcv.ops import batched_nms
from mmengine.model import BaseTTAModel
from mmengine.registry import MODELS
from mmengine.structures import InstanceData
from mmrotate.structures.bbox import RotatedBoxes

from ...ranges import Count, Share


@MODELS.register_module()
class RotatedTTAModel(BaseTTAModel):
    """Merges the boxes found in an image and in its mirror images.

    mmdet's ``DetTTAModel`` for boxes with angles: boxes are mirrored back, then those
    of all views of a class suppress each other.

    Args:
        iou_threshold (float): Overlap above which the lower box goes. Defaults to 0.1,
            as in Oriented R-CNN.
        max_per_img (int): Boxes to keep. Defaults to 2000.
        **kwargs: See ``mmengine.model.BaseTTAModel``.
    """

    def __init__(
        self, iou_threshold: Share = 0.1, max_per_img: Count = 2000, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.iou_threshold = iou_threshold
        self.max_per_img = max_per_img

    def merge_preds(self, data_samples_list: list[list[Any]]) -> list[Any]:
        """Merge the predictions of the views of each image.

        Args:
            data_samples_list (list[list[DetDataSample]]): For each image its views.
                Boxes are in pixels of the file, mirrored where ``flip`` is set.

        Returns:
            list[DetDataSample]: The first view of each image with all boxes.
        """
        return [self._merge(views) for views in data_samples_list]

    def _merge(self, views: list[Any]) -> Any:
        found = []
        for view in views:
            instances = view.pred_instances
            tensor = getattr(instances.bboxes, 'tensor', instances.bboxes)
            boxes = RotatedBoxes(tensor, clone=True)
            if view.metainfo.get('flip'):
                boxes.flip_(view.ori_shape, view.flip_direction)
            found.append((boxes.tensor, instances.scores, instances.labels))
        boxes, scores, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
        merged = views[0]
        kept = torch.arange(0, device=scores.device)
        if len(boxes):
            # nms_rotated itself ignores the classes on a CPU. Sorted by score.
            nms = dict(type='nms_rotated', iou_threshold=self.iou_threshold)
            _, kept = batched_nms(boxes, scores, labels, nms)
            kept = kept[: self.max_per_img]
        merged.pred_instances = InstanceData(
            bboxes=RotatedBoxes(boxes[kept]), scores=scores[kept], labels=labels[kept]
        )
        return merged
