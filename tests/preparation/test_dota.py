# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import importlib.util
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio

from cmid_mm.labels.dota import parse_boxes
from cmid_mm.polygons import share_inside
from cmid_mm.preparation import PreparationError, prepare
from cmid_mm.preparation.dior import DIORRPreparation
from cmid_mm.preparation.dota import DOTAMultiScalePreparation, DOTAPreparation
from cmid_mm.preparation.dota_tiles import (
    TileSettings,
    tile_places,
    tile_text,
    write_labelled_tiles,
)
from cmid_mm.preparation.sources import SourceFile

SMALL = dict(size=64, gap=16, complete='no')
LABEL = """imagesource:GoogleEarth
gsd:0.3
4 4 20 4 20 12 4 12 ship 0
56 30 76 30 76 40 56 40 plane 1
90 70 99 70 99 79 90 79 small-vehicle 0
"""


def image(width: int, height: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(1, 255, (height, width, 3), np.uint8)


def write_image(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels)


@pytest.fixture
def download(tmp_path: Path) -> Path:
    source = tmp_path / 'source'
    for split, names in (('train', ['P0001', 'P0003']), ('val', ['P0002'])):
        for name in names:
            write_image(source / split / 'images' / f'{name}.png', image(100, 80))
            label = source / split / 'labelTxt-v1.0' / f'{name}.txt'
            label.parent.mkdir(exist_ok=True)
            label.write_text(LABEL)
    other = source / 'train' / 'labelTxt-v1.5' / 'P0001.txt'
    other.parent.mkdir()
    other.write_text('a label of another version')
    write_image(source / 'test' / 'images' / 'P0009.png', image(50, 40))
    return source


def test_a_row_of_tiles_ends_with_the_image() -> None:
    places = tile_places(100, 40, [64], [16])
    assert places == [(64, 0, 0), (64, 36, 0)]  # 64 - 16 = 48 is moved back to 36
    assert tile_places(2048, 1024, [1024], [200]) == [
        (1024, 0, 0),
        (1024, 824, 0),
        (1024, 1024, 0),
    ]


def test_small_image_has_one_tile_and_no_tile_is_mostly_padding() -> None:
    assert tile_places(10, 10, [64], [16]) == [(64, 0, 0)]
    # At size 128 the image fills 61 % of the tile, at 256 far less.
    assert tile_places(100, 100, [128, 256], [0, 0]) == [(128, 0, 0)]


def test_share_inside() -> None:
    square = np.float32([[-5, 2], [5, 2], [5, 6], [-5, 6]])
    assert share_inside(square, 10, 10) == pytest.approx(0.5)
    assert share_inside(square + [5, 0], 10, 10) == 1
    assert share_inside(square + [-5, 0], 10, 10) == 0
    diamond = np.float32([[0, -4], [4, 0], [0, 4], [-4, 0]])
    assert share_inside(diamond, 10, 10) == pytest.approx(0.25)


def test_truncated_boxes_become_difficult_and_small_rests_vanish() -> None:
    boxes = parse_boxes(LABEL.encode(), 'label')
    # Of the plane, x 56 to 76, 40 % lie left of 64 and 0.8 right of 60.
    assert tile_text(boxes, 64, 0, 0) == b'4.0 4.0 20.0 4.0 20.0 12.0 4.0 12.0 ship 0\n'
    assert tile_text(boxes, 64, 60, 0) == (
        b'-4.0 30.0 16.0 30.0 16.0 40.0 -4.0 40.0 plane 2\n'
    )
    assert tile_text(boxes, 64, 36, 0).endswith(b'plane 1\n')


def mmrotate_splitter():  # type: ignore[no-untyped-def]
    pytest.importorskip('shapely')
    spec = importlib.util.find_spec('mmrotate')
    if spec is None:
        pytest.skip('mmrotate is not installed')
    root = Path(spec.submodule_search_locations[0])
    for folder in (root / '.mim', root.parent):
        file = folder / 'tools' / 'data' / 'dota' / 'split' / 'img_split.py'
        if file.is_file():
            found = importlib.util.spec_from_file_location('img_split', file)
            module = importlib.util.module_from_spec(found)
            found.loader.exec_module(module)
            return module
    pytest.skip('this mmrotate comes without its tools')


@pytest.mark.parametrize('size', [(300, 210), (90, 60), (130, 128), (129, 400)])
def test_tiles_equal_those_of_mmrotates_splitter(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    splitter = mmrotate_splitter()
    sizes, gaps = [128, 64, 42], [30, 15, 10]
    width, height = size
    rng = np.random.default_rng(1)
    centres = rng.integers(0, size, (60, 1, 2))
    edge = rng.integers(2, 20, (60, 1, 2))
    turned = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]]) * edge
    turned[:, :, 0] += edge[:, :, 1] // 2  # not only symmetric ones
    names = rng.choice(['plane', 'ship', 'harbor'], 60)
    label = tmp_path / 'label' / 'P7.txt'
    label.parent.mkdir()
    lines = [
        f'{" ".join(map(str, quad.ravel()))} {name} {i % 2}'
        for i, (quad, name) in enumerate(zip(centres + turned, names, strict=True))
    ]
    label.write_text('\n'.join(['gsd:1', *lines]) + '\n')
    write_image(tmp_path / 'image' / 'P7.png', image(width, height))

    info = splitter._load_dota_single(
        'P7.png', str(tmp_path / 'image'), str(label.parent)
    )
    windows = splitter.get_sliding_window(info, sizes, gaps, 0.6)
    annotations = splitter.get_window_obj(info, windows, 0.7)
    theirs, ours = tmp_path / 'theirs', tmp_path / 'ours'
    for kind in ('images', 'annfiles'):
        (theirs / kind).mkdir(parents=True)
    splitter.crop_and_save_img(
        info, windows, annotations, str(tmp_path / 'image'), False, 0,
        str(theirs / 'images'), str(theirs / 'annfiles'), '.png',
    )  # fmt: skip
    write_labelled_tiles(
        SourceFile('P7.png', tmp_path / 'image' / 'P7.png'),
        SourceFile('P7.txt', label),
        [ours],
        tmp_path / 'done.json',
        TileSettings(tuple(sizes), tuple(gaps)),
    )
    files = sorted(path.relative_to(theirs) for path in theirs.rglob('*.*'))
    assert files == sorted(path.relative_to(ours) for path in ours.rglob('*.*'))
    boxes = 0
    for file in files:
        if file.suffix == '.txt':
            assert (ours / file).read_text() == (theirs / file).read_text()
            boxes += (ours / file).read_text().count('\n')
        else:
            expected = cv2.imread(str(theirs / file))
            assert np.array_equal(cv2.imread(str(ours / file)), expected)
    assert boxes > 20


