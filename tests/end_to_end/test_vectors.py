# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Predictions as vector layers, and inside an area only, on the demo configs."""

import csv

import numpy as np
import pytest
import rasterio
from rasterio.features import rasterize
from rasterio.transform import from_origin

from cmid_mm.configs import dataset_meta
from cmid_mm.demo_scenes import make_scene
from cmid_mm.inference import Inferencer
from cmid_mm.inference.areas import OutsideAreaError
from cmid_mm.inference.segmentation import Probabilities
from cmid_mm.inference.task import Task
from cmid_mm.inference.vector_files import PolygonOptions
from cmid_mm.labels.vectors import Area

from .trained_tasks import dump, files

pyogrio = pytest.importorskip('pyogrio')
geopandas = pytest.importorskip('geopandas')
shapely = pytest.importorskip('shapely')

WEST, NORTH = 500000, 3000000


def write_scene(path, seed=5, west=WEST, crs='EPSG:32650'):
    """A raster of 200 x 160 pixels of half a metre."""
    pixels = make_scene(seed, 3, 200).image[:, :160]
    place = dict(crs=crs, transform=from_origin(west, NORTH, 0.5, 0.5))
    size = dict(height=200, width=160, count=3, dtype='uint8')
    with rasterio.open(path, 'w', driver='GTiff', **size, **place) as target:
        target.write(pixels.transpose(2, 0, 1))
    return path


def write_area(path, polygon, crs='EPSG:32650', to=None):
    """A layer of one polygon, in column and row of the scene."""
    on_map = shapely.affinity.affine_transform(polygon, (0.5, 0, 0, -0.5, WEST, NORTH))
    frame = geopandas.GeoDataFrame(geometry=[on_map], crs=crs)
    (frame if to is None else frame.to_crs(to)).to_file(path)
    return path


@pytest.fixture
def scene(tmp_path):
    return write_scene(tmp_path / 'scene.tif')


@pytest.fixture(scope='module')
def inferencers(trained):
    """One of each task, made once."""
    made = {}

    def get(task):
        if task not in made:
            made[task] = Inferencer(*trained(task))
        return made[task]

    return get


@pytest.fixture
def predict(inferencers, tmp_path, monkeypatch):
    """Predict images with some settings of the task; returns the folder of results."""

    def predict_to(name, *images, out='out', window=None, overlap=None, **settings):
        inferencer = inferencers(name)
        with monkeypatch.context() as patch:
            for key, value in settings.items():
                patch.setattr(inferencer.task, key, value)
            size = dict(window=window, overlap=overlap, batch_size=2)
            list(inferencer.predict_to(tmp_path / out, images, **size))
        return tmp_path / out

    return predict_to


def read_mask(path):
    with rasterio.open(path) as source:
        return source.read(1)


def burned(frame, classes, fill=255):
    """The mask that polygons came from."""
    values = [classes.index(name) for name in frame['class']]
    return rasterize(
        zip(frame.geometry, values, strict=True),
        out_shape=(200, 160),
        fill=fill,
        transform=from_origin(WEST, NORTH, 0.5, 0.5),
        dtype='uint8',
    )


@pytest.mark.parametrize('window', [96, 0], ids=['windows', 'whole'])
def test_polygons_are_those_of_the_mask(window, predict, inferencers, scene):
    out = predict(
        'segmentation',
        scene,
        window=window,
        probabilities=Probabilities('largest', 16),
        polygons=PolygonOptions(),
    )
    assert files(out) == {
        'scene.tif',
        'scene.tif.aux.xml',
        'scene.gpkg',
        'scene_prob.tif',
        'scene_overlay.jpg',
    }
    frame = pyogrio.read_dataframe(out / 'scene.gpkg')
    mask = read_mask(out / 'scene.tif')
    assert frame.crs == 'EPSG:32650' and len(np.unique(mask)) > 1
    assert (burned(frame, inferencers('segmentation').task.classes) == mask).all()
    assert (frame['area'] == frame.geometry.area).all()
    assert frame['area'].sum() == mask.size / 4
    # Means of the pixels, but for their 8 bits.
    scores = read_mask(out / 'scene_prob.tif') / 65534
    for region in frame.nlargest(3, 'area').itertuples():
        inside = rasterize(
            [region.geometry],
            out_shape=mask.shape,
            transform=from_origin(WEST, NORTH, 0.5, 0.5),
        )
        assert region.score == pytest.approx(scores[inside > 0].mean(), abs=2e-3)


