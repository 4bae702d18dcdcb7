# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Prediction of images as they come: half empty, narrow, elsewhere, broken."""

import json

import cv2
import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.crs import CRS
from rasterio.transform import from_origin

from cmid_mm.demo_scenes import make_scene
from cmid_mm.inference import Inferencer
from tests.images.miniatures import write_raster
from tests.images.range_server import serve
from tests.images.scenes import sentinel2

from .trained_tasks import dump, files

MARS = CRS.from_wkt(
    'GEOGCS["Mars 2000",DATUM["D_Mars_2000",SPHEROID["Mars_2000_IAU_IAG",'
    '3396190,169.894447223612]],PRIMEM["Reference_Meridian",0],'
    'UNIT["Degree",0.0174532925199433]]'
)


@pytest.fixture
def scene():
    """RGB uint8 (160, 160, 3) without black pixels."""
    return make_scene(5, 3, 160).image.clip(1)


def mask_of(path):
    with rasterio.open(path) as source:
        return source.read(1)


@pytest.mark.parametrize('window', [0, 64])
def test_result_is_missing_where_the_raster_is(trained, scene, tmp_path, window):
    cfg, checkpoint = trained('segmentation')
    inferencer = Inferencer(cfg, checkpoint)
    whole = write_raster(tmp_path / 'whole.tif', scene)
    holey = scene.copy()
    # A corner of whole windows, and a stripe within windows.
    holey[:100, :100] = 0
    holey[:, 120:123] = 0
    path = write_raster(tmp_path / 'holey.tif', holey, nodata=0)
    (result,) = inferencer([path], window=window, overlap=16 if window else None)
    missing = (holey == 0).all(axis=2)
    np.testing.assert_array_equal(result.mask == 255, missing)
    (full,) = inferencer([whole], window=window, overlap=16 if window else None)
    assert (full.mask != 255).all()
    inferencer.task.save(result, tmp_path / 'out', 'a')
    np.testing.assert_array_equal(mask_of(tmp_path / 'out' / 'a.tif'), result.mask)
    with rasterio.open(tmp_path / 'out' / 'a.tif') as source:
        np.testing.assert_array_equal(source.dataset_mask() == 0, missing)


def test_result_at_the_distance_of_the_config(trained, scene, tmp_path):
    """Predicted on a coarser grid, masked, and saved with that grid's place."""
    cfg, checkpoint = trained('segmentation')
    place = dict(crs='EPSG:32650', transform=from_origin(5e5, 3e6, 0.5, 0.5))
    path = write_raster(tmp_path / 'a.tif', scene.repeat(2, 0).repeat(2, 1), **place)
    clouds = np.zeros((160, 160, 1), np.uint8)
    clouds[:40, :60] = 9
    coarse = dict(crs='EPSG:32650', transform=from_origin(5e5, 3e6, 1, 1))
    write_raster(tmp_path / 'a_SCL.tif', clouds, **coarse)
    cfg.test_dataloader.dataset.pipeline[0] = dict(
        type='LoadImagery', gsd=1, quality=dict(file='{stem}_SCL.tif', values=[9])
    )
    inferencer = Inferencer(cfg, checkpoint)
    (result,) = inferencer([path], window=64, overlap=32)
    np.testing.assert_array_equal(result.mask == 255, clouds[..., 0] == 9)
    inferencer.task.save(result, tmp_path / 'out', 'a')
    with rasterio.open(tmp_path / 'out' / 'a.tif') as source:
        assert source.transform == coarse['transform'] and source.shape == (160, 160)
    # What the mask does not touch is as of the same pixels in a file of that distance.
    same = write_raster(tmp_path / 'b.tif', scene, **coarse)
    write_raster(tmp_path / 'b_SCL.tif', clouds, **coarse)
    (other,) = inferencer([same], window=64, overlap=32)
    np.testing.assert_array_equal(result.mask, other.mask)


