# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Polygons of vector layers, and areas of images."""

import builtins
import pickle

import geopandas
import numpy as np
import pytest
import shapely
from rasterio.control import GroundControlPoint
from rasterio.features import rasterize

from cmid_mm.images import Place, notices
from cmid_mm.labels import vectors
from cmid_mm.labels.errors import LabelError
from cmid_mm.labels.vectors import Area, read_vectors

from .generated import (
    HEIGHT,
    ROTATED,
    STRAIGHT,
    UTM,
    WHOLE,
    WIDTH,
    block,
    ground,
    scene,
    write_vectors,
)


@pytest.fixture
def said(monkeypatch):
    """What is said about files."""
    messages = []
    monkeypatch.setattr(notices, '_said', set())
    monkeypatch.setattr(
        notices, 'print_log', lambda text, *_, **__: messages.append(text)
    )
    return messages


# -- Reading -----------------------------------------------------------------------


@pytest.mark.parametrize('name', ['a.gpkg', 'a.geojson', 'a.shp', 'a.fgb'])
def test_formats_and_systems(tmp_path, name):
    shapes = [block(10, 20, 30, 60), block(100, 100, 140, 120)]
    into = 'EPSG:4326' if name == 'a.geojson' else 'EPSG:32651'
    path = write_vectors(tmp_path / name, shapes, into=into, kind=['x', 'y'])
    frame = read_vectors(path, UTM, ['kind'])
    order = [list(frame.kind).index(kind) for kind in 'xy']  # FlatGeobuf sorts
    found = frame.geometry.iloc[order]
    assert frame.crs == UTM
    apart = shapely.hausdorff_distance(np.array(found), np.array(shapes))
    assert apart.max() < 0.01  # metres; a GeoJSON holds 7 digits


@pytest.mark.parametrize('name', ['a.gpkg', 'a.geojson'])
@pytest.mark.parametrize('into', ['EPSG:32651', 'EPSG:3857', 'EPSG:2225'])
def test_a_layer_beyond_the_earth_is_refused(name, into, tmp_path):
    """Its edges would be divided into so many that no memory holds them."""
    frame = geopandas.GeoDataFrame(
        geometry=[block(10, 20, 30, 60), shapely.box(0, -5, 1e15, 7)], crs=into
    )
    frame.to_file(tmp_path / name)
    with pytest.raises(LabelError) as caught:
        read_vectors(tmp_path / name, 'EPSG:4326')
    text = str(caught.value)
    assert name in text and 'to (1e+15, ' in text and 'expected coordinates of' in text


def test_a_layer_that_would_get_too_many_corners_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(vectors, '_MOST_CORNERS', 150)
    frame = geopandas.GeoDataFrame(
        geometry=[shapely.box(120, 10, 121, 10.5)], crs='EPSG:4326'
    )  # 3 degrees of edges
    frame.to_file(tmp_path / 'a.gpkg')
    read_vectors(tmp_path / 'a.gpkg', UTM)
    monkeypatch.setattr(vectors, '_MOST_CORNERS', 149)
    with pytest.raises(LabelError, match=r'a\.gpkg: its edges are 1\.5e\+02 times'):
        read_vectors(tmp_path / 'a.gpkg', UTM)
    assert len(read_vectors(tmp_path / 'a.gpkg')) == 1


def test_only_what_touches_the_box_is_read(tmp_path):
    shapes = [block(10 * i, 0, 10 * i + 5, 5) for i in range(30)]
    path = write_vectors(
        tmp_path / 'a.gpkg', shapes, into='EPSG:4326', number=range(30)
    )
    (left, top), (right, bottom) = STRAIGHT @ (52, 0), STRAIGHT @ (78, 5)
    frame = read_vectors(path, UTM, bounds=(left, bottom, right, top))
    assert frame.number.tolist() == [5, 6, 7]
    assert not len(read_vectors(path, UTM, bounds=(0, 0, 1, 1)))


def test_invalid_polygons_are_repaired_and_said(tmp_path, said):
    bow_tie = ground((0, 0), (10, 10), (10, 0), (0, 10))
    path = write_vectors(tmp_path / 'a.gpkg', [bow_tie, block(20, 0, 30, 10)])
    frame = read_vectors(path)
    assert frame.is_valid.all()
    assert frame.area.tolist() == pytest.approx([5000, 10000])  # two halves of 25 px
    assert len(said) == 1 and '1 polygons are not valid' in said[0]


def test_what_is_no_polygon_is_left_out_and_said(tmp_path, said):
    shapes = [shapely.Point(STRAIGHT @ (5, 5)), block(20, 0, 30, 10), None]
    path = write_vectors(tmp_path / 'a.geojson', shapes, into='EPSG:4326')
    assert len(read_vectors(path)) == 1
    assert '2 features are no polygons (Point, no geometry)' in said[0]


