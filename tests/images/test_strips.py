# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import ctypes
import gc
import json

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.transform import Affine, from_origin

from cmid_mm.images import Place
from cmid_mm.images.strips import (
    Content,
    StripWriter,
    UnwrittenRasterError,
    join_strips,
    reduced_values,
    write_raster,
)
from tests.full_disk import full_disk

PLACE = Place(CRS.from_epsg(32650), from_origin(500000, 3000000, 0.5, 0.5))
CLASSES = Content(
    nodata=255,
    palette=[(1, 2, 3), (40, 50, 60), (200, 0, 0)],
    classes=['bare soil', 'Gebäude & Höfe', 'water'],
)


def blocks(height=600, width=1100):
    """Classes in squares of 10 pixels, larger than what overviews average."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 3, (height // 10, width // 10), np.uint8)
    return small.repeat(10, axis=0).repeat(10, axis=1)


def test_classes_are_a_cloud_optimised_geotiff(tmp_path):
    mask = blocks()
    mask[:40] = 255
    path = tmp_path / 'new' / 'a.tif'
    write_raster(path, mask, CLASSES, PLACE)
    with rasterio.open(path) as source:
        assert (source.read(1) == mask).all()
        assert (source.crs, source.transform) == (PLACE.crs, PLACE.transform)
        assert source.nodata == 255
        assert source.colormap(1)[1] == (40, 50, 60, 255)
        assert source.tags(ns='IMAGE_STRUCTURE')['LAYOUT'] == 'COG'
        assert source.profile['tiled'] and source.block_shapes == [(512, 512)]
        assert source.overviews(1) == [2, 4]
        assert json.loads(source.tags(1)['CLASSES']) == CLASSES.classes
    with rasterio.open(path, overview_level=0) as half:
        # By the most frequent class: never a class that is not there.
        assert (half.read(1) == mask[::2, ::2]).all()
    side = (tmp_path / 'new' / 'a.tif.aux.xml').read_text()
    assert '<Category>Gebäude &amp; Höfe</Category>' in side
    # GDAL 3.12 has the table in the TIFF, those before beside it.
    table = side.encode() + path.read_bytes()
    assert b'<F>2</F>' in table and b'<F>water</F>' in table
    assert len(list((tmp_path / 'new').iterdir())) == 2
    assert reduced_values(path, 275).shape == (150, 275)
    assert set(np.unique(reduced_values(path, 275))) <= {0, 1, 2, 255}


@pytest.mark.parametrize('suffix', ['.tif', '.png'])
def test_strips_become_one_raster(tmp_path, suffix):
    mask = blocks()
    content = CLASSES if suffix == '.tif' else Content()
    strips = {}
    for top, bottom in ((0, 190), (400, 600)):
        strips[top] = tmp_path / f'strip{top}'
        with StripWriter(strips[top], bottom - top, 1100, content) as writer:
            for left, right in ((700, 1100), (0, 700)):
                writer.write(mask[top:bottom, left:right], 0, left)
    path = tmp_path / f'a{suffix}'
    join_strips(strips, path, mask.shape, content, None)
    with rasterio.open(path) as source:
        values = source.read(1)
        assert source.transform.is_identity
    mask[190:400] = 255 if suffix == '.tif' else 0
    assert (values == mask).all()
    assert (tmp_path / f'a{suffix}.aux.xml').exists() == (suffix == '.tif')


def test_measures_have_a_scale_and_names(tmp_path):
    values = np.random.default_rng(0).integers(0, 65535, (2, 30, 40), np.uint16)
    names, nodata = ('road', 'house'), 65535
    content = Content('uint16', names, nodata, 1 / 65534, overviews='average')
    write_raster(tmp_path / 'a.tif', values, content, PLACE)
    with rasterio.open(tmp_path / 'a.tif') as source:
        assert (source.read() == values).all()
        assert source.descriptions == ('road', 'house')
        assert source.scales == (1 / 65534, 1 / 65534)
        assert source.nodata == 65535
    assert [file.name for file in tmp_path.iterdir()] == ['a.tif']


@pytest.mark.parametrize(
    'place',
    [
        Place(CRS.from_epsg(4326), Affine(1e-5, 2e-6, 12.3456789012345, 0, -1e-5, 50)),
        Place(None, from_origin(3, 4, 0.1, 0.1)),
        Place(
            CRS.from_epsg(4326),
            None,
            tuple(
                GroundControlPoint(
                    row, column, 10 + column / 7, 50 - row / 9, id=str(i)
                )
                for i, (row, column) in enumerate(
                    [(0, 0), (0, 40), (30, 0), (29, 38.5)]
                )
            ),
        ),
    ],
)
def test_places_of_all_kinds(tmp_path, place):
    write_raster(tmp_path / 'a.tif', blocks(30, 40), CLASSES, place)
    with rasterio.open(tmp_path / 'a.tif') as source:
        if place.transform is not None:
            assert (source.crs, source.transform) == (place.crs, place.transform)
        else:
            points, crs = source.gcps
            assert crs == place.crs
            assert [(p.row, p.col, p.x, p.y) for p in points] == [
                (p.row, p.col, p.x, p.y) for p in place.gcps
            ]


class _Heap(ctypes.Structure):
    """What glibc's mallinfo2 returns."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in 'arena ordblks smblks hblks hblkhd usmblks fsmblks used'.split()
    ] + [('_rest', ctypes.c_size_t * 2)]


@pytest.mark.parametrize('suffix', ['.png', '.tif'])
def test_nothing_is_kept_of_each_raster(tmp_path, suffix):
    heap = getattr(ctypes.CDLL(None), 'mallinfo2', None)
    if heap is None:
        pytest.skip('glibc 2.33 tells how much memory is in use')
    heap.restype = _Heap
    mask = np.zeros((16, 16), np.uint8)
    used = []
    for number in range(150):
        if number % 50 == 0:
            gc.collect()
            used.append(heap().used)
        write_raster(tmp_path / f'{"a" * 60}{number:04d}{suffix}', mask, CLASSES, PLACE)
    gc.collect()
    used.append(heap().used)
    # Mostly 30 to 70 bytes; names that GDAL keeps of each take above 200.
    assert (used[3] - used[1]) / 100 < 120


def test_failure_leaves_nothing_behind(tmp_path):
    with pytest.raises(ValueError):
        write_raster(
            tmp_path / 'a.tif', np.zeros((2, 2, 2), np.uint8), Content(), PLACE
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('room', [1000, 300_000, 600_000, 880_000])
@pytest.mark.parametrize('name', ['a.tif', 'a.png'])
def test_full_disk(tmp_path, room, name):
    noise = np.random.default_rng(0).integers(0, 250, (1000, 900), np.uint8)
    message = f'{tmp_path}.*: cannot be written: .* MB free; make room'
    with full_disk(room), pytest.raises(UnwrittenRasterError, match=message):
        write_raster(tmp_path / name, noise, Content(), None)
    assert not list(tmp_path.iterdir())