def test_window_with_an_empty_band_is_missing(trained, scene, tmp_path):
    cfg, checkpoint = trained('segmentation')
    holey = scene.astype(np.int16)
    holey[:, 96:, 1] = -9999
    path = write_raster(tmp_path / 'a.tif', holey, nodata=-9999)
    cfg = cfg.copy()
    cfg.test_dataloader.dataset.pipeline[0].value_range = (0, 255)
    (result,) = Inferencer(cfg, checkpoint)([path], window=64, overlap=32)
    # The last window, from column 96, cannot be predicted; the one before ends at 128.
    assert (result.mask[:, 128:] == 255).all() and (result.mask[:, :128] != 255).all()


def test_an_empty_raster_is_named_and_the_rest_predicted(run, trained, scene, tmp_path):
    cfg, checkpoint = trained('segmentation')
    config, out = dump(cfg, tmp_path / 'config.py'), tmp_path / 'out'
    data = tmp_path / 'data'
    data.mkdir()
    write_raster(data / 'a.tif', np.zeros((160, 160, 3), np.uint8), nodata=0)
    write_raster(data / 'b.tif', scene)
    error = run('predict.py', config, checkpoint, data, '--out', out, '--window', 64)
    assert '1 of 2 images could not be predicted' in error
    assert 'a.tif: no window holds data' in error
    assert files(out) == {'b.tif', 'b.tif.aux.xml', 'b_overlay.jpg'}


def test_scenes_of_several_files_and_scenes_elsewhere(run, trained, tmp_path):
    cfg, checkpoint = trained('segmentation')
    cfg = cfg.copy()
    loader = cfg.test_dataloader.dataset.pipeline[0]
    loader.update(bands=[4, 3, 2], value_range=(0, 3000))
    config, out = dump(cfg, tmp_path / 'config.py'), tmp_path / 'out'
    data = tmp_path / 'data'
    safe = sentinel2(data)
    with serve(data) as server:
        (data / 'four.bands').write_text(
            '\n'.join(
                f'{server.address}/{path.relative_to(data)}'
                for band in (1, 2, 3, 4)
                for path in safe.rglob(f'*_B0{band}.jp2')
            )
        )
        (data / 'absent.bands').write_text(f'{server.address}/absent.tif')
        error = run('predict.py', config, checkpoint, data, '--out', out)
    assert '1 of 3 images could not be predicted' in error
    assert f'absent.bands: {server.address}/absent.tif: HTTP' in error
    assert mask_of(out / f'{safe.stem}.tif').shape == (48, 48)
    with rasterio.open(out / 'four.tif') as source:
        assert source.crs == 'EPSG:32632'
        assert source.transform.to_gdal() == (5e5, 10, 0, 5e6, 0, -10)


@pytest.mark.parametrize('shape', [(3, 1500), (1500, 3), (1, 1), (1, 5000)])
def test_narrow_images(run, trained, tmp_path, shape):
    cfg, checkpoint = trained('segmentation')
    config, out = dump(cfg, tmp_path / 'config.py'), tmp_path / 'out'
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'narrow.png')
    assert (
        run('predict.py', config, checkpoint, tmp_path / 'narrow.png', '--out', out)
        is None
    )
    assert np.asarray(Image.open(out / 'narrow.png')).shape == shape
    assert max(cv2.imread(str(out / 'narrow_overlay.jpg')).shape) <= 65_000


