# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import os

import pytest

from cmid_mm import files
from cmid_mm.files import check_writable, link_or_copy, whole_file, write_bytes
from tests.full_disk import full_disk


def test_what_fails_leaves_the_old_file_and_no_part(tmp_path):
    file = tmp_path / 'sub' / 'a.txt'
    write_bytes(file, b'old')
    with pytest.raises(KeyboardInterrupt), whole_file(file) as part:
        part.write_bytes(b'half of the n')
        assert file.read_bytes() == b'old'
        raise KeyboardInterrupt
    assert file.read_bytes() == b'old'
    assert os.listdir(file.parent) == ['a.txt']
    write_bytes(file, b'new')
    assert file.read_bytes() == b'new'
    assert os.listdir(file.parent) == ['a.txt']


def test_a_file_that_cannot_be_copied_leaves_nothing(tmp_path):
    with pytest.raises(FileNotFoundError, match='gone'):
        link_or_copy(tmp_path / 'gone', tmp_path / 'sub' / 'copy')
    assert os.listdir(tmp_path / 'sub') == []


def test_a_full_disk_is_told_with_the_file(tmp_path):
    """Which the system does not name."""
    with full_disk(10), pytest.raises(OSError, match="too large: '.*a.json'"):
        write_bytes(tmp_path / 'a.json', b'content' * 9)
    assert os.listdir(tmp_path) == []


def test_copies_where_files_cannot_be_linked(tmp_path, monkeypatch):
    write_bytes(tmp_path / 'a', b'content')
    link_or_copy(tmp_path / 'a', tmp_path / 'linked')
    assert os.path.samefile(tmp_path / 'a', tmp_path / 'linked')

    def link(*args):
        raise OSError('no links here')

    monkeypatch.setattr(os, 'link', link)
    link_or_copy(tmp_path / 'a', tmp_path / 'copied')
    assert not os.path.samefile(tmp_path / 'a', tmp_path / 'copied')
    assert (tmp_path / 'copied').read_bytes() == b'content'


@pytest.mark.parametrize(
    ('path', 'is_folder', 'fault'),
    [
        ('file', True, 'is no folder'),
        ('folder', False, 'is a folder, expected a file'),
        ('file/sub/new', False, 'cannot be written: Not a directory'),
        ('file/sub', True, 'cannot be written: Not a directory'),
        ('a' * 300, True, 'cannot be written: File name too long'),
        ('/proc/new', True, 'cannot be written: '),
        ('folder/new/sub', True, None),
        ('folder', True, None),
        ('folder/new/a.json', False, None),
        ('file', False, None),
    ],
)
def test_places_that_cannot_be_written(tmp_path, path, is_folder, fault):
    write_bytes(tmp_path / 'file', b'')
    (tmp_path / 'folder').mkdir()
    if fault is None:
        check_writable(tmp_path / path, '--out', is_folder)
    else:
        with pytest.raises(OSError, match=f'--out .*{path} {fault}.*another place'):
            check_writable(tmp_path / path, '--out', is_folder)
    assert not any((tmp_path / 'folder').iterdir())
    assert sorted(os.listdir(tmp_path)) == ['file', 'folder']


def test_half_files_of_the_dead_are_removed(tmp_path):
    own = files.part_file(tmp_path / 'a.pth')
    living = own.with_name(own.name.replace(str(os.getpid()), str(os.getppid())))
    elsewhere = own.with_name('b.pth.another-node-1.part')
    for file in (
        own,
        living,
        elsewhere,
        tmp_path / 'a.pth',
        tmp_path / 'c.txt.x-1.part',
    ):
        file.touch()
    assert set(files.remove_part_files(tmp_path, '*.pth')) == {own, elsewhere}
    assert living.exists() and len(list(tmp_path.iterdir())) == 3
    assert files.remove_part_files(tmp_path / 'none', '*.pth') == []


def test_synced_file_and_its_name_reach_the_disk(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(files, 'send_to_disk', lambda path: synced.append(path.name))
    files.write_bytes(tmp_path / 'sub' / 'a.pth', b'content', sync=True)
    assert len(synced) == 2 and synced[0].endswith('.part') and synced[1] == 'sub'
