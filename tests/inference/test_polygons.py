# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Polygons of class rasters: strips against the whole, files opened with GDAL."""

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.features import rasterize, shapes
from rasterio.transform import from_origin

from cmid_mm.images import Place
from cmid_mm.inference.ground import Ground

pyogrio = pytest.importorskip('pyogrio')
shapely = pytest.importorskip('shapely')

from cmid_mm.inference.polygons import class_polygons  # noqa: E402
from cmid_mm.inference.vector_files import PolygonOptions, write_polygons  # noqa: E402

UTM = Place(CRS.from_epsg(32650), from_origin(500000, 3000000, 0.5, 0.5))


def strips(mask, scores=None, rows=64):
    for top in range(0, len(mask), rows):
        part = slice(top, top + rows)
        yield mask[part], None if scores is None else scores[part]


def regions(mask, left_out=(255,), scores=None, rows=64, least_pixels=0):
    return class_polygons(strips(mask, scores, rows), left_out, least_pixels)


def normal(geometry):
    return shapely.normalize(geometry).wkb


@pytest.mark.parametrize('rows', [1, 2, 7, 40, 100])
@pytest.mark.parametrize('shape', [(97, 61), (1, 30), (40, 1)])
def test_strips_give_what_the_whole_raster_gives(shape, rows):
    mask = np.random.randint(0, 3, shape).astype(np.uint8)
    mask[20:60, 5:50] = 1  # a large one with holes on the edges of strips
    mask[30:42, 10:20] = 2
    scores = np.random.rand(*shape)
    expected = {
        (int(value), normal(shapely.geometry.shape(outline)))
        for outline, value in shapes(mask, connectivity=4)
    }
    found = list(regions(mask, scores=scores, rows=rows))
    # Corners and all: nothing is left of the edges between strips.
    assert {(each.value, normal(each.geometry)) for each in found} == expected
    assert len(found) == len(expected)
    assert all(each.geometry.is_valid for each in found)
    assert all(each.geometry.area == each.pixels for each in found)
    total = sum(each.score * each.pixels for each in found)
    assert total == pytest.approx(scores.sum())


@pytest.mark.parametrize('rows', [1, 5, 16])
def test_outlines_that_touch_themselves(rows, monkeypatch):
    # Made some at a time, as those of large rasters are.
    monkeypatch.setattr('cmid_mm.inference.polygons._TOGETHER', 12)
    around = np.array(
        [
            [1, 1, 1, 1, 1, 1],
            [1, 0, 1, 1, 1, 1],
            [1, 1, 0, 1, 0, 0],  # two holes that touch
            [1, 1, 1, 0, 1, 0],  # a hole that touches the outside
            [0, 1, 1, 1, 1, 0],
        ],
        np.uint8,
    )
    mask = np.tile(np.kron(around, np.ones((2, 1), np.uint8)), (2, 2))
    expected = {
        (int(value), normal(shapely.geometry.shape(outline)))
        for outline, value in shapes(mask, connectivity=4)
    }
    found = list(regions(mask, rows=rows))
    assert {(each.value, normal(each.geometry)) for each in found} == expected
    assert any(len(each.geometry.interiors) > 1 for each in found)
    # Counterclockwise on the map, where rows go down.
    assert not any(each.geometry.exterior.is_ccw for each in found)


def test_scores_are_means_of_the_region():
    mask = np.zeros((9, 8), np.uint8)
    mask[2:7, 3:6] = 1
    scores = np.random.rand(9, 8)
    for rows in (3, 20):
        (inner,) = regions(mask, (0,), scores, rows=rows)
        assert inner.score == pytest.approx(scores[2:7, 3:6].mean())


def test_a_region_that_meets_itself_further_down_is_one():
    # A comb: its teeth are apart until the last row.
    mask = np.full((20, 31), 255, np.uint8)
    mask[:, ::2] = 4
    mask[-1] = 4
    (comb,) = regions(mask, rows=3)
    assert comb.pixels == (mask == 4).sum()
    assert comb.geometry.geom_type == 'Polygon' and not len(comb.geometry.interiors)


