# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Finding the pairs of A/B/label folders."""

import numpy as np
import pytest
from mmengine.registry import DATASETS

from cmid_mm.datasets.change_detection import ChangeDetectionDataset
from cmid_mm.images.writing import write_image


def write_pairs(root, names=('1', '2', '10'), label_dir='label', extension='.png'):
    """Write small pairs with their masks."""
    image = np.zeros((8, 8, 3), np.uint8)
    for name in names:
        write_image(root / 'A' / f'{name}{extension}', image)
        write_image(root / 'B' / f'{name}{extension}', image)
        write_image(root / label_dir / f'{name}.png', image[..., 0])
    return root


def test_finds_pairs_in_the_order_of_their_names(tmp_path):
    write_pairs(tmp_path / 'train', label_dir='OUT', extension='.jpg')
    (tmp_path / 'train' / 'A' / 'Thumbs.db').touch()
    dataset = DATASETS.build(
        dict(
            type='ChangeDetectionDataset',
            data_root=str(tmp_path),
            split='train',
            label_dir='OUT',
        )
    )
    assert len(dataset) == 3
    info = dataset.get_data_info(1)
    assert info['img_path'] == str(tmp_path / 'train/A/10.jpg')
    assert info['img_path2'] == str(tmp_path / 'train/B/10.jpg')
    assert info['seg_map_path'] == str(tmp_path / 'train/OUT/10.png')
    assert dataset.metainfo['classes'] == ('unchanged', 'changed')


def test_splits_that_share_folders_are_lists(tmp_path):
    write_pairs(tmp_path)
    (tmp_path / 'list').mkdir()
    (tmp_path / 'list' / 'test.txt').write_text('2.png\n\n10 \n')
    dataset = ChangeDetectionDataset(str(tmp_path), ann_file='list/test.txt')
    names = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
    assert names == [str(tmp_path / 'A' / f'{name}.png') for name in ('10', '2')]
    (tmp_path / 'list' / 'test.txt').write_text('3\n')
    with pytest.raises(FileNotFoundError, match=r"1 of 1 samples .* first '3'"):
        ChangeDetectionDataset(str(tmp_path), ann_file='list/test.txt')
    with pytest.raises(FileNotFoundError, match=r'list/val\.txt.* does not exist'):
        ChangeDetectionDataset(str(tmp_path), ann_file='list/val.txt')


def test_folders_of_other_names(tmp_path):
    write_pairs(tmp_path)
    (tmp_path / 'A').rename(tmp_path / '2019')
    (tmp_path / 'B').rename(tmp_path / '2021')
    dataset = ChangeDetectionDataset(str(tmp_path), before_dir='2019', after_dir='2021')
    info = dataset.get_data_info(0)
    assert info['img_path'] == str(tmp_path / '2019/1.png')
    assert info['img_path2'] == str(tmp_path / '2021/1.png')


@pytest.mark.parametrize('folder', ['A', 'B', 'label'])
def test_a_missing_partner_is_named(tmp_path, folder):
    write_pairs(tmp_path)
    (tmp_path / folder / '2.png').unlink()
    with pytest.raises(FileNotFoundError, match=rf"{folder}: 1 of 3 .* first '2'"):
        ChangeDetectionDataset(str(tmp_path))


def test_missing_or_empty_folders_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'A is not a folder.*--data-root'):
        ChangeDetectionDataset(str(tmp_path))
    for folder in ('A', 'B', 'label'):
        (tmp_path / folder).mkdir()
    with pytest.raises(FileNotFoundError, match='A holds no image'):
        ChangeDetectionDataset(str(tmp_path))


def test_two_files_of_one_name_are_refused(tmp_path):
    write_pairs(tmp_path)
    write_image(tmp_path / 'B' / '2.jpg', np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match=r'2\.png and 2\.jpg have the same name'):
        ChangeDetectionDataset(str(tmp_path))


def test_few_labels(tmp_path):
    dataset = ChangeDetectionDataset(str(write_pairs(tmp_path)), indices=2)
    assert len(dataset) == 2