def test_dota_from_folders(download: Path, tmp_path: Path) -> None:
    destination = tmp_path / 'split'
    summary = prepare(DOTAPreparation(**SMALL), download, destination)
    # 2 x 2 tiles of 64 in 100 x 80, 1 in 50 x 40; in each labelled image the ship, and
    # the plane and the vehicle in one or more tiles.
    assert 'train 8 tiles with' in summary
    assert 'val 4 tiles' in summary
    assert 'test 1 tiles' in summary
    names = {path.stem for path in (destination / 'trainval/images').iterdir()}
    assert {'P0001__64__0___0', 'P0002__64__36___16'} <= names
    assert len(names) == 12
    assert {p.stem for p in (destination / 'trainval/annfiles').iterdir()} == names
    tile = cv2.imread(str(destination / 'train/images/P0001__64__36___16.png'))
    assert np.array_equal(tile, image(100, 80)[16:80, 36:100])
    padded = cv2.imread(str(destination / 'test/images/P0009__64__0___0.png'))
    assert padded.shape == (64, 64, 3)
    assert not padded[40:].any()
    assert not padded[:, 50:].any()
    assert not (destination / 'test/annfiles').exists()


def test_dota_from_archives(download: Path, tmp_path: Path) -> None:
    source = tmp_path / 'archives'
    for split in ('train', 'val', 'test'):
        (source / split).mkdir(parents=True)
        with zipfile.ZipFile(source / split / 'part1.zip', 'w') as archive:
            for path in (download / split / 'images').iterdir():
                archive.write(path, f'images/{path.name}')
        if split != 'test':
            with zipfile.ZipFile(source / split / 'labelTxt.zip', 'w') as archive:
                for path in (download / split / 'labelTxt-v1.0').iterdir():
                    archive.write(path, path.name)
    preparation = DOTAPreparation(**SMALL)
    prepare(preparation, source, tmp_path / 'a')
    prepare(preparation, download, tmp_path / 'b')
    files = sorted(p.relative_to(tmp_path / 'a') for p in tmp_path.glob('a/**/*.*'))
    assert len(files) > 30
    for file in files:
        if file.name != 'prepared.json':
            assert (tmp_path / 'a' / file).read_bytes() == (
                tmp_path / 'b' / file
            ).read_bytes()


def test_multi_scale_divides_tile_and_gap(download: Path, tmp_path: Path) -> None:
    preparation = DOTAMultiScalePreparation(
        size=50, gap=20, complete='no', splits=('val',)
    )
    prepare(preparation, download, tmp_path / 'ms')
    sizes = {p.stem.split('__')[1] for p in (tmp_path / 'ms/val/images').iterdir()}
    assert sizes == {'100', '50', '33'}
    assert DOTAMultiScalePreparation().rates == (0.5, 1.0, 1.5)
    assert DOTAMultiScalePreparation().gap == 500