def _points(folder):
    return write_vectors(folder / 'a.gpkg', [shapely.Point(STRAIGHT @ (5, 5))])


def _mixed(folder):
    shapes = [shapely.Point(117, 36), shapely.LineString([(117, 36), (118, 36)])]
    return write_vectors(folder / 'a.geojson', shapes, crs=4326)


def _lines(folder):
    return write_vectors(folder / 'a.gpkg', [block(0, 0, 5, 5).boundary])


def _two_layers(folder):
    for name in ('roofs', 'roads'):
        frame = geopandas.GeoDataFrame(geometry=[block(0, 0, 5, 5)], crs=UTM)
        frame.to_file(folder / 'a.gpkg', layer=name)
    return folder / 'a.gpkg'


def _empty(folder):
    return write_vectors(folder / 'a.gpkg', [])


def _no_system(folder):
    return write_vectors(folder / 'a.shp', [block(0, 0, 5, 5)], crs=None)


def _metres_as_degrees(folder):
    path = write_vectors(folder / 'a.geojson', [block(0, 0, 5, 5)], crs=None)
    return path


def _text(folder):
    (folder / 'a.geojson').write_text('no vectors')
    return folder / 'a.geojson'


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (_points, r'a\.gpkg: layer a holds no polygons \(Point\); give outlines'),
        (_lines, r'a\.gpkg: layer a holds no polygons \(LineString\)'),
        (_mixed, r'all 2 features are no polygons \(LineString, Point\)'),
        (_two_layers, r'2 layers: roofs, roads; name one \(layer='),
        (_empty, r'a\.gpkg: .* has no features'),
        (_no_system, r'a\.shp: layer a has no reference system.*ogr2ogr -a_srs'),
        (_metres_as_degrees, r'a\.geojson: has coordinates of 4e\+06 in EPSG:4326'),
        (_text, r'a\.geojson: cannot be read as a vector layer'),
    ],
)
def test_refusals(tmp_path, make, message):
    with pytest.raises(LabelError, match=message):
        Area(make(tmp_path))


def test_missing_file_layer_and_field(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'b\.gpkg: no such vector layer'):
        read_vectors(tmp_path / 'b.gpkg')
    path = write_vectors(tmp_path / 'a.gpkg', [block(0, 0, 5, 5)], kind=['x'])
    with pytest.raises(LabelError, match="no field 'sort'; it has kind"):
        read_vectors(path, columns=['sort'])
    with pytest.raises(LabelError, match="no layer 'b' with geometries; it has a"):
        read_vectors(path, layer='b')


def test_layer_is_chosen(tmp_path):
    assert read_vectors(_two_layers(tmp_path), layer='roads').area.tolist() == [2500]


def test_without_the_library(tmp_path, monkeypatch):
    load = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.partition('.')[0] == 'pyogrio':
            raise ImportError(f'No module named {name}')
        return load(name, *args, **kwargs)

    path = write_vectors(tmp_path / 'a.gpkg', [block(0, 0, 5, 5)])
    monkeypatch.setattr(
        'importlib.import_module', lambda name: missing(name, None, None, (), 0)
    )
    with pytest.raises(ImportError, match="pip install 'geopandas>=1' pyogrio"):
        Area(path)


# -- Areas -------------------------------------------------------------------------


@pytest.mark.parametrize('into', [UTM, 'EPSG:4326', 'EPSG:32651', 'EPSG:3857'])
@pytest.mark.parametrize('transform', [STRAIGHT, ROTATED], ids=['straight', 'rotated'])
def test_area_in_pixels(tmp_path, into, transform):
    shape = block(40, 30, 90, 80, transform).difference(
        block(50.2, 40.2, 60.3, 50.3, transform)
    )
    area = Area(write_vectors(tmp_path / 'a.gpkg', [shape], into=into))
    place = scene(tmp_path, transform).place
    mask = area.mask(place, WHOLE)
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[30:80, 40:90] = True
    expected[40:50, 50:60] = False
    assert (mask == expected).all()
    assert (area.mask(place, (70, 80, 30, 20)) == expected[70:100, 80:100]).all()
    assert area.window_of(place, (HEIGHT, WIDTH)) == (30, 40, 50, 50)
    assert area.outlines(place).area == pytest.approx(2500 - 10.1**2, abs=0.01)
    cut = area.outlines(place, (70, 80, 30, 20))
    assert cut.bounds == pytest.approx((80, 70, 90, 80), abs=0.01)
    assert area.touches(place, (70, 80, 30, 20))
    assert not area.touches(place, (42, 52, 5, 5))  # in the hole
    assert not area.touches(place, (0, 0, 20, 300))


