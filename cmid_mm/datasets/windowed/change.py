# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Change detection straight from scenes of two dates and a layer of labels."""

from collections.abc import Sequence
from typing import Any

from mmengine.registry import DATASETS

from ...images import Window
from ..change_detection import ChangeDetectionDataset
from .data_set import WindowedDataset
from .scenes import find_scenes


@DATASETS.register_module()
class WindowedChangeDetection(WindowedDataset):
    """Windows of scenes of two dates, and what changed by a raster or vector layer.

    The labels lie on the pixels of the first date. Of a vector layer, say what ground
    without a polygon is: ``labels=dict(path='changes.gpkg', background='unchanged')``.
    The pipeline loads with ``LoadImagePair`` and ``LoadWindowLabels``; in training,
    ``ShiftWindow`` before them moves each window at random.

    Args:
        images: Scenes of the first date.
        images2: Those of the second date, as many and in the same order.
        **kwargs: See :class:`~cmid_mm.datasets.windowed.data_set.WindowedDataset`.

    Raises:
        FileNotFoundError: If the dates differ in the number of their scenes.
    """

    METAINFO = ChangeDetectionDataset.METAINFO

    def __init__(
        self,
        images: str | Sequence[str],
        images2: str | Sequence[str],
        **kwargs: Any,
    ) -> None:
        data_root = kwargs.get('data_root', '')
        dates = [find_scenes(data_root, names) for names in (images, images2)]
        if len(dates[0]) != len(dates[1]):
            raise FileNotFoundError(
                f'images names {len(dates[0])} scenes and images2 {len(dates[1])} '
                f'(first {dates[0][0]} and {dates[1][0]}); each scene needs its '
                'partner of the second date, in the same order'
            )
        self._partners = dict(zip(*dates, strict=True))
        super().__init__(images=images, **kwargs)

    def labels_of(self, scene: str, window: Window) -> dict[str, Any] | None:
        """The classes in a window, and the scene of the second date."""
        labels = super().labels_of(scene, window)
        if labels is None:
            return None
        return dict(labels, img_path2=self._partners[scene], seg_fields=[])
