# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import cv2
import numpy as np
import pytest
import rasterio
from mmcv.transforms import LoadImageFromFile
from rasterio.transform import from_origin

from cmid_mm.datasets.transforms.bitemporal import LoadImagePair
from cmid_mm.datasets.transforms.loading import LoadImagery
from cmid_mm.images import (
    BandMismatchError,
    UnreadableImageError,
    find_pairs,
    named_images,
)
from cmid_mm.inference.images import InputImage, InputPair, output_names

from .tiny_segmentation import change_detection, segmentation


def noise(height=40, width=60, bands=3):
    return np.random.randint(0, 256, (height, width, bands), np.uint8)


def write_raster(path, pixels, crs='EPSG:32650', **options):
    height, width, bands = pixels.shape
    place = dict(crs=crs, transform=from_origin(5e5, 3e6, 0.5, 0.5)) if crs else {}
    with rasterio.open(
        path,
        'w',
        driver='GTiff',
        height=height,
        width=width,
        count=bands,
        dtype=pixels.dtype,
        **place,
        **options,
    ) as target:
        target.write(pixels.transpose(2, 0, 1))
    return path


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels[..., ::-1])
    return path


@pytest.mark.parametrize('name', ['a.png', 'a.jpg', 'a.tif'])
@pytest.mark.parametrize('loader', [LoadImageFromFile(), LoadImagery()])
def test_windows_are_parts_of_what_the_pipeline_loads(tmp_path, name, loader):
    pixels = noise()
    if name == 'a.tif':
        path = write_raster(tmp_path / name, pixels)
    else:
        path = write(tmp_path / name, pixels)
    image = InputImage(path, loader)
    whole = loader({'img_path': str(path)})['img']
    assert (image.height, image.width) == (40, 60)
    assert (image.read()[0] == whole).all()
    assert (image.read((8, 16, 24, 32))[0] == whole[8:32, 16:48]).all()
    if name != 'a.jpg':
        blue_first = isinstance(loader, LoadImageFromFile)
        assert (whole[..., ::-1] if blue_first else whole).tobytes() == pixels.tobytes()
        assert (image.preview(100) == pixels).all()
    # As many pixels as a square one of that side.
    assert image.preview(30).shape == (25, 37, 3)


def test_bands_and_16_bits_as_the_config_says(tmp_path):
    pixels = np.random.randint(0, 4000, (40, 60, 8)).astype(np.uint16)
    path = write_raster(tmp_path / 'a.tif', pixels)
    loader = LoadImagery(bands=[5, 3, 2, 8], value_range=(0, 2000))
    image = InputImage(path, loader)
    expected = np.clip(pixels[8:32, 16:48][..., [4, 2, 1, 7]] * (255 / 2000), 0, 255)
    np.testing.assert_allclose(image.read((8, 16, 24, 32))[0], expected, atol=1e-3)
    assert image.preview(30).shape == (25, 37, 4)


def test_georeference(tmp_path):
    image = InputImage(write_raster(tmp_path / 'a.tif', noise()), LoadImagery())
    assert image.place.crs.to_epsg() == 32650
    assert image.place.transform.a == 0.5
    plain = write_raster(tmp_path / 'b.tif', noise(), crs=None)
    assert InputImage(plain, LoadImagery()).place is None


def test_missing_pixels(tmp_path):
    pixels = noise().clip(1)
    full = InputImage(write_raster(tmp_path / 'a.tif', pixels), LoadImagery())
    assert full.read()[1] is None
    pixels[:5] = 0
    path = write_raster(tmp_path / 'b.tif', pixels, nodata=0)
    for loader in (LoadImageFromFile(), LoadImagery()):
        _, missing = InputImage(path, loader).read()
        assert missing[:5].all() and not missing[5:].any()


def test_wrong_number_of_bands(tmp_path):
    path = write_raster(tmp_path / 'a.tif', noise(bands=8))
    for loader in (LoadImageFromFile(), LoadImagery()):
        with pytest.raises(BandMismatchError, match='found 8 bands, expected 3'):
            InputImage(path, loader).read()


@pytest.mark.parametrize('loader', [LoadImageFromFile(), LoadImagery()])
@pytest.mark.parametrize('name', ['a.png', 'a.jpg', 'a.tif'])
def test_broken_files(tmp_path, loader, name):
    with pytest.raises(UnreadableImageError, match='No such file'):
        InputImage(tmp_path / name, loader)
    path = tmp_path / name
    if name == 'a.tif':
        write_raster(path, noise())
    else:
        write(path, noise())
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(UnreadableImageError, match=name):
        InputImage(path, loader).read()


