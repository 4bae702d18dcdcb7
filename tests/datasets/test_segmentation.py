# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Folders of images and index masks."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('mmseg')

from mmengine.registry import init_default_scope

from cmid_mm.datasets.segmentation import FiveClassISPRSDataset, IndexMaskFolder
from cmid_mm.images import write_image
from cmid_mm.labels.errors import LabelError

CLASSES = dict(classes=('field', 'forest', 'water'))


def write(root: Path, name: str, *values: int) -> None:
    write_image(root / 'img' / f'{name}.png', np.zeros((4, 6, 3), np.uint8))
    mask = np.resize(np.array(values, np.uint8), (4, 6))
    write_image(root / 'ann' / f'{name}.png', mask)


def load(root: Path, kind: type = IndexMaskFolder, **options) -> IndexMaskFolder:
    init_default_scope('mmseg')
    arguments = dict(
        data_root=str(root),
        data_prefix=dict(img_path='img', seg_map_path='ann'),
        img_suffix='.png',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadIndexMask'),
            dict(type='PackSegInputs'),
        ],
    )
    return kind(**{**arguments, **options})


def labels(dataset: IndexMaskFolder, index: int) -> list[int]:
    return np.unique(dataset[index]['data_samples'].gt_sem_seg.data).tolist()


def test_values_beyond_the_classes_of_the_data_set_are_refused(tmp_path):
    write(tmp_path, 'a', 0, 1, 2, 255)
    write(tmp_path, 'b', 0, 3)
    dataset = load(tmp_path, metainfo=CLASSES)
    assert labels(dataset, 0) == [0, 1, 2, 255]
    with pytest.raises(LabelError, match=r'b\.png .* 3 are none of the 3 classes'):
        dataset[1]


def test_the_five_classes_are_those_of_the_map(tmp_path):
    write(tmp_path, 'a', *range(7))
    write(tmp_path, 'b', 7)
    dataset = load(tmp_path, FiveClassISPRSDataset)
    found = dataset[0]['data_samples'].gt_sem_seg.data.ravel()[:7]
    assert found.tolist() == [255, 0, 1, 2, 3, 4, 255]
    with pytest.raises(LabelError, match=r'b\.png .* 7 are none of the 5 classes'):
        dataset[1]


def test_missing_lists_and_images_are_named(tmp_path):
    write(tmp_path, 'a', 0)
    with pytest.raises(FileNotFoundError, match=r"ann_file '.*none\.txt' does not"):
        load(tmp_path, metainfo=CLASSES, ann_file='none.txt')
    with pytest.raises(FileNotFoundError, match=r'no \*\.jpg in .*img'):
        load(tmp_path, metainfo=CLASSES, img_suffix='.jpg')
