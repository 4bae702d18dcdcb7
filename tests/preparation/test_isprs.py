# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio

from cmid_mm.images.writing import write_image
from cmid_mm.preparation import PreparationError, prepare
from cmid_mm.preparation.isprs import (
    COLOURS,
    UNKNOWN,
    PotsdamPreparation,
    VaihingenPreparation,
    colours_to_indexes,
)

HEIGHT, WIDTH = 20, 28


def write_tiff(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width, bands = pixels.shape
    profile = dict(height=height, width=width, count=bands, dtype='uint8')
    with rasterio.open(path, 'w', driver='GTiff', **profile) as file:
        file.write(pixels.transpose(2, 0, 1))


@pytest.fixture(scope='module')
def area():
    """An image and its labels of all seven colours."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    indexes = rng.integers(0, 7, (HEIGHT, WIDTH)).astype(np.uint8)
    return image, indexes, np.array(COLOURS, np.uint8)[indexes]


@pytest.fixture(scope='module')
def potsdam(area, tmp_path_factory):
    """Potsdam's two archives; the other kinds of images and labels beside them."""
    root = tmp_path_factory.mktemp('potsdam')
    image, _, colours = area
    write_tiff(root / 'image.tif', image)
    write_tiff(root / 'label.tif', colours)
    areas = [area for part in PotsdamPreparation.splits.values() for area in part]
    with zipfile.ZipFile(root / '2_Ortho_RGB.zip', 'w') as archive:
        for name in areas:
            archive.write(root / 'image.tif', f'2_Ortho_RGB/top_potsdam_{name}_RGB.tif')
            archive.writestr(f'2_Ortho_RGB/top_potsdam_{name}_RGB.tfw', '0.05')
    with zipfile.ZipFile(root / '5_Labels.zip', 'w') as archive:
        for name in areas:
            archive.write(
                root / 'label.tif', f'top_potsdam_{name}_label_noBoundary.tif'
            )
            archive.writestr(f'top_potsdam_{name}_label.tif', b'not this one')
    return root


def test_indexes_are_those_of_mmseg(area):
    # Black, white, blue, cyan, green, yellow, red.
    row = np.array([COLOURS], np.uint8)
    assert colours_to_indexes(row).tolist() == [[0, 1, 2, 3, 4, 5, 6]]
    _, indexes, colours = area
    np.testing.assert_array_equal(colours_to_indexes(colours), indexes)
    noise = np.where(colours == 255, 245, 9).astype(np.uint8)
    np.testing.assert_array_equal(colours_to_indexes(noise), indexes)


@pytest.mark.parametrize('colour', [(255, 0, 255), (128, 0, 0), (255, 255, 200)])
def test_other_colours_are_unknown(area, colour):
    colours = area[2].copy()
    colours[3, 4] = colour
    found = colours_to_indexes(colours)
    assert np.argwhere(found == UNKNOWN).tolist() == [[3, 4]]


def test_potsdam(potsdam, area, tmp_path):
    destination = tmp_path / 'potsdam'
    preparation = PotsdamPreparation(tile_size=16)
    summary = prepare(preparation, potsdam, destination)
    assert '96 tiles in train, 56 tiles in val' in summary
    image, indexes, _ = area
    # The names of mmseg's converter: left, top, right, bottom; the last tile of a
    # row or column lies within the image.
    names = sorted(path.name for path in (destination / 'ann_dir/val').glob('7_13_*'))
    assert names == [
        '7_13_0_0_16_16.png',
        '7_13_0_4_16_20.png',
        '7_13_12_0_28_16.png',
        '7_13_12_4_28_20.png',
    ]
    name = '2_10_12_4_28_20.png'
    tile = cv2.imread(str(destination / 'img_dir/train' / name))
    np.testing.assert_array_equal(tile[..., ::-1], image[4:20, 12:28])
    label = cv2.imread(str(destination / 'ann_dir/train' / name), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(label, indexes[4:20, 12:28])


def test_an_interrupted_preparation_goes_on(potsdam, tmp_path, monkeypatch):
    destination = tmp_path / 'potsdam'
    written = []

    def write(path, image):
        if len(written) == 30:
            raise KeyboardInterrupt
        written.append(path)
        write_image(path, image)

    preparation = PotsdamPreparation(tile_size=16)
    monkeypatch.setattr('cmid_mm.preparation.isprs.write_image', write)
    with pytest.raises(KeyboardInterrupt):
        prepare(preparation, potsdam, destination)
    monkeypatch.undo()
    before = {path: path.stat().st_mtime_ns for path in written[:28]}
    prepare(preparation, potsdam, destination)
    # The seven images that were complete are not made again.
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert len(list(destination.rglob('*.png'))) == 2 * 152


def test_a_missing_area_is_named(potsdam, tmp_path):
    with pytest.raises(PreparationError, match=r'lacks 38 .*\(eroded\): image of 2_10'):
        prepare(PotsdamPreparation(bands='IRRG'), potsdam, tmp_path / 'x')
    assert not (tmp_path / 'x').exists()


def test_an_image_and_label_of_other_sizes_are_refused(potsdam, tmp_path):
    source = tmp_path / 'source'
    with zipfile.ZipFile(potsdam / '2_Ortho_RGB.zip') as archive:
        archive.extractall(source)
    with zipfile.ZipFile(potsdam / '5_Labels.zip') as archive:
        archive.extractall(source)
    wrong = source / 'top_potsdam_2_10_label_noBoundary.tif'
    write_tiff(wrong, np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(PreparationError, match=r'2_10_RGB.*\(20, 28\).*2_10_label'):
        prepare(PotsdamPreparation(), source, tmp_path / 'x')


def test_vaihingen_tells_images_from_full_labels_by_folder(area, tmp_path):
    image, indexes, colours = area
    source = tmp_path / 'source'
    write_tiff(source / 'image.tif', image)
    write_tiff(source / 'label.tif', colours)
    eroded = np.where((indexes == 6)[..., None], 0, colours).astype(np.uint8)
    write_tiff(source / 'eroded.tif', eroded)
    for areas in (*VaihingenPreparation.splits.values(), ('area9',)):
        for area_name in areas:
            name = f'top_mosaic_09cm_{area_name}'
            for file, path in (
                ('image.tif', f'top/{name}.tif'),
                ('label.tif', f'gts/{name}.tif'),
                ('eroded.tif', f'eroded/{name}_noBoundary.tif'),
            ):
                (source / path).parent.mkdir(exist_ok=True)
                (source / path).hardlink_to(source / file)
    for labels in ('full', 'eroded'):
        preparation = VaihingenPreparation(labels=labels)
        summary = prepare(preparation, source, tmp_path / labels)
        # Smaller than a tile: one each.
        assert '16 tiles in train, 17 tiles in val' in summary
        name = 'area38_0_0_28_20.png'
        tile = cv2.imread(str(tmp_path / labels / 'img_dir/val' / name))
        np.testing.assert_array_equal(tile[..., ::-1], image)
        label = cv2.imread(
            str(tmp_path / labels / 'ann_dir/val' / name), cv2.IMREAD_UNCHANGED
        )
        expected = indexes if labels == 'full' else np.where(indexes == 6, 0, indexes)
        np.testing.assert_array_equal(label, expected)


@pytest.fixture
def damaged(potsdam, area, tmp_path):
    """A download whose label 4_12 has some pixels of other colours."""

    def make(count: int) -> Path:
        source = tmp_path / f'{count}'
        with zipfile.ZipFile(potsdam / '2_Ortho_RGB.zip') as archive:
            archive.extractall(source)
        with zipfile.ZipFile(potsdam / '5_Labels.zip') as archive:
            archive.extractall(source)
        colours = area[2].copy()
        colours[2, 5 : 5 + count] = 100, 50, 25
        write_tiff(source / 'top_potsdam_4_12_label_noBoundary.tif', colours)
        return source

    return make


def test_few_pixels_of_other_colours_are_unlabelled_and_told(damaged, area, tmp_path):
    # Of 20 x 28 pixels, 1 % are 5.6.
    destination = tmp_path / 'potsdam'
    summary = prepare(PotsdamPreparation(), damaged(5), destination)
    assert '24 tiles in train' in summary
    assert '4_12_label_noBoundary.tif: 5 pixels of other colours, the first' in summary
    assert '(100, 50, 25) at row 2, column 5' in summary
    label = destination / 'ann_dir/train/4_12_0_0_28_20.png'
    expected = area[1].copy()
    expected[2, 5:10] = 0
    written = cv2.imread(str(label), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(written, expected)
    # Told again of a folder that is complete.
    assert '5 pixels' in prepare(PotsdamPreparation(), tmp_path, destination)


def test_an_area_of_many_other_colours_is_refused_or_left_out(damaged, tmp_path):
    source = damaged(6)
    with pytest.raises(PreparationError, match=r'4_12_label.*1\.07 % .*--leave-out'):
        prepare(PotsdamPreparation(), source, tmp_path / 'a')
    summary = prepare(PotsdamPreparation(leave_out=('4_12',)), source, tmp_path / 'b')
    assert '23 tiles in train, 14 tiles in val' in summary
    assert not list((tmp_path / 'b').rglob('4_12*'))
    with pytest.raises(PreparationError, match='--leave-out 9_9: no such area'):
        prepare(PotsdamPreparation(leave_out=('9_9',)), source, tmp_path / 'c')


def test_an_overlap_as_large_as_the_tile_is_refused():
    with pytest.raises(ValueError, match='less than the tile size'):
        VaihingenPreparation(tile_size=64, overlap=64)
