# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.transform import from_origin

from cmid_mm.images import Place, write_geotiff
from cmid_mm.inference.georeferencing import write_boxes, write_geojson
from cmid_mm.inference.ground import Ground

PLACE = Place(CRS.from_epsg(32650), from_origin(500000, 3000000, 0.5, 0.5))


def test_geotiff(tmp_path):
    mask = np.random.randint(0, 3, (40, 60), np.uint8)
    colours = [(1, 2, 3), (40, 50, 60), (200, 0, 0)]
    write_geotiff(tmp_path / 'new' / 'a.tif', mask, PLACE, nodata=255, palette=colours)
    with rasterio.open(tmp_path / 'new' / 'a.tif') as source:
        assert (source.read(1) == mask).all()
        assert (source.crs, source.transform) == (PLACE.crs, PLACE.transform)
        assert source.nodata == 255
        assert source.colormap(1)[1] == (40, 50, 60, 255)
    assert [file.name for file in (tmp_path / 'new').iterdir()] == ['a.tif']


def test_failure_leaves_nothing_behind(tmp_path):
    with pytest.raises(ValueError):
        write_geotiff(tmp_path / 'a.tif', np.zeros((2, 2, 2), np.uint8), PLACE)
    assert not list(tmp_path.iterdir())


def test_geojson_in_map_coordinates(tmp_path):
    # Of half a metre a pixel; rows count southwards.
    corners = np.array([[0, 0, 10, 0, 10, 20, 0, 20.5]])
    write_geojson(tmp_path / 'a.geojson', corners, [{'class': 'ship'}], PLACE)
    content = json.loads((tmp_path / 'a.geojson').read_text())
    assert content['crs']['properties']['name'].endswith('EPSG::32650')
    (feature,) = content['features']
    assert feature['properties'] == {'class': 'ship'}
    (ring,) = feature['geometry']['coordinates']
    assert ring == [
        [500000, 3000000],
        [500005, 3000000],
        [500005, 2999990],
        [500000, 2999989.75],
        [500000, 3000000],
    ]


def test_geojson_without_a_code_is_in_degrees(tmp_path):
    wkt = '+proj=tmerc +lat_0=10 +lon_0=20 +k=1 +x_0=0 +y_0=0 +ellps=GRS80'
    place = Place(CRS.from_proj4(wkt), from_origin(0, 0, 1, 1))
    write_geojson(tmp_path / 'a.geojson', np.zeros((1, 8)), [{}], place)
    content = json.loads((tmp_path / 'a.geojson').read_text())
    assert 'crs' not in content
    first = content['features'][0]['geometry']['coordinates'][0][0]
    np.testing.assert_allclose(first, [20, 10], atol=1e-6)


def test_no_box(tmp_path):
    write_geojson(tmp_path / 'a.geojson', np.empty((0, 8)), [], PLACE)
    assert json.loads((tmp_path / 'a.geojson').read_text())['features'] == []


@pytest.mark.parametrize('ending', ['geojson', 'gpkg'])
@pytest.mark.parametrize('count', [0, 2])
def test_boxes_opened_with_gdal(ending, count, tmp_path):
    pyogrio = pytest.importorskip('pyogrio')
    corners = np.array([[0, 0, 10, 0, 10, 20, 0, 20], [5, 0, 10, 5, 5, 10, 0, 5]])
    fields = {'class': ['ship', 'harbour'][:count], 'score': np.array([0.5, 0.25])}
    fields['score'] = fields['score'][:count]
    path = tmp_path / f'a.{ending}'
    write_boxes(path, corners[:count] * 1.0, fields, Ground(PLACE, 50, 50), 'boxes')
    frame = pyogrio.read_dataframe(path)
    assert len(frame) == count
    if ending == 'gpkg' or count:
        assert frame.crs == 'EPSG:32650'
    if ending == 'gpkg':
        assert pyogrio.list_layers(path)[:, 0] == ['boxes']
    if count:
        assert list(frame['class']) == ['ship', 'harbour']
        assert list(frame['score']) == [0.5, 0.25]
        assert list(frame['area']) == list(frame.geometry.area) == [50, 12.5]
        assert frame.geometry[0].bounds == (500000, 2999990, 500005, 3000000)