def test_polygons_of_change(predict, scene, tmp_path):
    pair = scene, write_scene(tmp_path / 'second.tif', seed=6)
    out = predict('change', pair, window=96, polygons=PolygonOptions())
    frame = pyogrio.read_dataframe(out / 'scene.gpkg')
    changed = read_mask(out / 'scene.tif') == 255
    assert len(set(frame['class'])) == 1 and changed.any()
    assert ((burned(frame, ['', *set(frame['class'])], 0) == 1) == changed).all()


def test_tiles_of_a_large_image(predict, inferencers, scene, tmp_path):
    with rasterio.open(scene, 'r+') as source:
        pixels = source.read()
        pixels[:, :64, :64] = 0  # one tile without data
        source.nodata = 0
        source.write(pixels)
    out = predict('scene', scene, window=64)
    assert files(out) == {'scene.csv', 'scene.geojson', 'scene.jpg'}
    rows = list(csv.DictReader((out / 'scene.csv').open()))
    frame = pyogrio.read_dataframe(out / 'scene.geojson')
    assert len(rows) == len(frame) == 4 * 3 - 1
    assert [row['class'] for row in rows] == list(frame['class'])
    assert [float(row['score_2']) for row in rows] == list(frame['score_2'])
    # The tiles cover what holds data, once.
    assert frame['area'].sum() == frame.union_all().area == (200 * 160 - 64 * 64) / 4
    with rasterio.open(scene) as source:
        (last,) = (row for row in rows if row['top'] == '64' and row['left'] == '0')
        window = rasterio.windows.Window(0, 64, 64, 64)
        alone = source.read(window=window)
        profile = dict(source.profile, height=64, width=64)
    with rasterio.open(tmp_path / 'tile.tif', 'w', **profile) as target:
        target.write(alone)
    (whole,) = inferencers('scene')(tmp_path / 'tile.tif')
    name, score = whole.best[0]
    assert last['class'] == name
    assert float(last['score']) == pytest.approx(score, abs=1e-4)


# -- Inside an area ----------------------------------------------------------------

L_SHAPE = [(10, 10), (70, 10), (70, 120), (40, 120), (40, 60), (10, 60)]


@pytest.mark.parametrize('window', [48, 0], ids=['windows', 'whole'])
def test_mask_holds_nothing_outside_the_area(window, predict, scene, tmp_path):
    shape = shapely.Polygon(L_SHAPE)
    area = Area(write_area(tmp_path / 'area.geojson', shape, to='EPSG:4326'))
    polygons = PolygonOptions()
    out = predict('segmentation', scene, window=window, area=area, polygons=polygons)
    inside = rasterize([shape], out_shape=(200, 160)) > 0
    mask = read_mask(out / 'scene.tif')
    assert ((mask != 255) == inside).all()
    frame = pyogrio.read_dataframe(out / 'scene.gpkg')
    assert frame['area'].sum() == inside.sum() / 4
    # Inside it is what it would be without the area, where the same windows reach.
    everything = read_mask(
        predict('segmentation', scene, window=window, out='all') / 'scene.tif'
    )
    assert (mask[inside] == everything[inside]).mean() > 0.9


def test_windows_outside_are_not_computed(inferencers, scene, tmp_path, monkeypatch):
    inferencer = inferencers('segmentation')
    area = write_area(tmp_path / 'area.gpkg', shapely.box(100, 150, 120, 170))
    monkeypatch.setattr(inferencer.task, 'area', Area(area))
    read = []
    sample = inferencer.task.sample

    def counted(image, window=None):
        read.append(window)
        return sample(image, window)

    monkeypatch.setattr(inferencer.task, 'sample', counted)
    (result,) = inferencer(scene, window=40, overlap=0)
    assert read == [(120, 80, 40, 40), (120, 120, 40, 40), (160, 80, 40, 40),
                    (160, 120, 40, 40)]  # fmt: skip
    assert (result.mask != 255).sum() == 20 * 20


def test_boxes_and_tiles_with_their_centre_outside_are_left_out(
    predict, scene, tmp_path
):
    area = Area(write_area(tmp_path / 'area.gpkg', shapely.box(10, 10, 75, 130)))
    options = dict(window=96, overlap=0, score_threshold=0.5)

    def centres(out):
        lines = (out / 'scene.txt').read_text().splitlines()
        corners = [list(map(float, line.split()[:8])) for line in lines]
        return np.array(corners).reshape(-1, 4, 2).mean(1)

    found = centres(predict('detection', scene, area=area, **options))
    assert len(found)
    assert ((found >= (9.9, 9.9)) & (found <= (75.1, 130.1))).all()
    out = predict('scene', scene, area=area, window=40, out='tiles')
    rows = csv.DictReader((out / 'scene.csv').open())
    tops_and_lefts = {(int(row['top']), int(row['left'])) for row in rows}
    assert tops_and_lefts == {(top, left) for top in (0, 40, 80) for left in (0, 40)}
    area = Area(write_area(tmp_path / 'small.gpkg', shapely.box(10, 10, 12, 12)))
    with pytest.raises(OutsideAreaError, match='no tile has its centre in the area'):
        predict('scene', scene, area=area, window=40, out='none')
    assert not list((tmp_path / 'none').iterdir())


