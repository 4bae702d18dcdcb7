# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import csv
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import from_origin

from cmid_mm.embeddings import hits as sheets
from cmid_mm.embeddings.hits import write_hits, write_sheet
from cmid_mm.embeddings.index import Index, UnusableIndexError
from cmid_mm.embeddings.labelling import WindowClassifier, marked_windows
from cmid_mm.embeddings.making import EmbeddingOptions, Maker
from cmid_mm.embeddings.maps import write_classes
from cmid_mm.embeddings.queries import Queries
from cmid_mm.embeddings.searching import Shown, nearest, unit
from cmid_mm.images.pixels import Pixels
from cmid_mm.images.writing import write_bands, write_image
from cmid_mm.labels.errors import LabelError
from cmid_mm.restartable import OtherSettingsError
from tests.full_disk import full_disk

geopandas = pytest.importorskip('geopandas')
pytest.importorskip('pyarrow')

#: The window of the chip, a copy of which lies in another scene.
CHIP = slice(32, 64), slice(64, 96)


def write_scene(path, pixels, zone=32650, left=5e5):
    with rasterio.open(
        path,
        'w',
        driver='GTiff',
        height=pixels.shape[1],
        width=pixels.shape[2],
        count=3,
        dtype='uint8',
        crs=f'EPSG:{zone}',
        transform=from_origin(left, 3e6, 0.5, 0.5),
    ) as target:
        target.write(pixels)
    return path


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Two scenes of two zones, a config and a checkpoint, and their index.

    The left halves are dark, the right ones bright.
    """
    place = tmp_path_factory.mktemp('search')
    rng = np.random.default_rng(0)
    scenes = []
    for _ in range(2):
        pixels = rng.integers(0, 60, (3, 96, 128), np.uint8)
        pixels[:, :, 64:] += 150
        scenes.append(pixels)
    scenes[0][:, CHIP[0], CHIP[1]] = rng.integers(0, 256, (3, 32, 32), np.uint8)
    scenes[1][:, 64:96, 32:64] = scenes[0][:, CHIP[0], CHIP[1]]
    (place / 'scenes').mkdir()
    for pixels, name, zone in zip(scenes, 'ab', (32650, 32651), strict=True):
        write_scene(place / 'scenes' / f'{name}.tif', pixels, zone)
    chip = scenes[0][:, CHIP[0], CHIP[1]].transpose(1, 2, 0)
    write_image(place / 'chip.png', chip)
    config, checkpoint = toy_run(place)
    options = EmbeddingOptions(config, checkpoint, window=32)
    maker = Maker(options)
    images = maker.task.find([place / 'scenes'])
    assert len(list(maker.write(place / 'index', images))) == 2
    return place


def toy_run(place, seed=0):
    """Config and checkpoint of a classifier with a thin ResNet."""
    config = place / 'toy.py'
    config.write_text(
        "default_scope = 'mmpretrain'\n"
        "custom_imports = dict(imports=['cmid_mm'])\n"
        "model = dict(type='ImageClassifier', backbone=dict(type='ResNet', depth=18, "
        'stem_channels=8, base_channels=8), neck=dict(type="GlobalAveragePooling"), '
        "head=dict(type='LinearClsHead', num_classes=2, in_channels=64), "
        'data_preprocessor=dict(mean=[110.0] * 3, std=[60.0] * 3))\n'
        'test_dataloader = dict(dataset=dict(type="ImageryDataset", pipeline=[dict('
        "type='LoadImagery'), dict(type='PackInputs')]))\n"
    )
    from cmid_mm.configs import build_model, load_config

    torch.manual_seed(seed)
    model = build_model(load_config(str(config)))
    checkpoint = place / f'toy{seed}.pth'
    torch.save(dict(state_dict=model.state_dict(), meta={}), checkpoint)
    return str(config), str(checkpoint)


def found(hits):
    return [(hit.entry.file[-5:], hit.entry.window) for hit in hits]


ORIGINAL = 'a.tif', (32, 64, 32, 32)
COPY = 'b.tif', (64, 32, 32, 32)


def test_copy_of_a_chip_is_found_first(folder):
    index = Index(folder / 'index')
    example = Queries(index).example(str(folder / 'chip.png'))
    hits = nearest(index, example.vector[None], 5)
    assert found(hits)[:2] == [ORIGINAL, COPY] and len(index) == 24
    assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5]
    assert hits[1].similarity == pytest.approx(1, abs=1e-4)
    assert hits[2].similarity < 0.999


@pytest.mark.parametrize('library', ['exact', 'faiss'])
def test_point_of_a_raster(folder, library):
    """Its window asks, which may be left out of what is found."""
    if library == 'faiss':
        pytest.importorskip('faiss')
    index = Index(folder / 'index')
    scene = folder / 'scenes' / 'a.tif'
    x, y = 5e5 + 0.5 * 70, 3e6 - 0.5 * 40
    example = Queries(index, 'none', 'none').example(f'{scene}@{x},{y}')
    assert example.shown == Shown(str(scene), ORIGINAL[1])
    with_own = nearest(index, example.vector[None], 2, library=library)
    without = nearest(
        index, example.vector[None], 1, without=[example.shown], library=library
    )
    assert found(with_own) == [ORIGINAL, COPY] and found(without) == [COPY]


def test_point_of_the_map(folder):
    index = Index(folder / 'index')
    centre = next(iter(index.blocks())).outlines[6].centroid  # of the original
    queries = Queries(index, 'none', 'none')
    example = queries.example(f'@{centre.x:.9f},{centre.y:.9f}')
    assert example.shown.window == ORIGINAL[1]
    with pytest.raises(ValueError, match='no window of .* holds this point'):
        queries.example('@10,50')
    with pytest.raises(ValueError, match='outside of .*EPSG:32650'):
        queries.example(f'{folder / "scenes" / "a.tif"}@117,27')


def test_several_examples():
    """The mean of unit vectors, or the nearest of them."""

    class Two:
        width, folder = 2, 'two'
        vectors = np.array([[5, 0], [0, 0.1], [1, 1]], np.float32)

        def blocks(self):
            from cmid_mm.embeddings.index import Block

            for row, vector in enumerate(self.vectors):
                yield Block(row, vector[None], np.zeros((1, 4)), np.ones(1), str(row))

        def entries(self, numbers):
            return numbers

        def __len__(self):
            return len(self.vectors)

    examples = np.array([[9, 0], [0, 1]], np.float32)
    hits = nearest(Two(), examples, 3, centre=False)
    assert [hit.entry for hit in hits] == [2, 0, 1]
    assert [hit.similarity for hit in hits] == pytest.approx([1, 0.5**0.5, 0.5**0.5])
    hits = nearest(Two(), examples, 2, 'max', centre=False)
    assert [hit.entry for hit in hits] == [0, 1] and hits[0].similarity == 1
    # The mean of the unit vectors is (1 + sqrt(1/2)) / 3 in both.
    mean = np.full(2, (1 + 0.5**0.5) / 3)
    away, other = (vector - mean for vector in np.eye(2))
    (hit,) = nearest(Two(), examples[:1], 1)
    assert hit.entry == 0 and hit.similarity == pytest.approx(1)
    hits = nearest(Two(), examples[:1], 3)
    expected = away @ other / (away @ away)
    assert hits[-1].entry == 1 and hits[-1].similarity == pytest.approx(expected)
    assert np.array_equal(unit(np.zeros((1, 2), np.float32)), [[0, 0]])


def test_another_model_is_refused(folder):
    _, other = toy_run(folder, seed=1)
    index = Index(folder / 'index')
    queries = Queries(index, checkpoint=other)
    with pytest.raises(UnusableIndexError, match='another model than .*toy1.pth'):
        queries.example(str(folder / 'chip.png'))
    with pytest.raises(UnusableIndexError, match='vectors of 64 numbers.* has 3'):
        nearest(index, np.ones((1, 3), np.float32), 1)
    options = EmbeddingOptions(str(folder / 'toy.py'), other, window=32)
    with pytest.raises(OtherSettingsError, match='another model; give another folder'):
        maker = Maker(options)
        images = maker.task.find([folder / 'scenes'])
        next(maker.write(folder / 'index', images))
    more = folder / 'index' / 'more'
    with pytest.raises(OtherSettingsError, match='more lies in the index'):
        maker.write(more, images)
    assert not more.exists()
    list(maker.write(folder / 'other', images))
    (folder / 'other').rename(more)
    with pytest.raises(UnusableIndexError, match='another model than'):
        Index(folder / 'index')
    for path in more.iterdir():
        path.unlink()


def test_what_is_refused_leaves_no_folder(folder, tmp_path):
    """So that the mended command is not refused for what the first one noted."""
    config, checkpoint = str(folder / 'toy.py'), str(folder / 'toy0.pth')
    scenes = [folder / 'scenes' / name for name in ('a.tif', 'b.tif')]
    maker = Maker(EmbeddingOptions(config, checkpoint, dense=True, components=999))
    with pytest.raises(ValueError, match='999 components'):
        maker.write(tmp_path / 'out', scenes)
    maker = Maker(EmbeddingOptions(config, checkpoint, window=32))
    with pytest.raises(ValueError, match='same output name'):
        maker.write(tmp_path / 'out', [*scenes, folder / 'scenes' / 'a.png'])
    failed = []
    (tmp_path / 'broken.tif').write_bytes(b'II*')
    images = [tmp_path / 'broken.tif']
    list(maker.write(tmp_path / 'out', images, on_error=lambda *e: failed.append(e)))
    assert len(failed) == 1
    maker.options = replace(maker.options, cfg_options={'data_root': 'long' * 200})
    with full_disk(700), pytest.raises(OSError, match=r"too large: '.*index.json'"):
        list(maker.write(tmp_path / 'out', scenes))
    assert not (tmp_path / 'out').exists()
    maker = Maker(EmbeddingOptions(config, checkpoint, window=32))
    list(maker.write(tmp_path / 'out', scenes))
    maker = Maker(EmbeddingOptions(config, checkpoint, dense=True, components=2))
    list(maker.write(tmp_path / 'out' / 'features', scenes))
    assert len(Index(tmp_path / 'out')) == 24
    with pytest.raises(UnusableIndexError, match='holds feature rasters'):
        Index(tmp_path / 'out' / 'features')


def test_an_index_of_one_window(folder, tmp_path):
    """An image is most similar to itself, though it is the mean of the index."""
    options = EmbeddingOptions(str(folder / 'toy.py'), str(folder / 'toy0.pth'))
    list(Maker(options).write(tmp_path / 'one', [folder / 'chip.png']))
    index = Index(tmp_path / 'one')
    (hit,) = nearest(index, next(index.blocks()).vectors, 1)
    assert hit.similarity == pytest.approx(1, abs=1e-6)


def test_no_index(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match='make an index by cmid-mm embed'):
        Index(tmp_path / 'none')
    with pytest.raises(UnusableIndexError, match='holds no vectors'):
        Index(tmp_path)
    content = (folder / 'index' / 'a.parquet').read_bytes()
    (tmp_path / 'a.parquet').write_bytes(content[: len(content) // 2])
    with pytest.raises(UnusableIndexError, match='a.parquet: is broken'):
        Index(tmp_path)
    (tmp_path / 'a.parquet').rename(tmp_path / 'a.npz')
    with pytest.raises(UnusableIndexError, match='a.npz: is broken'):
        Index(tmp_path)


def test_other_bands_are_refused(folder):
    pixels = Pixels(np.ones((32, 32, 5), np.uint8), None)
    write_bands(folder / 'five.tif', pixels, None)
    with pytest.raises(ValueError, match='five.tif.* band'):
        Queries(Index(folder / 'index')).example(str(folder / 'five.tif'))


def test_what_was_found_as_files(folder, tmp_path):
    index = Index(folder / 'index')
    example = Queries(index).example(str(folder / 'chip.png'))
    hits = nearest(index, example.vector[None], 7)
    write_sheet(tmp_path / 'sheet.png', [example], hits, index.reading)
    sheet = cv2.imread(str(tmp_path / 'sheet.png'))
    # A row of the query, two of what was found, each 160 and a title of 22 high; the
    # query says in another line what it is.
    assert sheet.shape[:2] == (3 * 182 + 22 + 2 + 3 * 4, 5 * 160 + 4 * 4)
    chip = cv2.resize(cv2.imread(str(folder / 'chip.png')), (160, 160), interpolation=0)
    assert np.array_equal(sheet[44:204, :160], chip)
    first = sheet[204 + 2 + 8 + 22 :][:160, :160]
    assert np.array_equal(first, chip)
    for ending in ('csv', 'gpkg', 'geojson', 'parquet'):
        write_hits(tmp_path / f'hits.{ending}', hits)
    rows = list(csv.DictReader((tmp_path / 'hits.csv').open()))
    assert [row['rank'] for row in rows] == list('1234567')
    assert rows[0]['top'] == '32' and float(rows[0]['similarity']) > 0.999
    for name in ('hits.gpkg', 'hits.geojson', 'hits.parquet'):
        read = geopandas.read_parquet if name.endswith('t') else geopandas.read_file
        frame = read(tmp_path / name)
        assert frame.crs == 'EPSG:4326' and list(frame['rank'])[-1] == 7
        x, y = frame.geometry[:1].to_crs(32650).iloc[0].centroid.coords[0]
        assert (x, y) == pytest.approx((5e5 + 40, 3e6 - 24), abs=1e-3)


def test_a_sheet_names_what_was_sought(folder, tmp_path, monkeypatch):
    index = Index(folder / 'index')
    scene = folder / 'scenes' / 'a.tif'
    queries = Queries(index)
    examples = [
        queries.example(str(folder / 'chip.png')),
        queries.example(f'{scene}@500035,2999980'),
    ]
    lines = []

    def titled(image, line):
        lines.append(line)
        return image

    monkeypatch.setattr(sheets, 'titled', titled)
    write_sheet(tmp_path / 'sheet.png', examples, [], index.reading)
    # From the lowest line up.
    assert lines == ['query 1', 'chip.png', '@500035,2999980', 'a.tif']


# -- Few labels --------------------------------------------------------------------


def write_marks(path, marks, crs='EPSG:32650'):
    """Points by column and row of scene a, with a class."""
    points = [
        geopandas.points_from_xy([5e5 + c / 2], [3e6 - r / 2])[0] for c, r in marks
    ]
    frame = geopandas.GeoDataFrame(
        {'kind': list(marks.values())}, geometry=points, crs='EPSG:32650'
    )
    frame.to_crs(crs).to_file(path)
    return path


MARKS = {(10, 10): 'dark', (40, 70): 'dark', (100, 20): 'bright', (100, 90): 'bright'}


def test_few_labels_to_a_map(folder, tmp_path):
    """Of scenes in two zones, marked in one of them, in longitude and latitude."""
    index = Index(folder / 'index')
    path = write_marks(tmp_path / 'm.geojson', MARKS | {(-50, 5): 'dark'}, 'EPSG:4326')
    marked = marked_windows(index, path, 'kind')
    assert (len(marked.classes), marked.outside) == (4, 1)
    classifier = WindowClassifier(marked)
    assert classifier.classes == ['bright', 'dark']
    table = tmp_path / 'classes.gpkg'
    counts = write_classes(index, classifier, [table], tmp_path / 'maps')
    assert sum(counts.values()) == 24
    frame = geopandas.read_file(table)
    noise = (
        (frame['file'].str.endswith('b.tif')) & (frame.top == 64) & (frame.left == 32)
    )
    noise |= (
        (frame['file'].str.endswith('a.tif')) & (frame.top == 32) & (frame.left == 64)
    )
    expected = np.where(frame.left >= 64, 'bright', 'dark')
    assert (frame['class'] == expected)[~noise].all() and noise.sum() == 2
    assert frame.probability.between(0.5, 1).all()
    with rasterio.open(tmp_path / 'maps' / 'b.tif') as drawn:
        values = drawn.read(1)
        assert (drawn.crs.to_epsg(), drawn.shape, drawn.nodata) == (
            32651,
            (96, 128),
            255,
        )
        assert json.loads(drawn.tags(1)['CLASSES']) == ['bright', 'dark']
    assert (values[:, 64:] == 0).all() and (values[:64, :64] == 1).all()


def test_marks_of_several_classes_in_a_window(folder, tmp_path):
    """Teach nothing; whole numbers stay whole, multi-points are points."""
    path = write_marks(tmp_path / 'm.gpkg', MARKS | {(12, 12): 'bright'})
    marked = marked_windows(Index(folder / 'index'), path, 'kind')
    assert (sorted(marked.classes), marked.mixed) == (['bright', 'bright', 'dark'], 1)
    frame = geopandas.read_file(path)
    frame['kind'] = [1, 1, 2, 2, None]
    frame = frame.dissolve('kind', as_index=False, dropna=False)
    frame.to_file(path)
    marked = marked_windows(Index(folder / 'index'), path, 'kind')
    assert (sorted(marked.classes), marked.mixed) == (['1', '1', '2', '2'], 0)


@pytest.mark.parametrize(
    ('marks', 'text'),
    [
        (
            {(10, 10): 'dark', (40, 70): 'dark'},
            "all marked windows are of one class, 'dark'",
        ),
        ({(-10, 10): 'dark'}, 'none of the 1 points lies in a window'),
    ],
)
def test_marks_that_do_not_do(folder, tmp_path, marks, text):
    path = write_marks(tmp_path / 'm.gpkg', marks)
    with pytest.raises(LabelError, match=text):
        marked_windows(Index(folder / 'index'), path, 'kind')
    with pytest.raises(LabelError, match="no field 'class'; it has kind"):
        marked_windows(Index(folder / 'index'), path, 'class')
