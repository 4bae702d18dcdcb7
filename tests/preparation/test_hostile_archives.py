# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import os
import shutil
import stat
import zipfile
from types import SimpleNamespace

import pytest

from cmid_mm.preparation import sources
from cmid_mm.preparation.dior import check_dior_label
from cmid_mm.preparation.errors import PreparationError
from cmid_mm.preparation.sources import source_files
from tests.preparation.test_preparation import tree


def archive(
    folder, name='a.png', content=b'content', mode=0, kind=zipfile.ZIP_DEFLATED
):
    """An archive with one file."""
    path = folder / 'download.zip'
    with zipfile.ZipFile(path, 'w', kind) as file:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        info.compress_type = kind
        file.writestr(info, content)
    return path


@pytest.mark.parametrize(
    'name', ['../a.png', 'x/../../a.png', '/tmp/a.png', '..\\a.png', '\\a.png']
)
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path, name):
    with pytest.raises(PreparationError, match='download.zip: the name .* leads out'):
        source_files(archive(tmp_path, name))


@pytest.mark.parametrize(
    'kind', [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK]
)
def test_links_and_devices_are_refused(tmp_path, kind):
    path = archive(tmp_path, content=b'/etc/passwd', mode=kind | 0o777)
    with pytest.raises(PreparationError, match="'a.png' is a link or device"):
        source_files(path)


def test_regular_files_are_taken(tmp_path):
    path = archive(tmp_path, 'x/a.png', mode=stat.S_IFREG | 0o644)
    (file,) = source_files(path)
    file.save(tmp_path / 'out' / 'a.png')
    assert tree(tmp_path / 'out') == {'a.png': b'content'}


def test_archive_that_holds_far_more_than_its_size_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, '_SMALL', 1000)
    bomb = archive(tmp_path, content=bytes(10_000_000), kind=zipfile.ZIP_BZIP2)
    with pytest.raises(PreparationError, match='unpacked it has 10,000,000 bytes'):
        source_files(bomb)
    assert source_files(archive(tmp_path, content=os.urandom(10_000)))


def test_too_many_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, 'MAX_MEMBERS', 0)
    with pytest.raises(PreparationError, match='1 files, more than 0'):
        source_files(archive(tmp_path))


def test_encrypted_archive_is_refused(tmp_path):
    path = archive(tmp_path)
    content = bytearray(path.read_bytes())
    content[content.index(b'PK\x01\x02') + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(PreparationError, match='encrypted'):
        source_files(path)


def test_nothing_is_unpacked_where_there_is_no_room(tmp_path, monkeypatch):
    (file,) = source_files(archive(tmp_path, content=bytes(1000)))
    free = sources.KEPT_FREE + 999
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: SimpleNamespace(free=free))
    with pytest.raises(PreparationError, match=r'1,000 bytes, but .*out has'):
        file.save(tmp_path / 'out' / 'a.png')
    assert tree(tmp_path / 'out') == {}


def test_file_that_lies_about_its_size_is_damaged(tmp_path):
    path = archive(tmp_path, content=bytes(100_000))
    content = path.read_bytes()
    small = (10).to_bytes(4, 'little')
    path.write_bytes(content.replace((100_000).to_bytes(4, 'little'), small))
    (file,) = source_files(path)
    with pytest.raises(PreparationError, match='damaged'):
        file.save(tmp_path / 'out' / 'a.png')
    assert tree(tmp_path / 'out') == {}


def test_entities_of_labels_are_not_expanded():
    names = 'abcdefghijklmno'
    entities = ''.join(
        f'<!ENTITY {name} "{f"&{before};" * 10}">'
        for before, name in zip(names, names[1:], strict=False)
    )
    text = f'<!DOCTYPE x [<!ENTITY a "{"a" * 1000}">{entities}]><annotation>&o;'
    with pytest.raises(ValueError, match='amplification'):
        check_dior_label(f'{text}</annotation>'.encode(), 'label.xml')
