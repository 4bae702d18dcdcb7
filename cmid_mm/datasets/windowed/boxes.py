# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Oriented boxes straight from scenes and a vector layer of polygons."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from mmengine.registry import DATASETS
from numpy.typing import NDArray

from ...dependencies import DETECTION_VERSIONS, check_dependencies
from ...images import Window
from ...labels.layers import BoxLayer
from .data_set import WindowedDataset

check_dependencies(DETECTION_VERSIONS)

from mmrotate.datasets import DOTADataset  # noqa: E402


@DATASETS.register_module()
class WindowedOrientedBoxes(WindowedDataset, DOTADataset):
    """Windows of scenes, and the oriented boxes around the polygons of a vector layer.

    The pipeline is that of other oriented boxes: ``LoadImagery``, then
    ``mmdet.LoadAnnotations``. Windows without a box are left out in training and kept
    in a test. Boxes whose middle lies outside the area are ignored. ``labels`` takes
    the arguments of :class:`~cmid_mm.labels.layers.BoxLayer`. Let windows overlap by
    the longest object, so that each is whole in one of them.

    Args:
        **kwargs: See :class:`~cmid_mm.datasets.windowed.data_set.WindowedDataset`.
    """

    LAYER = BoxLayer
    # Not the classes of DOTA.
    METAINFO: ClassVar[dict[str, Any]] = {}

    def labels_of(self, scene: str, window: Window) -> dict[str, Any] | None:
        """The boxes in a window, as mmrotate's data sets give them."""
        image = self.scenes.open(scene)
        corners, classes, _ = self.scenes.layers.of(scene).boxes(image, window)
        if not (len(classes) or self.test_mode) or not self.is_usable(scene, window):
            return None
        outside = self._middles_outside(scene, window, corners)
        instances = [
            dict(bbox=box, bbox_label=kind, ignore_flag=int(ignored))
            for box, kind, ignored in zip(
                corners.tolist(), classes.tolist(), outside, strict=True
            )
        ]
        top, left, height, width = window
        # Named like a tile of DOTA, which mmrotate's metric knows how to join.
        name = f'{Path(scene).stem}__{max(height, width)}__{left}___{top}'
        return dict(
            img_id=name,
            file_name=Path(scene).name,
            instances=instances,
            cat_ids=np.unique(classes).tolist(),
        )

    def _middles_outside(
        self, scene: str, window: Window, corners: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        inside = self.scenes.inside(scene, window)
        columns, rows = corners.reshape(-1, 4, 2).mean(axis=1).astype(int).T
        height, width = inside.shape
        return ~inside[rows.clip(0, height - 1), columns.clip(0, width - 1)]
