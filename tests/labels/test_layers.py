# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Label rasters and vector layers on the pixel grid of an image."""

import io
import pickle
import re

import numpy as np
import pytest
import rasterio.shutil
import shapely
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from rasterio import Affine
from rasterio.features import rasterize
from rasterio.transform import from_origin
from rasterio.warp import transform as transform_points

from cmid_mm.images import ImageFile, PlaceMismatchError, notices
from cmid_mm.labels.attribute_tables import read_value_table
from cmid_mm.labels.errors import LabelError
from cmid_mm.labels.layers import BoxLayer, LabelLayer
from cmid_mm.labels.masks import read_index_mask
from cmid_mm.labels.recent import Recent
from cmid_mm.labels.vectors import read_vectors

from .generated import (
    HEIGHT,
    ROTATED,
    STRAIGHT,
    UTM,
    WHOLE,
    WIDTH,
    blobs,
    block,
    scene,
    write_raster,
    write_vectors,
)

ABC = ('a', 'b', 'c')
WINDOWS = [(0, 0, 64, 64), (50, 130, 64, 100), (136, 236, 64, 64), (199, 299, 1, 1)]


def values(height, width, high=3, dtype=np.uint8):
    """Random labels."""
    return np.random.default_rng(0).integers(0, high, (height, width)).astype(dtype)


def cut(whole, window):
    top, left, height, width = window
    return whole[top : top + height, left : left + width]


def nearest(labels, transform, crs, onto=STRAIGHT):
    """The label under the centre of each pixel of the image; 255 beside the labels."""
    columns, rows = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    points = onto @ (columns.ravel(), rows.ravel())
    x, y = transform_points(UTM, crs, *points)
    column, row = np.floor(~transform @ (np.array(x), np.array(y))).astype(int)
    inside = (row >= 0) & (row < labels.shape[0])
    inside &= (column >= 0) & (column < labels.shape[1])
    found = np.full(HEIGHT * WIDTH, 255, np.uint8)
    found[inside] = labels[row[inside], column[inside]]
    return found.reshape(HEIGHT, WIDTH)


# -- Rasters -----------------------------------------------------------------------


@pytest.mark.parametrize('onto', [STRAIGHT, ROTATED], ids=['straight', 'rotated'])
@pytest.mark.parametrize(
    ('size', 'transform'),
    [
        ((HEIGHT, WIDTH), STRAIGHT),
        ((70, 70), from_origin(500500, 4000100, 30, 30)),
        ((900, 900), from_origin(499990, 4000010, 2.5, 2.5)),
        (
            (120, 200),
            Affine.translation(500000, 3999000)
            @ Affine.rotation(20)
            @ Affine.scale(10),
        ),
    ],
    ids=['same grid', 'coarser', 'finer', 'rotated'],
)
def test_raster_of_another_grid(tmp_path, size, transform, onto):
    labels = values(*size)
    path = write_raster(tmp_path / 'labels.tif', labels, transform)
    layer, image = LabelLayer(path, ABC), scene(tmp_path, onto)
    expected = nearest(labels, transform, UTM, onto)
    whole = layer.window(image, WHOLE)
    # GDAL's centres may lie an eighth of a pixel beside the exact ones.
    assert (whole != expected).mean() < (0 if onto == STRAIGHT else 0.002) + 1e-9
    assert set(np.unique(whole)) == {0, 1, 2, 255} or size == (HEIGHT, WIDTH)
    for window in WINDOWS:
        assert (layer.window(image, window) == cut(whole, window)).all()
    counts = layer.counts(image, WINDOWS[1])
    assert counts.tolist() == [(cut(whole, WINDOWS[1]) == i).sum() for i in range(3)]


def test_raster_of_another_system(tmp_path):
    # Degrees, of some 9 m.
    labels = values(300, 400)
    transform = from_origin(117.0, 36.145, 1e-4, 1e-4)
    path = write_raster(tmp_path / 'labels.tif', labels, transform, 'EPSG:4326')
    layer, image = LabelLayer(path, ABC), scene(tmp_path)
    whole = layer.window(image, WHOLE)
    expected = nearest(labels, transform, 'EPSG:4326')
    # Of the pixels whose centre lies near an edge of labels some take the neighbour.
    assert (whole != expected).mean() < 0.02
    assert ((whole == 255) == (expected == 255)).mean() > 0.999
    for window in WINDOWS:
        assert (layer.window(image, window) == cut(whole, window)).all()


