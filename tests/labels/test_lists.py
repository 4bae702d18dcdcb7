# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Lists in all encodings, through every user that this package has for labels."""

from pathlib import Path

import numpy as np
import pytest

from cmid_mm.datasets.change_detection import ChangeDetectionDataset
from cmid_mm.datasets.scenes import find_scenes
from cmid_mm.images.writing import write_image
from cmid_mm.labels.errors import LabelError
from cmid_mm.labels.lists import read_list, write_list

#: Names that a file may have, in a list as they stand here.
NAMES = ['with blank', 'per%20cent', 'wörter-数', 'next\x85line', 'a#b', './#first']
TEXT = '\n'.join([NAMES[0], '', '# a comment', '   ', *NAMES[1:]])

READABLE = {
    'utf-8': TEXT.encode(),
    'byte-order mark': TEXT.encode('utf-8-sig'),
    'utf-16': TEXT.encode('utf-16'),
    'big-endian': b'\xfe\xff' + TEXT.encode('utf-16-be'),
    'carriage returns': TEXT.replace('\n', '\r\n').encode(),
    'old macintosh': TEXT.replace('\n', '\r').encode(),
    'trailing blanks': TEXT.replace('\n', ' \t\n').encode(),
}
UNREADABLE = {
    'latin-1': ('a\nb\nwörter\n'.encode('latin-1'), 'line 3: not UTF-8'),
    'no mark': ('a\nb\n'.encode('utf-16-le'), 'line 1: no text'),
    'cut': (b'\xff\xfea\0\n\0b', 'line 2: not UTF-16'),
    'empty': (b'\n# nothing\n', 'lists nothing'),
}


def file_names() -> list[str]:
    return [name.removeprefix('./') for name in NAMES]


def read_plainly(root: Path) -> list[str]:
    return [text for _, text in read_list(root / 'list.txt')]


def read_pairs(root: Path) -> list[str]:
    for folder in ('A', 'B', 'label'):
        for name in file_names():
            write_image(root / folder / f'{name}.png', np.zeros((4, 4, 3), np.uint8))
            (root / folder / f'._{name}.png').write_bytes(b'not an image')
    dataset = ChangeDetectionDataset(str(root), ann_file='list.txt')
    found = {
        Path(dataset.get_data_info(i)['img_path2']).stem for i in range(len(dataset))
    }
    return [name for name in NAMES if name.removeprefix('./') in found]


def read_scenes(root: Path) -> list[str]:
    for name in file_names():
        (root / name).mkdir()
        write_image(root / name / '1.png', np.zeros((4, 4, 3), np.uint8))
    listed = root / 'list.txt'
    content = listed.read_bytes()
    encoding = 'utf-16' if content[:1] in b'\xff\xfe' else 'utf-8-sig'
    text = content.decode(encoding)
    for name in NAMES:
        text = text.replace(name, f'{name}/1.png', 1)
    listed.write_bytes(text.encode(encoding))
    found = [name for _, name in find_scenes(root, 'list.txt')]
    return [name for name in NAMES if name.removeprefix('./') in found]


def read_index_masks(root: Path) -> list[str]:
    pytest.importorskip('mmseg')
    from cmid_mm.datasets.segmentation import IndexMaskFolder

    dataset = IndexMaskFolder(
        ann_file=str(root / 'list.txt'),
        data_root=str(root),
        metainfo=dict(classes=('a', 'b')),
        data_prefix=dict(img_path='img', seg_map_path='ann'),
    )
    prefix = f'{root}/ann/'
    paths = [dataset.get_data_info(i)['seg_map_path'] for i in range(len(dataset))]
    assert all(path.startswith(prefix) for path in paths)
    return [path[len(prefix) : -len('.png')] for path in paths]


USERS = [read_plainly, read_pairs, read_scenes, read_index_masks]


@pytest.mark.parametrize('user', USERS)
@pytest.mark.parametrize('kind', READABLE)
def test_lists_are_read(tmp_path, kind, user):
    (tmp_path / 'list.txt').write_bytes(READABLE[kind])
    assert user(tmp_path) == NAMES


@pytest.mark.parametrize('user', USERS)
@pytest.mark.parametrize('kind', UNREADABLE)
def test_other_lists_are_refused_with_file_and_line(tmp_path, kind, user):
    content, message = UNREADABLE[kind]
    (tmp_path / 'list.txt').write_bytes(content)
    if user is read_scenes:
        with pytest.raises(LabelError, match=rf'list\.txt.*{message}'):
            find_scenes(tmp_path, 'list.txt')
        return
    with pytest.raises(LabelError, match=rf'list\.txt.*{message}'):
        user(tmp_path)


def test_lines_are_counted_from_one_with_all_lines(tmp_path):
    (tmp_path / 'list.txt').write_text('\n# x\na\n\nb')
    assert read_list(tmp_path / 'list.txt') == [(3, 'a'), (5, 'b')]


def test_a_written_list_reads_back(tmp_path):
    write_list(tmp_path / 'list.txt', file_names())
    found = [str(Path(name)) for _, name in read_list(tmp_path / 'list.txt')]
    assert found == file_names()
    with pytest.raises(LabelError, match=r"'two\\nlines' cannot stand in the list"):
        write_list(tmp_path / 'list.txt', ['two\nlines'])
