# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('mmrotate')
pytest.importorskip('mmcv.ops')

from cmid_mm.datasets import detection
from cmid_mm.datasets.detection import OrientedBoxFolder

BOX = '4 4 20 4 20 12 4 12'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ('b', 'a', 'c'):
        for folder in ('images', 'labelTxt'):
            (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / 'images' / f'{name}.png').touch()
        (tmp_path / 'labelTxt' / f'{name}.txt').write_text(
            f'imagesource:GoogleEarth\ngsd:0.3\n{BOX} ship 1\n\n{BOX} plane\n'
        )
    return tmp_path


def load(root: Path, **kwargs) -> OrientedBoxFolder:  # type: ignore[no-untyped-def]
    arguments = dict(
        data_root=str(root),
        ann_file='labelTxt',
        data_prefix=dict(img_path='images'),
        pipeline=[],
    )
    return OrientedBoxFolder(**{**arguments, **kwargs})


def test_images_come_in_the_order_of_their_names(root: Path) -> None:
    dataset = load(root, indices=2)
    assert [dataset.get_data_info(i)['img_id'] for i in range(len(dataset))] == [
        'a',
        'b',
    ]


def test_headers_and_a_missing_difficulty_are_accepted(root: Path) -> None:
    instances = load(root, diff_thr=0).get_data_info(0)['instances']
    assert [instance['bbox_label'] for instance in instances] == [6, 0]
    assert [instance['ignore_flag'] for instance in instances] == [1, 0]
    assert np.array_equal(instances[0]['bbox'], [4, 4, 20, 4, 20, 12, 4, 12])


def test_images_without_boxes_are_left_out_only_in_training(root: Path) -> None:
    (root / 'labelTxt' / 'b.txt').write_text('gsd:1\n')
    assert len(load(root, filter_cfg=dict(filter_empty_gt=True))) == 2
    assert len(load(root, test_mode=True)) == 3


def test_images_without_labels(root: Path) -> None:
    dataset = load(root, ann_file='', test_mode=True)
    assert [dataset.get_data_info(i)['file_name'] for i in range(3)] == [
        'a.png',
        'b.png',
        'c.png',
    ]


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        (f'{BOX} crane 0', "line 2: unknown class 'crane'; expected one of plane,"),
        (f'{BOX} ship x', 'line 2: expected x1 y1'),
        (BOX, 'line 2: expected x1 y1'),
        ('1 2 three 4 5 6 7 8 ship 0', 'line 2: expected x1 y1'),
    ],
)
def test_an_error_names_file_and_line(root: Path, line: str, message: str) -> None:
    (root / 'labelTxt' / 'b.txt').write_text(f'{BOX} ship 0\n{line}\n')
    with pytest.raises(ValueError, match=f'b.txt, {message}'):
        load(root)


def test_missing_files(root: Path) -> None:
    (root / 'images' / 'b.png').unlink()
    with pytest.raises(FileNotFoundError, match='b.txt has no image'):
        load(root)
    with pytest.raises(FileNotFoundError, match=r'no \*.tif in'):
        load(root, img_suffix='tif')
    for path in (root / 'labelTxt').iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r'no \*.txt in'):
        load(root)


def test_images_without_a_label_file_are_told(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ('d', 'e'):
        (root / 'images' / f'{name}.tif').touch()
    (root / 'labelTxt' / 'a.txt').write_text(f'{BOX} ship 1\n3 3 3 3 9 9 9 9 ship 0\n')
    said: list[str] = []
    monkeypatch.setattr(
        detection, 'print_log', lambda text, *_, **__: said.append(text)
    )
    assert len(load(root)) == 3
    kept = load(root, unlabelled='empty', test_mode=True)
    assert [kept.get_data_info(i)['img_id'] for i in range(5)] == list('abcde')
    assert kept.get_data_info(3)['instances'] == []
    bare, flat = said[:2]
    assert bare.startswith('2 of 5 images have no label file in ')
    assert bare.endswith('d.tif') and 'left out' in bare and 'as empty' in said[2]
    assert flat.startswith('1 boxes without area are left out, in 1 label files')
    assert flat.endswith('a.txt')
    with pytest.raises(ValueError, match="must be 'skip' or 'empty', got 'drop'"):
        load(root, unlabelled='drop')


def test_two_images_of_one_name_are_refused(root: Path) -> None:
    (root / 'images' / 'b.jpg').touch()
    with pytest.raises(ValueError, match=r'b\.png and b\.jpg have the same name'):
        load(root)
    assert len(load(root, img_suffix='png')) == 3