def test_missing_labels_are_ignored(tmp_path):
    labels = values(HEIGHT, WIDTH, 4)
    path = write_raster(tmp_path / 'labels.tif', labels, nodata=3)
    image = scene(tmp_path)
    found = LabelLayer(path, ABC).window(image, WHOLE)
    assert (found == np.where(labels == 3, 255, labels)).all()
    # Unless they are a class, also beyond the edge.
    half = write_raster(tmp_path / 'half.tif', labels[:, :100], nodata=3)
    found = LabelLayer(half, ABC, label_map={3: 'a'}).window(image, WHOLE)
    assert (found[:, :100] == np.where(labels == 3, 0, labels)[:, :100]).all()
    assert (found[:, 100:] == 255).all()
    found = LabelLayer(path, ABC, ignore=[0]).window(image, WHOLE)
    assert (found == np.where(labels % 3 == 0, 255, labels)).all()


def test_fractions_and_large_numbers(tmp_path):
    image = scene(tmp_path)
    labels = values(HEIGHT, WIDTH, 3, np.int32) * 40000 - 1
    path = write_raster(tmp_path / 'labels.tif', labels)
    layer = LabelLayer(path, label_map={-1: 'sea', 39999: 'land', 79999: 255})
    assert layer.classes == ('sea', 'land')
    expected = np.array([0, 1, 255])[(labels + 1) // 40000]
    assert (layer.window(image, WHOLE) == expected).all()
    numbers = values(HEIGHT, WIDTH).astype(np.float32)
    numbers[:5] = np.nan
    path = write_raster(tmp_path / 'numbers.tif', numbers)
    found = LabelLayer(path, ABC).window(image, WHOLE)
    assert (found[:5] == 255).all() and (found[5:] == numbers[5:]).all()
    path = write_raster(tmp_path / 'fractions.tif', numbers + 0.5)
    with pytest.raises(
        LabelError, match=r'fractions\.tif has the value .*whole number'
    ):
        LabelLayer(path, ABC).window(image, WHOLE)


def test_values_without_a_class(tmp_path):
    labels = values(HEIGHT, WIDTH)
    labels[100:, 200:] = 7
    path = write_raster(tmp_path / 'labels.tif', labels)
    layer, image = LabelLayer(path, ABC), scene(tmp_path)
    assert layer.window(image, (0, 0, 50, 50)).max() == 2
    message = r'labels\.tif has the values 7, of which 7 are none of the 3 classes'
    with pytest.raises(LabelError, match=message):
        layer.window(image, (150, 250, 50, 50))
    # As a mask file of these values is refused.
    with pytest.raises(LabelError, match='of which 7 are none of the 3 classes'):
        read_index_mask(path, 3)


def test_black_and_white_for_two_classes(tmp_path):
    path = write_raster(tmp_path / 'labels.tif', values(HEIGHT, WIDTH, 2) * 255)
    image = scene(tmp_path)
    with pytest.raises(LabelError, match=r'label_map=\{255: 1\}.* for the labels'):
        LabelLayer(path, ABC[:2]).window(image, WHOLE)
    found = LabelLayer(path, ABC[:2], label_map={255: 'b'}).window(image, WHOLE)
    assert set(np.unique(found)) == {0, 1}


def test_pixel_upon_pixel(tmp_path):
    """Neither says where it lies."""
    labels = values(HEIGHT, WIDTH)
    Image.fromarray(labels).save(tmp_path / 'labels.png')
    Image.fromarray(values(HEIGHT, WIDTH, 255)).save(tmp_path / 'image.png')
    layer, image = LabelLayer(tmp_path / 'labels.png', ABC), tmp_path / 'image.png'
    for window in WINDOWS:
        assert (layer.window(ImageFile(image), window) == cut(labels, window)).all()
    assert layer.overlaps(ImageFile(image))
    # Nor need the image do so alone.
    assert (layer.window(scene(tmp_path), WHOLE) == labels).all()


@pytest.mark.parametrize('labels_lie', [False, True])
def test_other_size_without_a_place(tmp_path, labels_lie):
    known, unknown = {}, dict(crs=None, transform=None)
    path = write_raster(
        tmp_path / 'labels.tif', values(90, 80), **(known if labels_lie else unknown)
    )
    image = scene(tmp_path, **(unknown if labels_lie else known))
    lacking = r'scene\.tif' if labels_lie else r'labels\.tif'
    with pytest.raises(
        PlaceMismatchError, match=rf'80 x 90 pixels.*300 x 200, and \S*{lacking} does'
    ):
        LabelLayer(path, ABC).window(image, WHOLE)


def test_overlap(tmp_path):
    image = scene(tmp_path)
    for x, overlaps in ((502990, True), (503010, False)):
        transform = from_origin(x, 4000000, 10, 10)
        path = write_raster(tmp_path / 'labels.tif', values(50, 50), transform)
        layer = LabelLayer(path, ABC)
        assert layer.overlaps(image) is overlaps
        assert (layer.window(image, WHOLE) != 255).any() == overlaps
    for column, overlaps in ((299, True), (301, False)):
        shape = block(column, 10, column + 30, 20)
        path = write_vectors(tmp_path / f'{column}.gpkg', [shape], into='EPSG:4326')
        assert LabelLayer(path).overlaps(image) is overlaps


# -- Names -------------------------------------------------------------------------


#: As GDAL writes it.
GDAL_TABLE = """<PAMDataset><PAMRasterBand band="1">
<GDALRasterAttributeTable tableType="thematic">
<FieldDefn index="0"><Name>Value</Name><Type>0</Type><Usage>5</Usage></FieldDefn>
<FieldDefn index="1"><Name>Class</Name><Type>2</Type><Usage>2</Usage></FieldDefn>
<FieldDefn index="2"><Name>R</Name><Type>0</Type><Usage>6</Usage></FieldDefn>
<FieldDefn index="3"><Name>G</Name><Type>0</Type><Usage>7</Usage></FieldDefn>
<FieldDefn index="4"><Name>B</Name><Type>0</Type><Usage>8</Usage></FieldDefn>
<Row index="0"><F>0</F><F>Wald &amp; Wiese</F><F>0</F><F>0</F><F>0</F></Row>
<Row index="1"><F>1</F><F>b</F><F>1</F><F>2</F><F>3</F></Row>
<Row index="2"><F>2</F><F>ß</F><F>4</F><F>5</F><F>6</F></Row>
</GDALRasterAttributeTable></PAMRasterBand></PAMDataset>"""


def test_attribute_table(tmp_path):
    """As maps have it, which thus can be labels."""
    labels = values(HEIGHT, WIDTH)
    path = write_raster(tmp_path / 'map.tif', labels)
    names = 'Wald & Wiese', 'b', 'ß'
    beside = tmp_path / 'map.tif.aux.xml'
    beside.write_text(GDAL_TABLE, encoding='utf-8')
    # Also of a VRT.
    rasterio.shutil.copy(path, tmp_path / 'copy.vrt', driver='VRT')
    assert read_value_table(tmp_path / 'copy.vrt') == read_value_table(path)
    layer = LabelLayer(path)
    assert layer.classes == names
    assert layer.palette == [(0, 0, 0), (1, 2, 3), (4, 5, 6)]
    assert (layer.window(scene(tmp_path), WHOLE) == labels).all()
    # The order of a model's classes goes before that of the file.
    layer = LabelLayer(path, ('ß', 'b', 'Wald & Wiese'))
    assert (layer.window(scene(tmp_path), WHOLE) == 2 - labels).all()
    # Others are names for the same indices.
    layer = LabelLayer(path, ('x', 'y', 'z'), label_map={7: 'x'})
    assert (layer.window(scene(tmp_path), WHOLE) == labels).all()
    assert layer.palette == [(0, 0, 0), (1, 2, 3), (4, 5, 6)]
    # With a part of the names the rest is no class.
    with pytest.raises(LabelError, match='of which 0 are none of the 2 classes'):
        LabelLayer(path, ('b', 'ß')).window(scene(tmp_path), WHOLE)
    layer = LabelLayer(path, ('b', 'ß'), ignore=[0])
    expected = np.array([255, 0, 1])[labels]
    assert (layer.window(scene(tmp_path), WHOLE) == expected).all()
    beside.write_text(GDAL_TABLE[:-20], encoding='utf-8')
    with pytest.raises(LabelError, match=r'map\.tif\.aux\.xml: damaged XML'):
        LabelLayer(path)


RAT = """<PAMDataset><PAMRasterBand band="1">
<GDALRasterAttributeTable Row0Min="0" BinSize="1" tableType="thematic">
<FieldDefn index="0"><Name>VALUE</Name><Type>0</Type><Usage>0</Usage></FieldDefn>
<FieldDefn index="1"><Name>Count</Name><Type>1</Type><Usage>1</Usage></FieldDefn>
<FieldDefn index="2"><Name>Land</Name><Type>2</Type><Usage>0</Usage></FieldDefn>
<Row index="0"><F>80</F><F>3</F><F>water</F></Row>
<Row index="1"><F>10</F><F>9</F><F>trees</F></Row>
<Row index="2"><F>0</F><F>1</F><F>no data</F></Row>
</GDALRasterAttributeTable></PAMRasterBand></PAMDataset>"""
CATEGORIES = (
    '<CategoryNames><Category>sea</Category><Category/><Category>land</Category>'
    '</CategoryNames>'
)


def test_attribute_table_of_another_program(tmp_path):
    """Without stated meanings of the columns; values that are no indices."""
    labels = np.array([0, 10, 80], np.uint8)[values(HEIGHT, WIDTH)]
    colours = {10: (0, 100, 0, 255), 80: (0, 100, 200, 255)}
    path = write_raster(tmp_path / 'map.tif', labels, nodata=0, colours=colours)
    (tmp_path / 'map.tif.aux.xml').write_text(RAT)
    layer = LabelLayer(path)
    assert layer.classes == ('trees', 'water')  # by value, without the missing
    assert layer.palette == [(0, 100, 0), (0, 100, 200)]
    expected = np.select([labels == 10, labels == 80], [0, 1], 255)
    assert (layer.window(scene(tmp_path), WHOLE) == expected).all()
    # A value between them is none by its number.
    labels[0, 0] = 1
    write_raster(path, labels, nodata=0)
    (tmp_path / 'map.tif.aux.xml').write_text(RAT)
    with pytest.raises(LabelError, match=r'of which 1 are none .*\(values 10, 80\)'):
        LabelLayer(path).window(scene(tmp_path), WHOLE)
    # Joined by what is given.
    layer = LabelLayer(path, label_map={1: 'water', 80: 'water'})
    assert layer.classes == ('water', 'trees')


def within(xml: str) -> bytes:
    """A TIFF with a table where GDAL 3.12 writes it."""
    tags = ImageFileDirectory_v2()
    tags.tagtype[42112] = 2  # text
    tags[42112] = xml.encode()
    file = io.BytesIO()
    Image.fromarray(values(HEIGHT, WIDTH)).save(file, 'TIFF', tiffinfo=tags)
    return file.getvalue()


def test_attribute_table_within_the_tiff(tmp_path):
    """As GDAL writes it from 3.12 on; of the first band."""
    band = RAT[RAT.index('<GDALRaster') : RAT.index('</PAMRasterBand')]
    item = (
        '<Item name="DEFAULT_RASTER_ATTRIBUTE_TABLE" sample="{}" role="rat">{}</Item>'
    )
    items = item.format(1, '<GDALRasterAttributeTable/>') + item.format(0, band)
    path = tmp_path / 'map.tif'
    path.write_bytes(
        within(f'<GDALMetadata>{items}</GDALMetadata>'.replace('ees', 'eße'))
    )
    names = {80: 'water', 10: 'treße', 0: 'no data'}
    assert read_value_table(path).names == names
    (tmp_path / 'map.tif.aux.xml').write_text(RAT)
    assert read_value_table(path).names == {**names, 10: 'trees'}
    (tmp_path / 'map.tif.aux.xml').unlink()
    path.write_bytes(within('<GDALMetadata><Item'))
    with pytest.raises(LabelError, match=r'map\.tif: damaged XML'):
        read_value_table(path)


def test_category_names(tmp_path):
    write_raster(tmp_path / 'map.tif', values(HEIGHT, WIDTH))
    (tmp_path / 'map.vrt').write_text(
        f'<VRTDataset rasterXSize="{WIDTH}" rasterYSize="{HEIGHT}">'
        f'<VRTRasterBand dataType="Byte" band="1">{CATEGORIES}</VRTRasterBand>'
        '</VRTDataset>'
    )
    assert read_value_table(tmp_path / 'map.vrt').names == {0: 'sea', 2: 'land'}
    assert LabelLayer(tmp_path / 'map.vrt').classes == ('sea', 'land')
    # Beside a raster with a colour table, as predicted maps have them.
    colours = {0: (0, 0, 0, 255), 2: (0, 9, 0, 255)}
    path = write_raster(tmp_path / 'map.tif', values(9, 9), colours=colours)
    beside = f'<PAMDataset><PAMRasterBand band="1">{CATEGORIES}</PAMRasterBand>'
    (tmp_path / 'map.tif.aux.xml').write_text(f'{beside}</PAMDataset>')
    layer = LabelLayer(path)
    assert layer.classes == ('sea', 'land')
    assert layer.palette == [(0, 0, 0), (0, 9, 0)]


def test_names_beside_an_arcgis_raster(tmp_path):
    path = write_raster(tmp_path / 'map.tif', values(HEIGHT, WIDTH) * 5)
    write_vectors(
        tmp_path / 'table.shp',
        [block(0, 0, 1, 1)] * 2,
        VALUE=[5, 10],
        COUNT=[3, 4],
        CLASS=['trees', 'water'],
    )
    (tmp_path / 'table.dbf').rename(tmp_path / 'map.tif.vat.dbf')
    assert read_value_table(path).names == {5: 'trees', 10: 'water'}


def test_classes_by_colour_table_or_not_at_all(tmp_path):
    labels = values(HEIGHT, WIDTH)
    path = write_raster(
        tmp_path / 'map.tif', labels, colours={1: (9, 0, 0, 255), 2: (0, 9, 0, 255)}
    )
    layer = LabelLayer(path)
    assert (layer.classes, layer.palette) == (('1', '2'), [(9, 0, 0), (0, 9, 0)])
    layer = LabelLayer(path, ignore=[0])
    expected = np.array([255, 0, 1])[labels]
    assert (layer.window(scene(tmp_path), WHOLE) == expected).all()
    scale = {i: (i, i, 255 - i, 255) for i in range(256)}
    for colours in (scale, None):
        path = write_raster(tmp_path / 'map.tif', labels, colours=colours)
        with pytest.raises(LabelError, match=r'map\.tif names no classes'):
            LabelLayer(path)


# -- Vector layers -----------------------------------------------------------------


@pytest.mark.parametrize('transform', [STRAIGHT, ROTATED], ids=['straight', 'rotated'])
def test_burned_as_rasterio_burns_the_whole_image(tmp_path, transform):
    shapes = blobs(3)
    kinds = [ABC[i % 3] for i in range(len(shapes))]
    path = write_vectors(tmp_path / 'a.gpkg', shapes, kind=kinds)
    layer = LabelLayer(path, field='kind')
    assert layer.classes == ABC
    expected = rasterize(
        [(shape, i % 3) for i, shape in enumerate(shapes)],
        (HEIGHT, WIDTH),
        fill=255,
        transform=transform,
        dtype=np.uint8,
    )
    assert set(np.unique(expected)) == {0, 1, 2, 255}
    image = scene(tmp_path, transform)
    assert (layer.window(image, WHOLE) == expected).all()
    for window in [*WINDOWS, *((0, 7 * i, HEIGHT, 7) for i in range(42))]:
        assert (layer.window(image, window) == cut(expected, window)).all()
    # Nor by another process.
    other = pickle.loads(pickle.dumps(layer))
    assert (other.window(image, WHOLE) == expected).all()


@pytest.mark.parametrize('name', ['a.gpkg', 'a.geojson', 'a.fgb', 'a.shp'])
@pytest.mark.parametrize('into', ['EPSG:4326', 'EPSG:3857', 'EPSG:32651'])
def test_layer_of_another_system(tmp_path, into, name):
    """Also of formats of which no part is read for itself."""
    shapes = blobs(4)
    path = write_vectors(tmp_path / name, shapes, into=into)
    own = write_vectors(tmp_path / 'b.gpkg', shapes)
    image = scene(tmp_path)
    names = dict(classes=('rest', 'blob'), background='rest')
    found = LabelLayer(path, **names).window(image, WHOLE)
    assert 0 < found.mean() < 1
    assert (found == LabelLayer(own, **names).window(image, WHOLE)).all()


def test_layer_of_a_zone_on_an_image_of_the_earth(tmp_path):
    shapes = [block(0, 0, WIDTH * 40, HEIGHT * 40)]  # 120 x 80 km
    path = write_vectors(tmp_path / 'a.gpkg', shapes)
    earth = write_raster(
        tmp_path / 'earth.tif',
        np.zeros((1800, 3600), np.uint8),
        from_origin(-180, 90, 0.1, 0.1),
        'EPSG:4326',
    )
    labels = LabelLayer(path).window(ImageFile(earth), (530, 2960, 20, 30))
    rows, columns = np.nonzero(labels == 0)
    # 117.0 to 118.3 degrees east, 36.1 to 35.4 north.
    assert (columns.min() + 2960, columns.max() + 2960) == (2970, 2982)
    assert (rows.min() + 530, rows.max() + 530) == (539, 545)


def test_background_ignored_values_and_missing_ones(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(notices, '_said', set())
    monkeypatch.setattr(notices, 'print_log', lambda text, *_, **__: said.append(text))
    shapes = [block(10 * i, 0, 10 * i + 10, 10) for i in range(4)]
    path = write_vectors(tmp_path / 'a.gpkg', shapes, kind=['b', 'a', 'cloud', None])
    image = scene(tmp_path)
    row = (5, 5, 1, 40)

    def found(**options):
        layer = LabelLayer(path, field='kind', **options)
        return layer.classes, layer.window(image, row)[0, ::10].tolist()

    assert found(ignore=['cloud']) == (('a', 'b'), [1, 0, 255, 255])
    assert '1 features have no kind' in said[0]
    classes, labels = found(ignore=['cloud'], background='soil')
    assert (classes, labels) == (('soil', 'a', 'b'), [2, 1, 255, 255])
    layer = LabelLayer(path, field='kind', ignore=['cloud'], background='soil')
    assert layer.window(image, (50, 0, 1, 1)) == 0
    assert found(label_map=dict(cloud=255, b='a')) == (('a',), [0, 0, 255, 255])
    assert found(classes=('b', 'cloud', 'a'))[1] == [0, 2, 1, 255]
    with pytest.raises(LabelError, match=r"kind=cloud stands for 'cloud', .*\(a, b\)"):
        found(classes=('a', 'b'))
    with pytest.raises(LabelError, match="background stands for 'soil'"):
        found(classes=('a', 'b', 'cloud'), background='soil')


def test_numbers_as_classes(tmp_path):
    shapes = [block(10 * i, 0, 10 * i + 10, 10) for i in range(3)]
    path = write_vectors(tmp_path / 'a.gpkg', shapes, code=[10.0, 2.0, 311.0])
    row, image = (5, 0, 1, 30), scene(tmp_path)
    layer = LabelLayer(path, field='code')
    assert layer.classes == ('2', '10', '311')  # in the order of numbers
    assert layer.window(image, row)[0, ::10].tolist() == [1, 0, 2]
    layer = LabelLayer(path, ABC, {10: 'c', 311: 0}, field='code')
    assert layer.window(image, row)[0, ::10].tolist() == [2, 2, 0]
    with pytest.raises(
        LabelError, match=r'code=10 stands for 10, .* 3 classes .*label_map=\{10: CLASS'
    ):
        LabelLayer(path, ABC, field='code')


def test_blanks_at_the_ends_of_a_text_say_nothing(tmp_path):
    shapes = [block(10 * i, 0, 10 * i + 10, 10) for i in range(4)]
    path = write_vectors(tmp_path / 'a.gpkg', shapes, kind=['b', ' b ', '', 'Öl'])
    layer = LabelLayer(path, field='kind', background='rest', ignore=['Öl '])
    assert layer.classes == ('rest', 'b')
    found = layer.window(scene(tmp_path), (5, 0, 1, 40))
    assert found[0, ::10].tolist() == [1, 1, 255, 255]
    assert BoxLayer(path, field='kind').classes == ('b', 'Öl')


@pytest.mark.parametrize('codes', [['10', '2', '33'], [10, 2, 33], [10.0, 2.0, 33.0]])
@pytest.mark.parametrize('name', [int, str])
def test_values_are_named_as_numbers_or_texts(tmp_path, monkeypatch, codes, name):
    said = []
    monkeypatch.setattr(notices, '_said', set())
    monkeypatch.setattr(notices, 'print_log', lambda text, *_, **__: said.append(text))
    shapes = [block(10 * i, 0, 10 * i + 10, 10) for i in range(3)]
    path = write_vectors(tmp_path / 'a.gpkg', shapes, code=codes)
    options = dict(label_map={name(10): 'water'}, ignore=[name(2)])
    layer = LabelLayer(path, field='code', **options)
    assert sorted(layer.classes) == ['33', 'water']
    found = layer.window(scene(tmp_path), (5, 0, 1, 30))[0, ::10]
    assert found[1] == 255
    assert layer.classes[found[0]] == 'water'
    assert not said
    LabelLayer(path, field='code', label_map={'ten': 255})
    assert re.search(r"names 'ten', but code has no such value; it has .*33", said[0])


def test_values_of_a_raster_may_be_written_as_text(tmp_path):
    values = np.array([[0, 10, 20]], np.uint8)
    path = write_raster(tmp_path / 'l.tif', values, None, None)
    image = ImageFile(write_raster(tmp_path / 'i.tif', values, None, None))
    layer = LabelLayer(path, ('x', 'y'), {'10': 'y'}, ['20'])
    assert layer.window(image, (0, 0, 1, 3)).tolist() == [[0, 1, 255]]
    with pytest.raises(LabelError, match="whole numbers, but .* names 'water'"):
        LabelLayer(path, ('x', 'y'), {'water': 1})
    with pytest.raises(LabelError, match='is a raster; field, background are about'):
        LabelLayer(path, ('x', 'y'), field='kind', background=0)


def test_one_class_without_a_field(tmp_path):
    path = write_vectors(tmp_path / 'roofs.gpkg', [block(0, 0, 10, 10)])
    row, image = (5, 0, 1, 20), scene(tmp_path)

    def found(**options):
        layer = LabelLayer(path, **options)
        return layer.classes, layer.window(image, row)[0, ::10].tolist()

    assert found() == (('roofs',), [0, 255])
    assert found(background='rest') == (('rest', 'roofs'), [1, 0])
    assert found(classes=('x', 'y'), background=1) == (('x', 'y'), [0, 1])
    with pytest.raises(LabelError, match='name the field that holds the class'):
        found(classes=('x', 'y'))
    with pytest.raises(LabelError, match=r'about the values of a field; name it'):
        found(label_map={1: 'x'})


def test_order_of_overlapping_polygons(tmp_path):
    shapes = [block(0, 0, 10, 10), block(0, 0, 10, 10)]
    path = write_vectors(
        tmp_path / 'a.gpkg', shapes, kind=['a', 'b'], year=[2024, 2019]
    )
    pixel, image = (5, 5, 1, 1), scene(tmp_path)
    assert LabelLayer(path, field='kind').window(image, pixel) == 1
    assert LabelLayer(path, field='kind', order='year').window(image, pixel) == 0
    with pytest.raises(LabelError, match="no field 'date'"):
        LabelLayer(path, field='kind', order='date')


def test_too_many_classes(tmp_path):
    shapes = [shapely.box(i, 0, i + 1, 1) for i in range(256)]
    path = write_vectors(tmp_path / 'a.gpkg', shapes, number=range(256))
    with pytest.raises(LabelError, match='has 256 classes .* right field'):
        LabelLayer(path, field='number')


def test_scene_beside_the_polygons_is_background(tmp_path):
    path = write_vectors(tmp_path / 'a.gpkg', [block(400, 0, 410, 10)])
    layer, image = LabelLayer(path, background='rest'), scene(tmp_path)
    assert not layer.overlaps(image)
    assert layer.counts(image, WHOLE).tolist() == [HEIGHT * WIDTH, 0]


def test_what_is_neither(tmp_path):
    (tmp_path / 'a.txt').write_text('?')
    with pytest.raises(LabelError, match=r'a\.txt: cannot be read as a vector layer'):
        LabelLayer(tmp_path / 'a.txt')
    with pytest.raises(FileNotFoundError, match=r'b\.gpkg'):
        LabelLayer(tmp_path / 'b.gpkg')


@pytest.mark.parametrize('name', ['a.gpkg', 'a.geojson'])
def test_what_is_read_of_a_vector_layer(tmp_path, monkeypatch, name):
    """What lies under an image, once, or all of it, once for all images."""
    shapes = [block(i * 400, 10, i * 400 + 20, 30) for i in range(5)]
    path = write_vectors(tmp_path / name, shapes, into='EPSG:4326')
    read = []

    def watched(*args):
        read.append(read_vectors(*args))
        return read[-1]

    monkeypatch.setattr('cmid_mm.labels.polygon_labels.read_vectors', watched)
    layer = LabelLayer(path)
    for i in (0, 1, 3):
        (tmp_path / str(i)).mkdir()
        image = scene(tmp_path / str(i), STRAIGHT @ Affine.translation(i * 400, 0))
        for _ in range(2):
            assert layer.counts(image, WHOLE).tolist() == [400]
    assert [len(part) for part in read] == ([1] * 3 if name == 'a.gpkg' else [5])


def test_corners_are_held_ready_up_to_a_number():
    recent = Recent(10, len)
    made = []

    def get(key, size):
        return recent.get(key, lambda: made.append(key) or 'x' * size)

    for key, size in [('a', 4), ('b', 4), ('a', 4), ('c', 4), ('a', 4), ('b', 4)]:
        assert len(get(key, size)) == size
    assert made == ['a', 'b', 'c', 'b']
    assert get('large', 20) == get('large', 20) == 'x' * 20
    assert made[4:] == ['large']


def test_layers_of_many_images(tmp_path):
    """Those that were used last are held ready, each for its own image."""
    labels = values(HEIGHT, WIDTH)
    layer = LabelLayer(write_raster(tmp_path / 'labels.tif', labels), ABC)
    images = []
    for i in range(20):
        (tmp_path / str(i)).mkdir()
        images.append(scene(tmp_path / str(i), STRAIGHT @ Affine.translation(i, 0)))
    for _ in range(2):
        for i, image in enumerate(images):
            assert (layer.window(image, (0, 0, 9, 9)) == labels[:9, i : i + 9]).all()
    assert len(layer._source._on._items) == 16


def test_a_class_named_twice_is_refused(tmp_path):
    Image.new('L', (8, 8)).save(tmp_path / 'a.png')
    with pytest.raises(LabelError, match=r"a\.png: classes has 'rye' more than once"):
        LabelLayer(tmp_path / 'a.png', classes=['rye', 'hay', 'rye'])


def test_a_folder_of_masks_is_no_layer(tmp_path):
    pytest.importorskip('pyogrio')
    (tmp_path / 'masks').mkdir()
    Image.new('L', (8, 8)).save(tmp_path / 'masks' / 'a.png')
    with pytest.raises(LabelError, match=r'named by {stem}: .*masks/{stem}\.png'):
        LabelLayer(tmp_path / 'masks', classes=['rye', 'hay'])