# -- Stopped and gone on with ------------------------------------------------------


@pytest.mark.parametrize('task', ['segmentation', 'scene'])
def test_a_stop_changes_nothing(task, predict, scene, monkeypatch):
    options = dict(window=64, overlap=16)
    if task == 'segmentation':
        options['polygons'] = PolygonOptions()
    whole = predict(task, scene, out='whole', **options)
    sample, count = Task.sample, []

    def counted(self, image, window=None):
        count.append(window)
        if len(count) == 9:
            raise KeyboardInterrupt
        return sample(self, image, window)

    monkeypatch.setattr(Task, 'sample', counted)
    with pytest.raises(KeyboardInterrupt):
        predict(task, scene, out='twice', **options)
    twice = whole.parent / 'twice'
    assert not files(twice) & files(whole)
    assert list(twice.glob('.scene.unfinished/*.done'))
    predict(task, scene, out='twice', **options)
    # The second time fewer windows were left.
    assert len(count) - 9 < 4 * 3
    assert files(twice) == files(whole)
    for name in files(whole):
        if name.endswith('.gpkg'):  # holds the time of its making
            one, two = (pyogrio.read_dataframe(out / name) for out in (whole, twice))
            assert one.to_json() == two.to_json()
        else:
            assert (whole / name).read_bytes() == (twice / name).read_bytes(), name


# -- The command -------------------------------------------------------------------


@pytest.fixture
def command(run, trained, tmp_path):
    """Run the command on the segmentation; returns what it exits with."""
    cfg, checkpoint = trained('segmentation')
    config = dump(cfg, tmp_path / 'config.py')
    return lambda *words: run('predict.py', config, checkpoint, *words)


def test_command_with_polygons_in_an_area(command, trained, scene, tmp_path, capsys):
    area = write_area(tmp_path / 'area.gpkg', shapely.box(10, 10, 75, 140))
    far = write_scene(tmp_path / 'far.tif', west=WEST + 5000)
    background = dataset_meta(trained('segmentation')[0], {})['classes'][0]
    out = ('--out', tmp_path / 'out', '--window', 96, '--aoi', area)
    polygons = ('--polygons', '--min-area', 2, '--background', background)
    assert command(scene, far, *out, *polygons) is None
    said = capsys.readouterr().out
    assert f'left out 1 image outside of {area}' in said
    assert {'scene.tif', 'scene.gpkg'} < files(tmp_path / 'out')
    assert not {'far.tif', 'far.gpkg'} & files(tmp_path / 'out')
    frame = pyogrio.read_dataframe(tmp_path / 'out' / 'scene.gpkg')
    assert frame['area'].min() >= 2 and background not in set(frame['class'])
    assert f'no image lies in the area of {area}' in command(far, *out)


def test_command_with_what_does_not_fit(command, data, scene, tmp_path):
    out = ('--out', tmp_path / 'out')
    area = tmp_path / 'area.shp'
    geopandas.GeoDataFrame(geometry=[shapely.box(0, 0, 1, 1)]).to_file(area)
    assert 'no reference system (CRS)' in command(scene, *out, '--aoi', area)
    polygons = ('--polygons', '--background', 'sea')
    assert "'sea' is none of the classes" in command(scene, *out, *polygons)
    assert '--min-area and --background' in command(scene, *out, '--min-area', 2)
    polygons = ('--polygons', '--min-area', -1)
    assert '--min-area -1: expected an area' in command(scene, *out, *polygons)
    polygons = ('--polygons', '--format', 'geojson')
    assert '--polygons writes gpkg' in command(scene, *out, *polygons)
    assert 'is of --probabilities' in command(scene, *out, '--probability-bits', 16)
    assert '--score-thr is for detection' in command(scene, *out, '--score-thr', 0.5)
    assert not (tmp_path / 'out').exists()
    area = write_area(tmp_path / 'area.gpkg', shapely.box(10, 10, 75, 140))
    picture = sorted((data / 'segmentation/test/img').glob('*.png'))[0]
    error = command(picture, *out, '--aoi', area)
    assert '1 of 1 images could not be predicted' in error
    assert f'cannot be laid upon {picture}, which is not georeferenced' in error
