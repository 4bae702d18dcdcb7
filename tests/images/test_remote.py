# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Scenes that lie elsewhere are named and read like those of this machine."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader

from cmid_mm.datasets import ImageryDataset
from cmid_mm.datasets.scenes import find_scenes
from cmid_mm.datasets.transforms import LoadImagery
from cmid_mm.datasets.transforms.bitemporal import LoadImagePair
from cmid_mm.images import (
    ImageFile,
    Reading,
    UnreadableImageError,
    find_pairs,
    load_image,
    named_images,
    read_header,
    read_values,
)
from cmid_mm.images.image_file import held_open
from cmid_mm.images.names import beside, gdal_name, image_path, is_local, is_network
from cmid_mm.inference.images import InputImage, InputPair, output_names

from .range_server import serve
from .scenes import write_band

SIDE = 96


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Tiled scenes, larger than what GDAL reads as their beginning."""
    folder = tmp_path_factory.mktemp('served')
    for i in range(12):
        values = np.random.default_rng(i).integers(1, 255, (3, SIDE, SIDE), np.uint8)
        write_band(
            folder / f'{i}.tif',
            values,
            corner=(5e5 + 10 * SIDE * (i % 2), 5e6),
            tiled=True,
            blockxsize=32,
            blockysize=32,
        )
    Image.fromarray(values.transpose(1, 2, 0)).save(folder / 'photo.png')
    (folder / 'broken.tif').write_bytes(b'II*\0' + bytes(99))
    return folder


@pytest.fixture(scope='module')
def server(folder):
    with serve(folder) as server:
        yield server


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setenv('GDAL_HTTP_RETRY_DELAY', '0.01')


# -- Names -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('name', 'local', 'network', 'gdal'),
    [
        ('a/b.tif', True, False, 'a/b.tif'),
        ('/a/b.tif', True, False, '/a/b.tif'),
        ('x:y/b.tif', True, False, 'x:y/b.tif'),
        ('https://h/b.tif?k=1', False, True, '/vsicurl/https://h/b.tif?k=1'),
        ('http://h:80/b.tif', False, True, '/vsicurl/http://h:80/b.tif'),
        ('s3://bucket/b.tif', False, True, '/vsis3/bucket/b.tif'),
        ('gs://bucket/b.tif', False, True, '/vsigs/bucket/b.tif'),
        ('/vsicurl/https://h/b.tif', False, True, '/vsicurl/https://h/b.tif'),
        ('/vsizip//vsis3/x/a.zip/b.tif', False, True, '/vsizip//vsis3/x/a.zip/b.tif'),
        ('/vsizip//x/a.zip/b.tif', False, False, '/vsizip//x/a.zip/b.tif'),
        ('zip+https://h/a.zip!b.tif', False, True, 'zip+https://h/a.zip!b.tif'),
    ],
)
def test_names(name, local, network, gdal):
    assert is_local(name) == local and is_network(name) == network
    path = image_path(name)
    assert str(path) == name and f'{path}' == name
    assert path.stem == 'b' or '!' in name
    assert gdal_name(path) == gdal
    assert beside('root', name) == (
        name if name[0] == '/' or not local else f'root/{name}'
    )


def test_an_address_outlives_paths():
    address = 'https://host/folder/b.tif'
    for path in (Path(address), Path(image_path(address))):
        assert is_network(path) and not is_local(path)
        assert gdal_name(path) == f'/vsicurl/{address}'
        assert str(image_path(path)) == address
    assert str(image_path(address).parent) == 'https://host/folder'
    assert image_path(address) == image_path(address)


def test_on_the_command_line(tmp_path):
    names = ['https://host/a/1.tif', '/vsizip//x/a.zip/2.tif', 's3://b/[3].tif']
    found = named_images(names)
    assert [str(path) for path in found] == names
    assert [str(path) for path in find_pairs(names[:2])[0]] == names[:2]
    assert output_names(found[:1], tmp_path) == ['1']


# -- Reading -----------------------------------------------------------------------


def test_a_remote_scene_is_an_image(server, folder):
    address = f'{server.address}/0.tif'
    assert read_header(address).shape == (SIDE, SIDE)
    window = (20, 30, 40, 50)
    expected = read_values(folder / '0.tif', window=window).values
    np.testing.assert_array_equal(read_values(address, window=window).values, expected)
    for name in (f'/vsicurl/{address}', Path(address)):
        np.testing.assert_array_equal(load_image(name, window=window), expected)
    with ImageFile(address) as image:
        assert image.place == ImageFile(folder / '0.tif').place
        assert str(image.path) == address
    np.testing.assert_array_equal(
        load_image(f'{server.address}/photo.png'), load_image(folder / 'photo.png')
    )


def test_only_the_window_is_fetched(server, folder):
    window = (0, 0, 10, 10)
    first = read_values(f'{server.address}/1.tif', window=window)
    assert first.values.shape == (10, 10, 3)
    server.requests()
    read_values(f'{server.address}/1.tif', window=window)
    assert '/1.tif' not in server.requests()  # held open, and cached


def test_a_scene_in_an_archive(tmp_path, folder):
    with zipfile.ZipFile(tmp_path / 'all.zip', 'w') as archive:
        archive.write(folder / '0.tif', 'inner/0.tif')
    name = f'/vsizip/{tmp_path}/all.zip/inner/0.tif'
    (found,) = named_images([name])
    np.testing.assert_array_equal(load_image(found), load_image(folder / '0.tif'))


def test_parts_of_a_list_lie_elsewhere(server, folder, tmp_path):
    path = tmp_path / 'two.mosaic'
    path.write_text(f'{server.address}/2.tif\n{folder}/3.tif\n')
    expected = np.concatenate(
        [load_image(folder / '2.tif'), load_image(folder / '3.tif')], axis=1
    )
    server.fail('2.tif', ['close'])
    np.testing.assert_array_equal(load_image(path), expected)


# -- Faults ------------------------------------------------------------------------


@pytest.mark.parametrize('ways', [['close'], ['503', 'close'], ['', 'cut', '500']])
def test_a_dropped_connection_is_tried_again(server, folder, ways):
    server.fail('4.tif', ways)
    # Named as new at each time, since GDAL would know the file.
    address = f'{server.address}/4.tif'
    with ImageFile(address) as image:
        server.fail('4.tif', ways)
        pixels = image.read(Reading(), (50, 50, 40, 40)).values
    expected = load_image(folder / '4.tif', window=(50, 50, 40, 40))
    np.testing.assert_array_equal(pixels, expected)


def test_a_scene_that_stays_away_is_named(server, monkeypatch):
    address = f'{server.address}/absent.tif'
    server.requests()
    with pytest.raises(UnreadableImageError, match=rf'^{address}: HTTP.* 404$'):
        ImageFile(address)
    # What a server does not have, it will not have a moment later.
    assert server.requests().count('/absent.tif') <= 2
    monkeypatch.setenv('GDAL_HTTP_MAX_RETRY', '1')
    away = 'http://127.0.0.1:9/5.tif'
    with pytest.raises(UnreadableImageError, match=f'^{away}: '):
        ImageFile(away)


def test_a_list_names_the_part_that_stays_away(server, tmp_path):
    path = tmp_path / 'x.bands'
    path.write_text(f'{server.address}/0.tif\n{server.address}/absent.tif')
    with pytest.raises(UnreadableImageError, match=r'x\.bands: http.*/absent\.tif: H'):
        ImageFile(path)


def test_a_network_that_is_there_again(folder, tmp_path, monkeypatch):
    """Neither a held-open image nor GDAL takes it for broken for ever."""
    monkeypatch.setenv('GDAL_HTTP_MAX_RETRY', '1')
    window = (50, 50, 40, 40)
    with serve(folder) as server:
        address = f'{server.address}/6.tif'
        path = tmp_path / 'x.mosaic'
        path.write_text(f'{address}\n{folder}/7.tif')
        for name in (address, path):
            read_values(name, window=(0, 0, 10, 10))
    for name in (address, path):
        with pytest.raises(UnreadableImageError):
            read_values(name, window=window)
        with pytest.raises(UnreadableImageError):
            held_open(name)
    with serve(folder, int(address.split(':')[2].split('/')[0])):
        expected = load_image(folder / '6.tif', window=window)
        for name in (address, path):
            np.testing.assert_array_equal(
                read_values(name, window=window).values, expected
            )


# -- Prediction and pre-training ---------------------------------------------------


def test_prediction_takes_it(server, folder):
    address = f'{server.address}/0.tif'
    image = InputImage(named_images([address])[0], LoadImagery())
    assert str(image.path) == address
    window = (40, 50, 30, 20)
    pixels, _ = image.read(window)
    np.testing.assert_array_equal(pixels, load_image(folder / '0.tif', window=window))
    pair = InputPair([address, folder / '0.tif'], LoadImagePair())
    assert pair.read(window)[0].shape == (30, 20, 6)


def test_scene_classes_from_a_list(server, tmp_path):
    (tmp_path / 'list.txt').write_text(f'{server.address}/0.tif 3\n')
    assert find_scenes(tmp_path, 'list.txt') == [
        (image_path(f'{server.address}/0.tif'), '3')
    ]


def dataset(tmp_path, names, **options):
    (tmp_path / 'list.txt').write_text('\n'.join(names))
    return ImageryDataset(
        str(tmp_path),
        'list.txt',
        pipeline=[dict(type='LoadImagery')],
        tile_size=32,
        **options,
    )


def test_pre_training_with_workers(server, folder, tmp_path):
    names = [f'{server.address}/{i}.tif' for i in range(8, 12)]
    samples = dataset(tmp_path, names)
    assert len(samples) == 36
    loaded = list(DataLoader(samples, batch_size=None, num_workers=2))
    for index, sample in enumerate(loaded):
        scene, tile = divmod(index, 9)
        top, left = 32 * (tile // 3), 32 * (tile % 3)
        expected = load_image(folder / f'{8 + scene}.tif', window=(top, left, 32, 32))
        np.testing.assert_array_equal(sample['img'], expected)
    assert samples.unreadable_count == 0


def test_pre_training_skips_a_scene_that_stays_away(server, tmp_path):
    names = [f'{server.address}/{name}.tif' for name in ('absent', 8, 9)]
    samples = dataset(tmp_path, names)
    assert samples[0]['img'].shape == (32, 32, 3)
    assert samples.unreadable_paths() == names[:1]
