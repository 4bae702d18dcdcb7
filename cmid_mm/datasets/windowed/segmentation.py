# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Segmentation straight from scenes and a layer of labels."""

from typing import Any

from mmengine.registry import DATASETS

from ...dependencies import SEGMENTATION_VERSIONS, check_dependencies
from ...images import Window
from .data_set import WindowedDataset

check_dependencies(SEGMENTATION_VERSIONS)

from mmseg.datasets import BaseSegDataset  # noqa: E402


@DATASETS.register_module()
class WindowedSegmentation(WindowedDataset, BaseSegDataset):
    """Windows of scenes, and the classes of their pixels by a raster or vector layer.

    The pipeline loads with ``LoadImagery`` and ``LoadWindowLabels``; in training,
    ``ShiftWindow`` before them moves each window at random. ``labels`` takes the
    arguments of :class:`~cmid_mm.labels.layers.LabelLayer`.

    Args:
        **kwargs: See :class:`~cmid_mm.datasets.windowed.data_set.WindowedDataset`.
    """

    def labels_of(self, scene: str, window: Window) -> dict[str, Any] | None:
        """The classes in a window, with what mmseg's pipelines expect of a sample."""
        labels = super().labels_of(scene, window)
        if labels is None:
            return None
        return dict(labels, reduce_zero_label=False, seg_fields=[])
