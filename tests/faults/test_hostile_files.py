# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Files that are made to do harm, or are none, given to everything that opens files."""

import os
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from cmid_mm.datasets import ImageryDataset, SceneWindows
from cmid_mm.datasets.change_detection import ChangeDetectionDataset
from cmid_mm.datasets.scenes import SceneDataset
from cmid_mm.datasets.statistics import dataset_statistics
from cmid_mm.datasets.transforms.loading import LoadImagery
from cmid_mm.images import (
    ImageFile,
    Reading,
    UnreadableImageError,
    find_images,
    load_image,
    write_image,
)
from cmid_mm.inference.images import InputImage
from cmid_mm.labels.dota import read_boxes
from cmid_mm.labels.lists import read_list
from cmid_mm.labels.masks import read_change_mask, read_index_mask
from cmid_mm.labels.vectors import read_vectors
from cmid_mm.preparation import sources
from cmid_mm.preparation.errors import PreparationError
from cmid_mm.preparation.sources import source_files
from tests.faults.forked import start
from tests.faults.rows import fault
from tests.images.test_limits import PYTHON, listening, pipe, vrt_of, write_tiff

PART = 'Hostile files'
#: Seconds after which waiting counts as hanging.
PATIENCE = 60


def at_once(folder: Path, call: Callable[..., object], *args: Any) -> None:
    """Call a function where a library that waits for ever can be ended."""
    log = folder / 'said'
    process = start(call, *args, log=log)
    process.join(PATIENCE)
    hangs = process.is_alive()
    process.kill()
    process.join()
    assert not hangs, 'it hangs'
    assert process.exitcode == 0, log.read_text()


def folder_with(tmp_path: Path) -> tuple[Path, Path]:
    """Ten images, the fourth of which has become something else."""
    root = tmp_path / 'images'
    for number in range(10):
        write_image(root / f'{number}.png', np.full((32, 32, 3), number, np.uint8))
    path = root / '3.png'
    return root, path


def pretraining(root, spoil):
    dataset = ImageryDataset(str(root), pipeline=[dict(type='LoadImagery', size=32)])
    dataset.full_init()
    spoil()
    assert len([dataset[key] for key in range(10)]) == 10
    assert [Path(path).name for path in dataset.unreadable_paths()] == ['3.png']


def windows(root, spoil):
    steps = [dict(type='LoadImagery')]
    dataset = SceneWindows(str(root), pipeline=steps, tile_size=16, per_epoch=60)
    dataset.full_init()
    spoil()
    assert len([dataset[key] for key in range(60)]) == 60
    assert [Path(path).name for path in dataset.unreadable_paths()] == ['3.png']


def statistics(root, spoil):
    dataset = ImageryDataset(str(root))
    dataset.full_init()
    spoil()
    found = dataset_statistics(dataset, Reading(3, size=32))
    assert found.images == 9 and '3.png' in found.unreadable[0]


def classification(root, spoil):
    dataset = SceneDataset(str(root.parent), pipeline=[dict(type='LoadImagery')])
    dataset.full_init()
    spoil()
    assert len([dataset[key] for key in range(10)]) == 10
    assert [Path(path).name for path in dataset.unreadable_paths()] == ['3.png']


def change_detection(root, spoil):
    for name in ('B', 'label'):
        for path in root.iterdir():
            pixels = np.zeros((32, 32) if name == 'label' else (32, 32, 3), np.uint8)
            write_image(root.parent / name / path.name, pixels)
    steps = [dict(type='LoadImagePair'), dict(type='LoadChangeMask')]
    dataset = ChangeDetectionDataset(
        str(root.parent), before_dir='images', pipeline=steps
    )
    dataset.full_init()
    spoil()
    assert len([dataset[key] for key in range(10)]) == 10
    assert [Path(path).name for path in dataset.unreadable_paths()] == ['3.png']


def prediction(root, spoil):
    spoil()
    with pytest.raises(UnreadableImageError, match=r'3\.png'):
        InputImage(root / '3.png', LoadImagery()).read((0, 0, 8, 8))


def masks(root, spoil):
    spoil()
    for read in (read_change_mask, read_index_mask):
        with pytest.raises(UnreadableImageError, match=r'3\.png'):
            read(root / '3.png')


USERS = (
    pretraining,
    windows,
    statistics,
    classification,
    change_detection,
    prediction,
    masks,
)


def to_socket(path):
    path.unlink()
    listening(path)


def to_pipe(path):
    path.unlink()
    pipe(path)


def to_device(path):
    path.unlink()
    path.symlink_to('/dev/zero')


def to_folder(path):
    path.unlink()
    path.mkdir()


def to_loop(path):
    path.unlink()
    path.symlink_to(path.name)


@fault(
    PART,
    'a pipe, socket, device, folder or endless link takes the place of an image, met '
    'by pre-training, statistics, tasks and label readers',
    'refused at once with its name: skipped and counted up to the share, or the end',
)
@pytest.mark.parametrize('user', USERS, ids=lambda user: user.__name__)
@pytest.mark.parametrize('spoil', [to_pipe, to_socket, to_device, to_folder, to_loop])
def test_what_is_no_file(tmp_path, spoil, user):
    root, path = folder_with(tmp_path)
    at_once(tmp_path, user, root, lambda: spoil(path))


