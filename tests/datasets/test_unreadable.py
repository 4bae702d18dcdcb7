# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Samples of all tasks that cannot be read any more while a run goes on."""

import os
from pathlib import Path

import numpy as np
import pytest
from mmengine.dataset import RepeatDataset

from cmid_mm.datasets.change_detection import ChangeDetectionDataset
from cmid_mm.datasets.scenes import SceneDataset
from cmid_mm.datasets.unreadable import TooManyUnreadableError
from cmid_mm.engine.hooks.unreadable_images_hook import _watched
from cmid_mm.images import UnreadableImageError, write_image

LOAD = dict(type='LoadImagery')


def write(path: Path) -> None:
    write_image(path, np.full((32, 32, 3), 9, np.uint8))


def scenes(root: Path, **options):
    return SceneDataset(str(root), pipeline=[LOAD], **options)


def pairs(root: Path, **options):
    steps = [dict(type='LoadImagePair'), dict(type='LoadChangeMask')]
    return ChangeDetectionDataset(str(root), pipeline=steps, **options)


def masks(root: Path, **options):
    pytest.importorskip('mmseg')
    from cmid_mm.datasets.segmentation import IndexMaskFolder

    return IndexMaskFolder(
        data_root=str(root),
        data_prefix=dict(img_path='img', seg_map_path='ann'),
        img_suffix='.png',
        metainfo=dict(classes=('field', 'forest')),
        pipeline=[LOAD, dict(type='LoadIndexMask')],
        **options,
    )


def boxes(root: Path, **options):
    pytest.importorskip('mmrotate')
    from cmid_mm.datasets.detection import OrientedBoxFolder

    for image in (root / 'images').iterdir():
        label = root / 'labels' / f'{image.stem}.txt'
        label.parent.mkdir(exist_ok=True)
        label.write_text('4 4 20 4 20 12 4 12 ship\n')
    return OrientedBoxFolder(
        data_root=str(root),
        ann_file='labels',
        data_prefix=dict(img_path='images'),
        pipeline=[LOAD],
        **options,
    )


#: Task, its folders of files of which one is broken, and the data set.
TASKS = {
    'scenes': (('field', 'forest'), 'field', scenes),
    'second date': (('A', 'B', 'label'), 'B', pairs),
    'change mask': (('A', 'B', 'label'), 'label', pairs),
    'segmentation': (('img', 'ann'), 'img', masks),
    'mask': (('img', 'ann'), 'ann', masks),
    'detection': (('images',), 'images', boxes),
}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


def become_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.fixture(params=TASKS)
def task(request, tmp_path):
    folders, broken, build = TASKS[request.param]
    for folder in folders:
        for number in range(4):
            path = tmp_path / folder / f'{number}.png'
            if folder in ('label', 'ann'):
                write_image(path, np.zeros((32, 32), np.uint8))
            else:
                write(path)
    return tmp_path, tmp_path / broken, build


@pytest.mark.parametrize('fail', [Path.unlink, cut, become_a_pipe])
def test_training_goes_on_with_another_sample(task, fail, caplog):
    root, folder, build = task
    dataset = build(root)
    dataset.full_init()
    fail(folder / '1.png')
    for _ in range(3):
        assert dataset[1]['sample_idx'] != 1
    assert [Path(path).name for path in dataset.unreadable_paths()] == ['1.png']
    assert dataset.unreadable_count == 1
    # Wrapped, it is counted as well.
    wrapped = RepeatDataset(dataset, 2)
    assert list(_watched(wrapped)) == [dataset]


def test_training_stops_with_the_names_above_the_share(task):
    root, folder, build = task
    dataset = build(root, max_unreadable=0.2)
    dataset.full_init()
    (folder / '0.png').unlink()
    dataset[0]
    (folder / '1.png').unlink()
    with pytest.raises(TooManyUnreadableError, match=r'(?s)2 of \d images.*1\.png'):
        dataset[1]


def test_in_a_test_nothing_takes_its_place(task):
    root, folder, build = task
    dataset = build(root, test_mode=True)
    dataset.full_init()
    (folder / '1.png').unlink()
    for _ in range(2):
        with pytest.raises(UnreadableImageError, match=r'1\.png'):
            dataset[1]


def test_share_out_of_range_is_refused():
    with pytest.raises(ValueError, match='SceneDataset: max_unreadable is a share'):
        SceneDataset(max_unreadable=2, lazy_init=True)
