# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""One rule for which files are images, for every user."""

import os

import numpy as np
import pytest
from PIL import Image

from cmid_mm.datasets import ImageryDataset
from cmid_mm.images import (
    UnreadableImageError,
    find_images,
    is_image_name,
    load_image,
    named_images,
    read_header,
)

from .miniatures import stack_of_files


@pytest.fixture
def folder(tmp_path):
    """A folder as people have them."""
    root = tmp_path / 'images'
    for name in (
        'b/2.PNG',
        'b/1.jpg',
        'b/c/ä #%.tif',
        'b/notes.txt',
        'b/._1.jpg',
        '.hidden/3.png',
        '__MACOSX/4.png',
        'b/1.jpg.aux.xml',
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / 'elsewhere' / '5.png').touch()
    os.symlink(tmp_path / 'elsewhere', root / 'linked')
    os.symlink(root, root / 'b' / 'loop')
    os.symlink(root / 'b' / '1.jpg', root / '6.jpg')
    os.symlink(root / 'nowhere.png', root / '7.png')
    os.mkfifo(root / 'pipe.png')
    return root


FOUND = ['6.jpg', 'b/1.jpg', 'b/2.PNG', 'b/c/ä #%.tif', 'linked/5.png']


def test_images_of_a_folder(folder):
    found = [str(path.relative_to(folder)) for path in find_images(folder)]
    assert found == FOUND
    assert find_images(folder, recursive=False) == [folder / '6.jpg']
    with pytest.raises(FileNotFoundError, match='nothing is not a folder'):
        find_images(folder / 'nothing')


def test_every_user_finds_the_same(folder):
    expected = [str(folder / name) for name in FOUND]
    assert [str(path) for path in named_images([folder])] == expected
    dataset = ImageryDataset(str(folder))
    assert [
        dataset.get_data_info(index)['img_path'] for index in range(len(dataset))
    ] == expected


def test_names():
    assert is_image_name('a.TIF') and is_image_name('x/b.jpeg')
    assert not is_image_name('._a.tif') and not is_image_name('a.tif.msk')


def test_a_pipe_is_refused_and_not_waited_for(folder):
    for read in (load_image, read_header):
        with pytest.raises(
            UnreadableImageError, match=r'pipe\.png: not a regular file'
        ):
            read(folder / 'pipe.png')


def test_a_mosaic_stands_for_its_parts(tmp_path):
    miniature = stack_of_files(tmp_path)
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / 'other.png')
    assert find_images(tmp_path) == [miniature.path, tmp_path / 'other.png']
    # Named files are taken as they are.
    assert named_images([tmp_path / 'b*.tif']) == [
        tmp_path / f'b{band}.tif' for band in range(3)
    ]