@fault(
    PART,
    'a PNG of few kilobytes whose pixels are above the limit (here 16 MiB), met '
    'likewise',
    'refused before memory is taken: skipped and counted, or the end',
)
@pytest.mark.parametrize('user', USERS, ids=lambda user: user.__name__)
def test_decompression_bomb(tmp_path, monkeypatch, user):
    monkeypatch.setenv('CMID_MM_MAX_DECODED_BYTES', str(1 << 24))
    root, path = folder_with(tmp_path)
    # Sound otherwise: without the limit all would read them.
    shape = (5000, 5000) if user is masks else (5000, 5000, 3)
    write_image(tmp_path / 'bomb.png', np.zeros(shape, np.uint8))
    assert (tmp_path / 'bomb.png').stat().st_size < 100_000

    def spoil():
        for date in (path, tmp_path / 'B' / '3.png'):
            if date.exists():
                shutil.copy(tmp_path / 'bomb.png', date)

    at_once(tmp_path, user, root, spoil)


@fault(
    PART,
    'a GeoTIFF of 100,000 x 100,000 pixels that is what it says',
    'read by windows as ever; whole it is refused with its size',
)
def test_large_raster_is_read_by_windows(tmp_path):
    options = dict(tiled=True, sparse_ok=True, compress='deflate')
    path = write_tiff(tmp_path / 'x.tif', height=100_000, width=100_000, **options)
    assert load_image(path, window=(99_000, 99_000, 64, 64)).shape == (64, 64, 3)
    with pytest.raises(UnreadableImageError, match=r'27\.9 GiB'):
        load_image(path)


@fault(
    PART,
    'a pipe in the place of a list, a box file, a vector layer, an archive, or of a '
    'file beside a raster or within a VRT, list of bands or tiles',
    'refused at once with its name',
)
@pytest.mark.parametrize(
    'name, read',
    [
        ('x.txt', read_list),
        ('x.txt', read_boxes),
        ('x.gpkg', read_vectors),
        ('x.geojson', read_vectors),
        ('x.tif.ovr', lambda path: ImageFile(path.with_suffix(''))),
        ('x.tfw', lambda path: ImageFile(path.with_suffix('.tif'))),
        ('in.dat', lambda path: load_image(path.with_name('x.vrt'), Reading(1))),
        ('in.dat', lambda path: load_image(path.with_name('x.bands'), Reading(1))),
        ('in.dat', lambda path: load_image(path.with_name('x.mosaic'), Reading(1))),
    ],
)
def test_pipes_elsewhere(tmp_path, name, read):
    write_tiff(tmp_path / 'x.tif')
    (tmp_path / 'x.vrt').write_text(vrt_of('in.dat'))
    for ending in ('.bands', '.mosaic'):
        (tmp_path / f'x{ending}').write_text('in.dat\n')
    pipe(tmp_path / name)

    def refuse():
        with pytest.raises(OSError, match=f'{name}: not a regular file'):
            read(tmp_path / name)

    at_once(tmp_path, refuse)


@fault(
    PART,
    'a VRT with Python code, in an environment that permits it',
    'the code does not run; refused with its name',
)
def test_code_in_a_vrt(tmp_path, monkeypatch):
    monkeypatch.setenv('GDAL_VRT_ENABLE_PYTHON', 'YES')
    write_tiff(tmp_path / 'x.tif', count=1)
    mark = tmp_path / 'ran'
    (tmp_path / 'x.vrt').write_text(PYTHON.format(mark=mark))
    with pytest.raises(UnreadableImageError, match='Python'):
        load_image(tmp_path / 'x.vrt', Reading(1))
    assert not mark.exists()
    # Without the guard it would run: this environment can.
    with rasterio.Env(GDAL_VRT_ENABLE_PYTHON='YES'):
        with rasterio.open(tmp_path / 'x.vrt') as source:
            source.read(1)
    assert mark.exists()


@fault(
    PART,
    'an archive with names that lead out of its folder, links, devices, or 500 times '
    'its own size',
    'refused with the name or the size; nothing is unpacked',
)
@pytest.mark.parametrize(
    'name, mode, content',
    [
        ('../a.png', 0, b''),
        ('/tmp/a.png', 0, b''),
        ('a.png', stat.S_IFLNK, b'/etc/passwd'),
        ('a.png', stat.S_IFCHR, b''),
        ('a.png', 0, bytes(10_000_000)),
    ],
)
def test_archives(tmp_path, monkeypatch, name, mode, content):
    monkeypatch.setattr(sources, '_SMALL', 1000)
    path = tmp_path / 'x.zip'
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr(info, content, zipfile.ZIP_BZIP2)
    with pytest.raises(PreparationError, match=r'x\.zip'):
        source_files(path)
    assert sorted(os.listdir(tmp_path)) == ['x.zip']


@fault(
    PART,
    'names of images with line breaks, quotes, blanks and what shells read',
    'read as any; no shell sees them',
)
@pytest.mark.parametrize(
    'name', ['$(touch ran).png', '`touch ran`.png', 'a\nb.png', '"; touch ran; ".png']
)
def test_names_for_shells(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / 'images' / name, np.full((8, 8, 3), 5, np.uint8))
    (path,) = find_images(tmp_path / 'images')
    assert (load_image(path) == 5).all()
    assert not Path('ran').exists()