def test_pair(tmp_path):
    first, second = noise(), noise()
    paths = write(tmp_path / 'a.png', first), write(tmp_path / 'b.png', second)
    loader = LoadImagePair()
    pair = InputPair(paths, loader)
    data = loader({'img_path': str(paths[0]), 'img_path2': str(paths[1])})
    assert (pair.read()[0] == data['img']).all()
    assert (pair.read((8, 16, 24, 32))[0] == data['img'][8:32, 16:48]).all()
    small = write(tmp_path / 'c.png', noise(30))
    with pytest.raises(
        ValueError, match='c.png is 60 x 30 pixels, but .*a.png is 60 x 40'
    ):
        InputPair((paths[0], small), loader)


def test_named_images(tmp_path):
    for name in ('b/2.png', 'b/1.jpg', 'b/c/3.tif', 'b/notes.txt', 'b/._1.jpg'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    names = [str(path.relative_to(tmp_path)) for path in named_images([tmp_path / 'b'])]
    assert names == ['b/1.jpg', 'b/2.png', 'b/c/3.tif']
    assert named_images([tmp_path / 'b' / '*.png']) == [tmp_path / 'b' / '2.png']
    assert len(named_images([tmp_path / 'b', tmp_path / 'b' / '2.png'])) == 3
    with pytest.raises(FileNotFoundError, match='no file matches'):
        named_images([tmp_path / '*.tif'])
    (tmp_path / 'empty').mkdir()
    with pytest.raises(FileNotFoundError, match='holds no image'):
        named_images([tmp_path / 'empty'])


def test_one_folder_without_two_dates_is_told(tmp_path):
    (tmp_path / 'A').mkdir()
    message = f'one folder with A and B in it; got {tmp_path}'
    with pytest.raises(ValueError, match=message):
        find_pairs([tmp_path])


def test_find_pairs(tmp_path):
    for name in ('A/2.png', 'A/1.png', 'B/1.jpg', 'B/2.png'):
        write(tmp_path / name, noise(4, 4))
    a, b = tmp_path / 'A', tmp_path / 'B'
    expected = [(a / '1.png', b / '1.jpg'), (a / '2.png', b / '2.png')]
    assert find_pairs([tmp_path]) == find_pairs([a, b]) == expected
    assert find_pairs(expected[1]) == [expected[1]]
    with pytest.raises(ValueError, match='two images, two folders'):
        find_pairs([a / '1.png'])
    with pytest.raises(FileNotFoundError, match='3.png does not exist'):
        find_pairs([a / '1.png', a / '3.png'])
    write(a / '3.png', noise(4, 4))
    with pytest.raises(FileNotFoundError, match='3 is in .*A but not in .*B'):
        find_pairs([a, b])


def test_output_names(tmp_path):
    paths = [tmp_path / name for name in ('x/a.png', 'x/y/a.png', 'x/b.tif')]
    assert output_names(paths, tmp_path / 'out') == ['a', 'y/a', 'b']
    with pytest.raises(ValueError, match='same output name'):
        output_names([tmp_path / 'a.png', tmp_path / 'a.tif'], tmp_path / 'out')


def test_results_never_replace_what_is_read(tmp_path):
    first, second = tmp_path / 'A' / 'a.tif', tmp_path / 'B' / 'a.tif'
    for folder, image in (('A', first), ('B', second)):
        message = rf'results in .*{folder} could replace {image}'
        with pytest.raises(ValueError, match=message):
            output_names([first], tmp_path / folder, [second])
    (tmp_path / 'file').touch()
    with pytest.raises(NotADirectoryError, match='file is a file'):
        output_names([first], tmp_path / 'file')


@pytest.mark.parametrize('task', [segmentation, change_detection])
def test_masks_beside_images_are_not_predicted(tmp_path, task):
    for name in ('A/1.tif', 'A/1_SCL.tif', 'B/1.tif', 'B/1_SCL.tif'):
        write(tmp_path / name, noise())
    predictor = task()
    scene = tmp_path / 'A' / '1.tif'
    names, expected = [tmp_path / 'A'], [scene]
    if task is change_detection:
        names, expected = [tmp_path], [(scene, tmp_path / 'B' / '1.tif')]
    assert len(predictor.find(names)) == 2
    quality = dict(file='{stem}_SCL.tif', values=[3])
    predictor.loader = type(predictor.loader)(quality=quality)
    assert predictor.find(names) == expected
