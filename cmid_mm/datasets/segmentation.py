# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The data sets of labelled tiles that mmseg lacks."""

import os
from collections.abc import Sequence
from typing import Any, ClassVar

from mmengine.registry import DATASETS

from ..dependencies import SEGMENTATION_VERSIONS, check_dependencies
from ..labels.lists import read_list
from .unreadable import SkipsUnreadable

check_dependencies(SEGMENTATION_VERSIONS)

from mmseg.datasets import BaseSegDataset  # noqa: E402


@DATASETS.register_module()
class IndexMaskFolder(SkipsUnreadable, BaseSegDataset):
    """A folder of images and a folder of masks of class indexes, of the same names.

    mmseg's ``BaseSegDataset`` that tells ``LoadIndexMask`` the number of classes, so
    that values beyond them are refused, and reads an ``ann_file`` as all lists are
    read, see :func:`~cmid_mm.labels.lists.read_list`.

    Args:
        **kwargs: As for mmseg's ``BaseSegDataset``; ``metainfo`` names the classes.
            ``max_unreadable`` is the share of unreadable samples that training
            tolerates, see :class:`~cmid_mm.datasets.unreadable.SkipsUnreadable`.
    """

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the images and masks.

        Raises:
            FileNotFoundError: If there is no list or no image.
            LabelError: If the list has another encoding.
        """
        if self.ann_file and not os.path.isdir(self.ann_file):
            if not os.path.isfile(self.ann_file):
                raise FileNotFoundError(
                    f'ann_file {self.ann_file!r} does not exist. It is a text file '
                    'with the name of one image, without extension, a line; leave it '
                    'out to use all that are there'
                )
            samples = [self._sample(name) for _, name in read_list(self.ann_file)]
        else:
            samples = super().load_data_list()
        if not samples:
            raise FileNotFoundError(
                f'no *{self.img_suffix} in {self.data_prefix.get("img_path")}; see '
                'data_root, data_prefix and img_suffix of the data set'
            )
        # None where mmseg knows no classes: then any index is taken.
        num_classes = len(self.metainfo.get('classes') or ()) or None
        return [dict(sample, num_classes=num_classes) for sample in samples]

    def _sample(self, name: str) -> dict[str, Any]:
        name = name.removesuffix(self.img_suffix)
        images, masks = (
            self.data_prefix.get(key) for key in ('img_path', 'seg_map_path')
        )
        sample = dict(
            img_path=os.path.join(images or '', name + self.img_suffix),
            label_map=self.label_map,
            reduce_zero_label=self.reduce_zero_label,
            seg_fields=[],
        )
        if masks is not None:
            sample['seg_map_path'] = os.path.join(masks, name + self.seg_map_suffix)
        return sample


@DATASETS.register_module()
class FiveClassISPRSDataset(IndexMaskFolder):
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
