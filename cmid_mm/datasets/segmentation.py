# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The data set of labelled tiles that mmseg lacks."""

from collections.abc import Sequence
from typing import Any, ClassVar

from mmengine.registry import DATASETS

from ..dependencies import SEGMENTATION_VERSIONS, check_dependencies

check_dependencies(SEGMENTATION_VERSIONS)

from mmseg.datasets import BaseSegDataset  # noqa: E402


@DATASETS.register_module()
class FiveClassISPRSDataset(BaseSegDataset):
    """Potsdam or Vaihingen, with the five classes that published results score.

    The label files count as mmseg's converters and ``tools/prepare_data.py`` write
    them: 0 boundary or unlabelled, 1 impervious surface, 2 building, 3 low vegetation,
    4 tree, 5 car, 6 clutter. Values 1 to 5 become the classes 0 to 4; 0 and 6 become
    255, which neither losses nor metrics count.

    mmseg's own classes for these sets have clutter as a sixth class. Leaving it out by
    their ``metainfo`` gives labels that depend on the version of mmseg: some map the
    file's values before they subtract one, some after. Here nothing is subtracted.

    Args:
        img_suffix (str): Ending of the image files. Defaults to ``'.png'``.
        seg_map_suffix (str): Ending of the label files. Defaults to ``'.png'``.
        **kwargs: As for mmseg's ``BaseSegDataset``.

    Raises:
        ValueError: If ``reduce_zero_label`` or other classes are asked for.
    """

    METAINFO: ClassVar[dict] = dict(
        classes=('impervious_surface', 'building', 'low_vegetation', 'tree', 'car'),
        palette=[
            [255, 255, 255],
            [0, 0, 255],
            [0, 255, 255],
            [0, 255, 0],
            [255, 255, 0],
        ],
    )
    #: Class of each value of the label files.
    LABEL_MAP: ClassVar[dict[int, int]] = {0: 255, 1: 0, 2: 1, 3: 2, 4: 3, 5: 4, 6: 255}

    def __init__(
        self, img_suffix: str = '.png', seg_map_suffix: str = '.png', **kwargs: Any
    ) -> None:
        if kwargs.pop('reduce_zero_label', False):
            raise ValueError(
                'FiveClassISPRSDataset maps the zero label itself; remove '
                'reduce_zero_label'
            )
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)

    @classmethod
    def get_label_map(cls, new_classes: Sequence[str] | None = None) -> dict[int, int]:
        """The class of each value of the label files.

        Args:
            new_classes (Sequence[str], optional): Classes of the ``metainfo``.

        Returns:
            dict[int, int]: Class, or 255 for ignored, by value.

        Raises:
            ValueError: If the classes are not these five in this order.
        """
        if new_classes and tuple(new_classes) != cls.METAINFO['classes']:
            raise ValueError(
                f'FiveClassISPRSDataset has the classes {cls.METAINFO["classes"]}, not '
                f'{tuple(new_classes)}; for six, clutter included, use '
                "type='PotsdamDataset' (or ISPRSDataset) and num_classes=6"
            )
        return dict(cls.LABEL_MAP)
