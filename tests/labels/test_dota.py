# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Label files of DOTA, through the data set and through preparation."""

import re
from pathlib import Path

import numpy as np
import pytest

from cmid_mm.images.writing import write_image
from cmid_mm.labels.dota import LabelledBoxes, format_boxes, parse_boxes, read_boxes
from cmid_mm.labels.errors import LabelError
from cmid_mm.preparation import prepare
from cmid_mm.preparation.dota import DOTAPreparation

BOX = '4 4 20 4 20 12 4 12'
SHIP = f'{BOX} ship 1'
HEADERS = 'imagesource:GoogleEarth\nacquisition dates:2016-05-04\ngsd:null\n'


def count_read(root: Path, content: bytes) -> int:
    (root / 'a.txt').write_bytes(content)
    return len(read_boxes(root / 'a.txt').corners)


def count_in_data_set(root: Path, content: bytes) -> int:
    pytest.importorskip('mmrotate')
    pytest.importorskip('mmcv.ops')
    from cmid_mm.datasets.detection import OrientedBoxFolder

    for folder in ('images', 'labels'):
        (root / folder).mkdir()
    write_image(root / 'images' / 'a.png', np.zeros((64, 64, 3), np.uint8))
    (root / 'labels' / 'a.txt').write_bytes(content)
    for name in ('images/._a.png', 'labels/._a.txt', 'labels/.a.txt'):
        (root / name).write_bytes(b'\0\5\x16\7')
    dataset = OrientedBoxFolder(
        data_root=str(root),
        ann_file='labels',
        data_prefix=dict(img_path='images'),
        test_mode=True,
    )
    return len(dataset.get_data_info(0)['instances'])


def count_prepared(root: Path, content: bytes) -> int:
    source = root / 'source' / 'train'
    write_image(source / 'images' / 'a.png', np.ones((64, 64, 3), np.uint8))
    (source / 'labels').mkdir()
    (source / 'labels' / 'a.txt').write_bytes(content)
    for name in ('images/._a.png', 'labels/._a.txt'):
        (source / name).write_bytes(b'\0\5\x16\7')
    preparation = DOTAPreparation(size=64, gap=0, complete='no', splits=('train',))
    prepare(preparation, source.parent, root / 'split')
    (tile,) = (root / 'split/train/annfiles').iterdir()
    return len(read_boxes(tile).corners)


USERS = [count_read, count_in_data_set, count_prepared]


@pytest.mark.parametrize('user', USERS)
@pytest.mark.parametrize(
    ('content', 'count'),
    [
        (f'{HEADERS}{SHIP}\n'.encode(), 1),
        (f'{SHIP}\n'.encode('utf-8-sig'), 1),
        (f'imagesource:x\n{SHIP}\n'.encode('utf-16'), 1),
        (f'{SHIP}\r\n\r\n{BOX} plane\r\n'.encode(), 2),  # no difficulty
        # A point, a line along an axis, a slanted line: no area.
        (f'{SHIP}\n1 1 1 1 1 1 1 1 ship 0\n'.encode(), 1),
        (f'{SHIP}\n5 5 30 5 30 5 5 5 ship 0\n'.encode(), 1),
        (f'{SHIP}\n1 1 2 2.3 31 40 1 1 ship 0\n4 4 9 9 19 19 4 4 ship 0'.encode(), 1),
        # Corners in the order of a bow tie: an area, though the formula gives 0.
        (f'{SHIP}\n5 5 25 25 25 5 5 25 ship 0\n'.encode(), 2),
    ],
)
def test_labels_are_read(tmp_path, content, count, user):
    assert user(tmp_path, content) == count


@pytest.mark.parametrize('user', USERS)
@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (f'gsd:1\n{BOX} crane 0'.encode(), "line 2: unknown class 'crane'"),
        (f'gsd:1\n{SHIP}\nnan{SHIP[1:]}'.encode(), 'line 3: expected x1 y1'),
        (f'inf{SHIP[1:]}'.encode(), 'line 1: expected x1 y1'),
        (f'1e39{SHIP[1:]}'.encode(), 'line 1: expected x1 y1'),
        (BOX.encode(), 'line 1: expected x1 y1'),
        (f'{BOX} large ship 0'.encode(), 'line 1: expected x1 y1'),
        (f'imagesource:é\n{SHIP}'.encode('latin-1'), 'line 1: not UTF-8'),
        (SHIP.encode('utf-16-le'), 'line 1: no text'),
    ],
)
def test_other_labels_are_refused_with_file_and_line(tmp_path, content, message, user):
    with pytest.raises(LabelError, match=rf'a\.txt, {re.escape(message)}'):
        user(tmp_path, content)


def test_boxes_without_area_are_counted():
    content = f'{SHIP}\n1 1 1 1 1 1 1 1 ship 0\n{BOX} plane 0\n0 0 9 0 9 0 0 0 plane 0'
    boxes = parse_boxes(content.encode(), 'a.txt')
    assert boxes.flat == 2
    assert boxes.classes == ('ship', 'plane')
    assert boxes.difficulties == (1, 0)


def test_what_is_written_reads_back():
    corners = np.array([[0.1, 2.25, 3, 4, 5, 60000.5, 7, 8]])
    content = format_boxes(corners, ['ship'], [1], None, {'gsd': 0.5})
    assert content == b'gsd:0.5\n0.1 2.25 3.0 4.0 5.0 60000.5 7.0 8.0 ship 1\n'
    boxes = parse_boxes(content, 'a.txt')
    np.testing.assert_array_equal(boxes.corners, corners)
    assert format_boxes(corners, ['a ship'], ['0.9000']) == (
        b'0.1 2.2 3.0 4.0 5.0 60000.5 7.0 8.0 a-ship 0.9000\n'
    )
    empty = LabelledBoxes()
    assert format_boxes(empty.corners, empty.classes, empty.difficulties) == b''