def test_an_error_is_booked_on_its_image(trained, scene, tmp_path, monkeypatch):
    """In a batch, and while waiting for it, only the guilty image is lost."""
    cfg, checkpoint = trained('segmentation')
    inferencer = Inferencer(cfg, checkpoint)
    paths = []
    for number in range(4):
        paths.append(tmp_path / f'{number}.png')
        Image.fromarray(scene[:96, :96] // (number + 1)).save(paths[-1])
    paths[1].write_bytes(paths[1].read_bytes()[:900])
    forward = inferencer.task.forward

    def failing(samples):
        if any('2.png' in sample['data_samples'].img_path for sample in samples):
            raise RuntimeError('no kernel for this')
        return forward(samples)

    monkeypatch.setattr(inferencer.task, 'forward', failing)
    booked = {}
    results = inferencer.iterate(
        paths, batch_size=4, on_error=lambda path, error: booked.update({path: error})
    )
    assert [result.image.path for result in results] == [paths[0], paths[3]]
    assert sorted(booked) == paths[1:3]
    assert 'truncated' in str(booked[paths[1]]) and 'kernel' in str(booked[paths[2]])


def test_an_error_while_saving_is_booked_too(run, trained, scene, tmp_path):
    cfg, checkpoint = trained('segmentation')
    config, out = dump(cfg, tmp_path / 'config.py'), tmp_path / 'out'
    for name in 'ab':
        Image.fromarray(scene[:96, :96]).save(tmp_path / f'{name}.png')
    (out / 'a.png').mkdir(parents=True)  # where the mask should go
    images = (tmp_path / 'a.png', tmp_path / 'b.png')
    error = run('predict.py', config, checkpoint, *images, '--out', out)
    assert '1 of 2 images could not be predicted' in error and 'a.png' in error
    assert {'b.png', 'b_overlay.jpg'} <= files(out)
    assert not [name for name in files(out) if name.endswith('.part')]


@pytest.mark.parametrize(
    ('place', 'named'),
    [
        (dict(crs=MARS, transform=from_origin(10, 20, 0.01, 0.01)), 'Mars'),
        (dict(crs=None, transform=from_origin(10, 20, 2, 2)), None),
    ],
    ids=['Mars', 'no system'],
)
def test_boxes_in_systems_of_their_own(run, trained, scene, tmp_path, place, named):
    cfg, checkpoint = trained('detection')
    config, out = dump(cfg, tmp_path / 'config.py'), tmp_path / 'out'
    write_raster(tmp_path / 'a.tif', scene[:96, :96], **place)
    write_raster(tmp_path / 'b.tif', scene[:96, :96])
    images = (tmp_path / 'a.tif', tmp_path / 'b.tif')
    options = ('--out', out, '--score-thr', 0.001)
    assert run('predict.py', config, checkpoint, *images, *options) is None
    content = json.loads((out / 'a.geojson').read_text())
    assert content['features']
    for feature in content['features']:
        for x, y in feature['geometry']['coordinates'][0]:
            assert 5 < x < 250 and -200 < y < 25
    assert (named is None) == ('crs' not in content)
    if named is not None:
        assert named in content['crs']['properties']['name']
    assert json.loads((out / 'b.geojson').read_text())['features']


def test_changes_are_missing_where_either_date_is(trained, scene, tmp_path):
    cfg, checkpoint = trained('change')
    dates = [scene.copy(), scene.copy()]
    dates[0][:10] = 0
    dates[1][:, :20] = 0
    paths = [
        write_raster(tmp_path / f'{i}.tif', date, nodata=0)
        for i, date in enumerate(dates)
    ]
    inferencer = Inferencer(cfg, checkpoint)
    for window in (0, 64):
        (result,) = inferencer([tuple(paths)], window=window)
        missing = (dates[0] == 0).all(axis=2) | (dates[1] == 0).all(axis=2)
        np.testing.assert_array_equal(result.mask == 255, missing)
    inferencer.task.save(result, tmp_path / 'out', 'a')
    with rasterio.open(tmp_path / 'out' / 'a.tif') as source:
        assert set(np.unique(source.read(1))) <= {0, 127, 255}
        np.testing.assert_array_equal(source.dataset_mask() == 0, missing)


def test_dates_of_other_places(run, trained, scene, tmp_path):
    cfg, checkpoint = trained('change')
    config, out = dump(cfg, tmp_path / 'config.py'), tmp_path / 'out'
    first = write_raster(tmp_path / 'a.tif', scene)
    place = dict(transform=from_origin(5e5 + 20, 3e6, 2, 2))
    second = write_raster(tmp_path / 'b.tif', scene, **place)
    command = ('predict.py', config, checkpoint, first, second, '--out', out)
    error = run(*command)
    assert 'b.tif does not lie where' in error and '--align' in error
    assert run(*command, '--align') is None
    # The second date begins ten pixels further east.
    assert (mask_of(out / 'a.tif')[:, :10] == 127).all()
    assert (mask_of(out / 'a.tif')[:, 11:] != 127).all()