def test_regions_are_given_as_soon_as_they_end():
    mask = np.zeros((1000, 8), np.uint8)
    mask[2:5, 2:5] = 1
    rows = strips(mask, rows=10)
    first = next(class_polygons(rows, [0]))
    assert first.pixels == 9
    assert len(list(rows)) == 99


@pytest.mark.parametrize('rows', [2, 64])
def test_small_regions_are_left_out(rows):
    mask = np.zeros((64, 64), np.uint8)
    mask[1:3, 1:3] = 1  # 4 pixels
    mask[9:14, 5] = 1  # 5, across strips
    mask[20:40, 30:32] = 1
    sizes = [each.pixels for each in regions(mask, (0,), rows=rows)]
    assert sizes == [4, 5, 40]
    kept = regions(mask, (0,), least_pixels=5, rows=rows)
    assert [each.pixels for each in kept] == [5, 40]


def test_file_opened_with_gdal(tmp_path):
    mask = np.zeros((60, 80), np.uint8)
    mask[10:50, 20:70] = 1
    mask[20:30, 30:40] = 2  # within, its hole
    mask[:5, :5] = 255
    mask[55, 70] = 1
    path = tmp_path / 'a.gpkg'
    rows = strips(mask, np.full(mask.shape, 0.75), 16)
    options = PolygonOptions(least_area=1.0)
    ground = Ground(UTM, 60, 80)
    count = write_polygons(path, rows, ['field', 'lake', 'isle'], ground, options)
    frame = pyogrio.read_dataframe(path, layer='polygons')
    assert frame.crs.to_epsg() == 32650
    assert len(frame) == count == 3  # not what has no data, nor the pixel of 0.25 m2
    by_class = frame.set_index('class')
    assert (by_class['area'] == by_class.geometry.area).all()
    assert by_class.loc['isle', 'area'] == 100 / 4
    assert by_class.loc['lake', 'area'] == (40 * 50 - 100) / 4
    assert len(by_class.loc['lake', 'geometry'].interiors) == 1
    assert (frame.score == 0.75).all()
    assert by_class.loc['isle', 'geometry'].bounds == (
        500015,
        2999985,
        500020,
        2999990,
    )
    values = frame['class'].map({'field': 9, 'lake': 1, 'isle': 2})
    burned = rasterize(
        zip(frame.geometry, values, strict=True),
        out_shape=mask.shape,
        transform=UTM.transform,
    )
    assert ((burned == 1) == (mask == 1)).sum() == mask.size - 1
    assert [file.name for file in tmp_path.iterdir()] == ['a.gpkg']


@pytest.mark.parametrize('pixels', [100, 101])
def test_least_area_is_not_missed_by_rounding(pixels, tmp_path):
    place = Place(CRS.from_epsg(32650), from_origin(500000.1, 3000000.7, 0.3, 0.3))
    mask = np.full((20, 20), 255, np.uint8)
    mask[:10, :10] = 0
    options = PolygonOptions(least_area=pixels * 0.09)
    found = write_polygons(
        tmp_path / 'a.gpkg', strips(mask), ['field'], Ground(place, 20, 20), options
    )
    assert found == (pixels == 100)


def test_background_has_no_polygons(tmp_path):
    mask = np.random.randint(0, 3, (20, 20)).astype(np.uint8)
    classes, ground = ['field', 'lake', 'isle'], Ground(UTM, 20, 20)
    options = PolygonOptions(background=['field', 'isle'])
    write_polygons(tmp_path / 'a.gpkg', strips(mask), classes, ground, options)
    frame = pyogrio.read_dataframe(tmp_path / 'a.gpkg')
    assert set(frame['class']) == {'lake'}
    assert frame['area'].sum() == (mask == 1).sum() / 4
    with pytest.raises(ValueError, match="'sea' is none of the classes: field, lake"):
        options = PolygonOptions(background=['sea'])
        write_polygons(tmp_path / 'b.gpkg', strips(mask), classes, ground, options)