def test_interrupted_preparation_goes_on(
    download: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cmid_mm.preparation import dota_tiles as dota

    destination = tmp_path / 'split'
    calls = []

    def killed(path: Path, pixels: np.ndarray) -> None:
        calls.append(path)
        if len(calls) == 6:  # in the second image
            raise KeyboardInterrupt
        original(path, pixels)

    original = dota.write_image
    monkeypatch.setattr(dota, 'write_image', killed)
    with pytest.raises(KeyboardInterrupt):
        prepare(DOTAPreparation(**SMALL), download, destination)
    calls.clear()
    monkeypatch.setattr(dota, 'write_image', lambda *a: (calls.append(a), original(*a)))
    assert 'train 8 tiles' in prepare(DOTAPreparation(**SMALL), download, destination)
    assert len(calls) == 9  # all but the four tiles of the first image


def test_incomplete_downloads(download: Path, tmp_path: Path) -> None:
    destination = tmp_path / 'split'
    with pytest.raises(PreparationError, match='has 2 images, not 1411'):
        prepare(DOTAPreparation(), download, destination)
    (download / 'val/labelTxt-v1.0/P0002.txt').unlink()
    with pytest.raises(PreparationError, match='image without its counterpart.*P0002'):
        prepare(DOTAPreparation(**SMALL), download, destination)
    (download / 'val/images/P0002.png').unlink()
    with pytest.raises(PreparationError, match='val has 0 images'):
        prepare(DOTAPreparation(**SMALL), download, destination)
    assert not destination.exists()


def test_check_finds_a_lost_label_file(download: Path, tmp_path: Path) -> None:
    destination = tmp_path / 'split'
    prepare(DOTAPreparation(**SMALL), download, destination)
    (destination / 'train/annfiles/P0001__64__0___0.txt').unlink()
    with pytest.raises(PreparationError, match='annfiles does not hold the 8 tiles'):
        prepare(DOTAPreparation(**SMALL), download, destination)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Five bands of 16 bits whose values lie between 0 and 3000; own classes."""
    values = np.arange(5 * 64 * 64).reshape(5, 64, 64) % 3001
    path = tmp_path / 'own' / 'train' / 'images' / 'my scene #1 50%.tif'
    path.parent.mkdir(parents=True)
    profile = dict(width=64, height=64, count=5, dtype='uint16')
    with rasterio.open(path, 'w', driver='GTiff', **profile) as file:
        file.write(values.astype(np.uint16))
    label = tmp_path / 'own' / 'train' / 'labels' / 'my scene #1 50%.txt'
    label.parent.mkdir()
    label.write_text('4 4 20 4 20 12 4 12 crane\n1 1 1 1 9 9 9 9 crane 0\n')
    return tmp_path / 'own'


OWN = dict(size=64, gap=0, complete='no', splits=('train',), classes=('crane',))


def test_own_images_of_16_bits_and_five_bands(own: Path, tmp_path: Path) -> None:
    options = dict(bands=(3, 2, 1), value_range=(0.0, 3000.0))
    summary = prepare(DOTAPreparation(**OWN, **options), own, tmp_path / 'out')
    assert 'train 1 tiles with 1 boxes' in summary
    assert '1 boxes without area were left out, in 1 label files, first my' in summary
    name = 'my scene #1 50%__64__0___0'
    tile = cv2.imread(str(tmp_path / 'out/train/images' / f'{name}.png'))
    values = np.arange(5 * 64 * 64).reshape(5, 64, 64) % 3001
    expected = values[:3].transpose(1, 2, 0) * 255 / 3000  # OpenCV turns 3 2 1 round
    assert np.abs(tile - expected).max() <= 0.5 + 1e-4
    assert tile.max() == 255
    assert 'is complete' in prepare(
        DOTAPreparation(**OWN, **options), own, tmp_path / 'out'
    )
    per_band = dict(options, value_range=(0.0, 3000.0, 0.0, 1500.0, 0.0, 3000.0))
    prepare(DOTAPreparation(**OWN, **per_band), own, tmp_path / 'per_band')
    tile = cv2.imread(str(tmp_path / 'per_band/train/images' / f'{name}.png'))
    expected[..., 1] = np.minimum(2 * expected[..., 1], 255)
    assert np.abs(tile - expected).max() <= 0.5 + 1e-4


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({}, r'has 5 bands, tiles have three; choose them.*--bands'),
        (dict(bands=(1, 2, 3)), r'is no 8-bit image.*--value-range'),
        (dict(bands=(1, 2, 3), value_range=(0.0,)), r'--value-range takes LOW HIGH'),
        (dict(bands=(1, 2, 9), value_range=(0.0, 9.0)), 'has 5 bands'),
    ],
)
def test_own_images_are_refused_for_the_true_reason(
    own: Path, tmp_path: Path, options: dict, message: str
) -> None:
    with pytest.raises(PreparationError, match=message):
        prepare(DOTAPreparation(**OWN, **options), own, tmp_path / 'out')


def test_own_images_of_float(own: Path, tmp_path: Path) -> None:
    path = own / 'train' / 'images' / 'my scene #1 50%.tif'
    with rasterio.open(
        path, 'w', driver='GTiff', width=64, height=64, count=3, dtype='float32'
    ) as file:
        file.write(np.full((3, 64, 64), 0.5, np.float32))
    with pytest.raises(PreparationError, match=r'#1 50%\.tif: is no 8-bit image'):
        prepare(DOTAPreparation(**OWN), own, tmp_path / 'out')
    prepare(DOTAPreparation(**OWN, value_range=(0.0, 1.0)), own, tmp_path / 'ranged')
    (tile,) = (tmp_path / 'ranged/train/images').iterdir()
    assert (cv2.imread(str(tile)) == 128).all()


BOX = (
    '<robndbox><x_left_top>1</x_left_top><y_left_top>2</y_left_top>'
    '<x_right_top>9</x_right_top><y_right_top>2</y_right_top>'
    '<x_right_bottom>9</x_right_bottom><y_right_bottom>7</y_right_bottom>'
    '<x_left_bottom>1</x_left_bottom><y_left_bottom>7</y_left_bottom></robndbox>'
)
XML = (
    '<annotation><size><width>32</width><height>32</height></size>'
    '<object><name>Expressway-toll-station</name>%s</object></annotation>'
)


@pytest.fixture
def dior(tmp_path: Path) -> Path:
    source = tmp_path / 'dior'
    boxes = source / 'Annotations' / 'Oriented Bounding Boxes'
    boxes.mkdir(parents=True)
    main = source / 'Main'
    main.mkdir()
    for split, name in (('train', '00001'), ('val', '00002'), ('test', '00003')):
        folder = 'test' if split == 'test' else 'trainval'
        write_image(source / f'JPEGImages-{folder}' / f'{name}.jpg', image(32, 32))
        (boxes / f'{name}.xml').write_text(XML % BOX)
        (main / f'{split}.txt').write_text(name + '\n')
    return source


def test_dior_r(dior: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(dior / 'JPEGImages-test.zip', 'w') as archive:
        path = dior / 'JPEGImages-test' / '00003.jpg'
        archive.write(path, 'JPEGImages-test/00003.jpg')
        path.unlink()
    destination = tmp_path / 'DIOR'
    summary = prepare(DIORRPreparation(complete='no'), dior, destination)
    assert 'trainval 2 images, test 1 images' in summary
    assert (destination / 'ImageSets/Main/trainval.txt').read_text() == '00001\n00002\n'
    assert (destination / 'JPEGImages-test/00003.jpg').is_file()
    assert (destination / 'Annotations/Oriented Bounding Boxes/00002.xml').is_file()


def test_dior_r_errors(dior: Path, tmp_path: Path) -> None:
    with pytest.raises(PreparationError, match='names 1 images, not 5862'):
        prepare(DIORRPreparation(), dior, tmp_path / 'a')
    label = dior / 'Annotations/Oriented Bounding Boxes/00002.xml'
    label.write_text(XML % '<bndbox><xmin>1</xmin></bndbox>')
    with pytest.raises(PreparationError, match='00002.xml: a expressway-toll-station'):
        prepare(DIORRPreparation(complete='no'), dior, tmp_path / 'b')
    label.write_text((XML % BOX).replace('toll-station', 'tolls'))
    with pytest.raises(PreparationError, match="'expressway-tolls' is no class"):
        prepare(DIORRPreparation(complete='no'), dior, tmp_path / 'c')
    label.unlink()
    with pytest.raises(PreparationError, match='lacks 1 .xml files of val.txt'):
        prepare(DIORRPreparation(complete='no'), dior, tmp_path / 'd')


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(rates=(0.0,)), r'rates \(0.0,\) positive'),
        (dict(rates=(1.0, float('nan'))), 'positive'),
        (dict(rates=()), 'positive'),
        (dict(rates=(5000.0,)), 'size / rate pixels'),
        (dict(gap=64), 'smaller than size 64'),
        (dict(bands=(1, 2)), 'selects 2 bands'),
        (dict(bands=(9, 9, 9)), '--bands 3 2 1'),
        (dict(value_range=(5, 5)), 'low < high'),
        (dict(classes=('ship',)), "unknown class 'plane'"),
        (dict(splits=('x',)), "split 'x' is none of"),
    ],
)
def test_wrong_options_are_told_and_leave_no_folder(
    download: Path, tmp_path: Path, options: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(DOTAPreparation(**{**SMALL, **options}), download, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()
