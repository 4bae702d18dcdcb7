# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What is worth saying about files is said, and once."""

import numpy as np
import pytest
from PIL import Image
from rasterio.transform import from_origin
from torch.utils.data import DataLoader

from cmid_mm.datasets import ImageryDataset
from cmid_mm.datasets.transforms import LoadImagery
from cmid_mm.images import Reading, find_images, load_image, notices
from cmid_mm.images.pairs import ImagePair

from .miniatures import alpha_of_tiff, texture, turned_jpeg, turned_tiff, write_raster


@pytest.fixture
def said(monkeypatch):
    """Messages so far."""
    messages = []
    monkeypatch.setattr(
        notices, 'print_log', lambda message, *_, **__: messages.append(message)
    )
    return messages


@pytest.mark.parametrize('maker', [turned_tiff, turned_jpeg])
def test_orientation(tmp_path, said, maker):
    path = maker(tmp_path).path
    for _ in range(3):
        load_image(path)
    assert len(said) == 1 and f'{path} has an orientation tag' in said[0]


def test_transparency(tmp_path, said):
    path = alpha_of_tiff(tmp_path).path
    for _ in range(3):
        load_image(path)
    assert len(said) == 1 and f'{path}: band 4 is transparency' in said[0]
    load_image(path, Reading(num_bands=4))
    assert len(said) == 1


@pytest.mark.parametrize(
    ('value_range', 'share'),
    [
        ((0, 10), '0% of its values become 0 and 100% become 255'),
        ((60000, 65535), '100% of its values become 0 and 0% become 255'),
    ],
)
def test_value_range_that_does_not_fit(tmp_path, said, value_range, share):
    path = write_raster(tmp_path / 'a.tif', texture(3, 100, 5000, np.uint16))
    for _ in range(3):
        load_image(path, Reading(value_range=value_range))
    assert len(said) == 1 and share in said[0] and str(value_range) in said[0]


def test_value_range_that_fits(tmp_path, said):
    path = write_raster(tmp_path / 'a.tif', texture(3, 100, 5000, np.uint16))
    load_image(path, Reading(value_range=(100, 4000)))
    assert said == []


def test_missing_values_are_not_taken_for_clipped(tmp_path, said):
    values = texture(1, 100, 5000, np.uint16)
    values[:46] = 0
    path = write_raster(tmp_path / 'a.tif', values, nodata=0)
    load_image(path, Reading(num_bands=1, value_range=(0, 5000)))
    assert said == []


def test_types_that_differ_within_a_folder(tmp_path, said):
    paths = [
        write_raster(tmp_path / 'a.tif', texture(3)),
        write_raster(tmp_path / 'b.tif', texture(3, 0, 200, np.uint16)),
    ]
    loader = LoadImagery(value_range=(0, 200))
    for path in paths * 2:
        loader({'img_path': str(path)})
    assert len(said) == 1
    assert str(paths[0]) in said[0] and str(paths[1]) in said[0]
    assert 'value_range=(0, 200)' in said[0]


def test_one_worker_speaks_for_all(tmp_path, monkeypatch):
    images, log = tmp_path / 'images', tmp_path / 'log.txt'
    images.mkdir()
    exif = Image.Exif()
    exif[274] = 6
    for number in range(6):
        Image.fromarray(texture(3)).save(images / f'{number}.jpg', exif=exif)

    def write(message, *_, **__):  # workers share no list with the test
        with log.open('a') as file:
            file.write(f'{message}\n')

    monkeypatch.setattr(notices, 'print_log', write)
    dataset = ImageryDataset(str(images), pipeline=[dict(type='LoadImagery')])
    for _ in DataLoader(dataset, num_workers=3, collate_fn=list):
        pass
    (line,) = log.read_text().splitlines()
    assert 'has an orientation tag' in line


def test_whole_range_of_a_type(tmp_path, said):
    path = write_raster(tmp_path / 'a.tif', texture(3, 0, 65535, np.uint16))
    for _ in range(3):
        load_image(path)
    assert len(said) == 1 and 'the whole range of uint16, 0 to 65535' in said[0]


def test_transparency_of_warping_is_not_that_of_the_file(tmp_path, said):
    first = write_raster(tmp_path / 'a.tif', texture(3))
    aside = from_origin(5e5 + 4, 3e6, 2, 2)
    second = write_raster(tmp_path / 'b.tif', texture(3), transform=aside)
    with ImagePair((first, second), align=True) as pair:
        pair.load(Reading())
    assert said == []


def test_entries_that_are_no_files_are_counted(tmp_path, said):
    for name in ('a.png', 'b.tif'):
        (tmp_path / name).symlink_to(tmp_path / 'nowhere')
    for _ in range(2):
        assert find_images(tmp_path) == []
    assert len(said) == 1 and '2 entries' in said[0] and 'a.png' in said[0]