def test_edges_of_degrees_are_curves_in_metres(tmp_path):
    # Two hundred kilometres along a parallel: a straight line in UTM would lie up to
    # 600 m beside it.
    transform = STRAIGHT.__class__(1000, 0, 400000, 0, -1000, 5560000)
    place = Place(scene(tmp_path).place.crs, transform)
    shape = shapely.box(115.5, 49, 118.5, 50)
    area = Area(write_vectors(tmp_path / 'a.gpkg', [shape], crs='EPSG:4326'))
    mask = area.mask(place, (0, 0, 130, 220))
    columns, rows = np.meshgrid(np.arange(220) + 0.5, np.arange(130) + 0.5)
    x, y = transform @ (columns.ravel(), rows.ravel())
    points = geopandas.GeoSeries.from_xy(x, y, crs=UTM).to_crs(4326)
    inside = shapely.contains(shape, np.array(points)).reshape(mask.shape)
    assert inside.any() and (mask == inside).all()


def test_area_beside_the_image(tmp_path):
    place = scene(tmp_path).place
    area = Area(write_vectors(tmp_path / 'a.gpkg', [block(400, 400, 500, 500)]))
    assert area.window_of(place, (HEIGHT, WIDTH)) is None
    assert not area.mask(place, WHOLE).any()
    # From the last pixel whose centre is inside.
    area = Area(write_vectors(tmp_path / 'b.gpkg', [block(-9, -9, 7.6, 3.4)]))
    assert area.window_of(place, (HEIGHT, WIDTH)) == (0, 0, 3, 8)


def test_polygons_of_the_other_side_of_the_earth(tmp_path):
    """UTM has no coordinates there, nor for what reaches so far."""
    place = scene(tmp_path).place
    middle = geopandas.GeoSeries([shapely.Point(STRAIGHT @ (0, 100))], crs=UTM)
    south = middle.to_crs(4326).y[0]
    shapes = [shapely.box(-70, -5, -60, 5), shapely.box(-180, south, 180, 90)]
    area = Area(write_vectors(tmp_path / 'a.gpkg', shapes, crs='EPSG:4326'))
    assert area.mask(place, WHOLE).all(axis=1).sum() == 100


def test_image_by_ground_control_points(tmp_path):
    points = [
        GroundControlPoint(row, column, *(STRAIGHT @ (column, row)))
        for row in (0, 100, HEIGHT)
        for column in (0, 150, WIDTH)
    ]
    image = scene(tmp_path, None, gcps=points)
    assert image.place.transform is None
    area = Area(write_vectors(tmp_path / 'a.gpkg', [block(40, 30, 90, 80)]))
    assert area.window_of(image.place, (HEIGHT, WIDTH)) == (30, 40, 50, 50)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(crs=None), 'which names no reference system'),
        (dict(crs=None, transform=None), 'which is not georeferenced'),
    ],
)
def test_image_that_lies_nowhere(tmp_path, options, message):
    area = Area(write_vectors(tmp_path / 'a.gpkg', [block(40, 30, 90, 80)]))
    with pytest.raises(LabelError, match=message):
        area.mask(scene(tmp_path, **options).place, WHOLE)


def test_area_goes_to_other_processes(tmp_path):
    place = scene(tmp_path).place
    area = Area(write_vectors(tmp_path / 'a.gpkg', [block(40, 30, 90, 80)]))
    mask = area.mask(place, WHOLE)
    (tmp_path / 'a.gpkg').unlink()  # read once
    assert (pickle.loads(pickle.dumps(area)).mask(place, WHOLE) == mask).all()


def test_polygon_of_many_corners_is_burned_by_its_part(tmp_path, monkeypatch):
    """As GDAL looks at all edges for each row of a window."""
    angles = np.linspace(0, 2 * np.pi, 5000)
    radii = 80 + 5 * np.sin(angles * 60)
    points = np.stack([150 + radii * np.cos(angles), 100 + radii * np.sin(angles)], -1)
    shape = ground(*map(tuple, points))
    area = Area(write_vectors(tmp_path / 'a.gpkg', [shape]))
    place = scene(tmp_path).place
    corners = []

    def watched(pairs, **options):
        corners.extend(shapely.get_num_coordinates(shape) for shape, _ in pairs)
        return rasterize(pairs, **options)

    monkeypatch.setattr('cmid_mm.labels.pixel_polygons.rasterize', watched)
    whole = rasterize([shape], (HEIGHT, WIDTH), transform=STRAIGHT) > 0
    for left in range(0, WIDTH, 50):
        mask = area.mask(place, (0, left, HEIGHT, 50))
        assert (mask == whole[:, left : left + 50]).all()
    assert 0 < max(corners) < 2500