def test_all_batches_are_in_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr('cmid_mm.inference.vector_files._CORNERS', 300)
    mask = np.random.randint(0, 3, (20, 20)).astype(np.uint8)
    path, ground = tmp_path / 'a.gpkg', Ground(None, 20, 20)
    count = write_polygons(
        path, strips(mask), ['field', 'lake', 'isle'], ground, PolygonOptions()
    )
    frame = pyogrio.read_dataframe(path)
    assert len(frame) == count == len(list(shapes(mask, connectivity=4)))
    assert frame['area'].sum() == mask.size


def test_nothing_found_is_an_empty_layer(tmp_path):
    mask = np.full((20, 20), 255, np.uint8)
    ground = Ground(None, 20, 20)
    found = write_polygons(
        tmp_path / 'a.gpkg', strips(mask), [], ground, PolygonOptions()
    )
    info = pyogrio.read_info(tmp_path / 'a.gpkg')
    assert found == info['features'] == 0 and info['crs'] is None
    assert list(info['fields']) == ['class', 'area', 'score']


def test_a_failure_leaves_no_file(tmp_path):
    def broken():
        yield from strips(np.zeros((20, 20), np.uint8))
        raise OSError('disk full')

    with pytest.raises(OSError):
        ground, options = Ground(UTM, 20, 20), PolygonOptions()
        write_polygons(tmp_path / 'a.gpkg', broken(), ['field'], ground, options)
    assert not list(tmp_path.iterdir())


# -- Areas -------------------------------------------------------------------------


def geodesic_area(place, corners):
    pyproj = pytest.importorskip('pyproj')
    crs = pyproj.CRS.from_wkt(place.crs.to_wkt())
    to_degrees = pyproj.Transformer.from_crs(crs, 4326, always_xy=True)
    degrees = to_degrees.transform(*place.coordinates(corners).T)
    return abs(pyproj.Geod(ellps='WGS84').polygon_area_perimeter(*degrees)[0])


@pytest.mark.parametrize(
    'place',
    [
        Place(CRS.from_epsg(4326), from_origin(179.99, 60, 1e-4, 1e-4)),
        Place(CRS.from_epsg(3857), from_origin(2e6, 8.4e6, 10, 10)),
        Place(CRS.from_epsg(4326), rasterio.Affine(1e-4, 3e-5, 10, 2e-5, -1e-4, -45)),
        Place(
            CRS.from_epsg(4326),
            None,
            tuple(
                GroundControlPoint(row, column, 20 + column * 1e-4, 50 - row * 1e-4)
                for row in (0, 100, 200)
                for column in (0, 100, 200)
            ),
        ),
    ],
    ids=['degrees', 'web mercator', 'rotated', 'control points'],
)
def test_areas_are_those_on_the_ellipsoid(place, tmp_path):
    mask = np.full((200, 200), 255, np.uint8)
    mask[30:90, 40:140] = 0
    ground = Ground(place, 200, 200)
    assert ground.pixel_area is None
    write_polygons(
        tmp_path / 'a.gpkg', strips(mask), ['field'], ground, PolygonOptions()
    )
    frame = pyogrio.read_dataframe(tmp_path / 'a.gpkg')
    corners = np.array([[40, 30], [140, 30], [140, 90], [40, 90]], float)
    assert frame['area'][0] == pytest.approx(geodesic_area(place, corners), rel=1e-4)


@pytest.mark.parametrize(
    ('crs', 'area'),
    [
        (32650, 0.25),
        (2263, 0.25 * 0.3048006096**2),  # feet of the US survey
        (None, 0.25),
    ],
)
def test_areas_in_the_plane_of_the_map(crs, area):
    # New York lies at the origin of 2263.
    origin = (980000, 200000) if crs == 2263 else (500000, 3000000)
    place = Place(crs and CRS.from_epsg(crs), from_origin(*origin, 0.5, 0.5))
    ground = Ground(place, 100, 100)
    assert ground.pixel_area == pytest.approx(area if crs else 1)
