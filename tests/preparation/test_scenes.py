# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import zipfile
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from cmid_mm.datasets.scenes import UCMerced, find_scenes
from cmid_mm.preparation import PreparationError, prepare
from cmid_mm.preparation.scenes import (
    AIDPreparation,
    EuroSATPreparation,
    RESISC45Preparation,
    UCMercedPreparation,
)

CLASSES = UCMerced.METAINFO['classes']


def write(folder: Path, classes, count: int, name: str = '{c}{i:02d}.png') -> Path:
    image = np.zeros((4, 4, 3), np.uint8)
    for c in classes:
        (folder / c).mkdir(parents=True)
        for i in range(count):
            image[..., 0] = i
            cv2.imwrite(str(folder / c / name.format(c=c, i=i)), image)
    return folder


@pytest.fixture(scope='module')
def download(tmp_path_factory):
    """UC Merced as it is extracted, with small images and a readme."""
    root = tmp_path_factory.mktemp('download')
    write(root / 'UCMerced_LandUse' / 'Images', CLASSES, 100)
    (root / 'UCMerced_LandUse' / 'readme.txt').write_text('hello')
    return root


def test_uc_merced_with_its_fixed_split(download, tmp_path):
    destination = tmp_path / 'ucmerced'
    summary = prepare(UCMercedPreparation(), download, destination)
    assert '21 classes, 1680 training and 420 test images' in summary
    train = find_scenes(destination, 'train.txt')
    test = find_scenes(destination, 'test.txt')
    assert set(Counter(name for _, name in train).values()) == {80}
    assert (destination / 'agricultural' / 'agricultural08.png', 'agricultural') in test
    # Linked, not copied.
    image = 'agricultural/agricultural08.png'
    original = download / 'UCMerced_LandUse' / 'Images' / image
    assert (destination / image).stat().st_ino == original.stat().st_ino
    assert 'is complete' in prepare(UCMercedPreparation(), download, destination)


def test_from_the_archive(download, tmp_path):
    archive = tmp_path / 'UCMerced_LandUse.zip'
    with zipfile.ZipFile(archive, 'w') as file:
        for path in sorted(download.rglob('*')):
            file.write(path, path.relative_to(download))
    prepare(UCMercedPreparation(), archive, tmp_path / 'out')
    assert len(find_scenes(tmp_path / 'out', 'test.txt')) == 420


def test_missing_images_and_classes(tmp_path):
    source = write(tmp_path / 'few', CLASSES, 2)
    with pytest.raises(PreparationError, match=r'42 images .* not 2100.*landuse\.html'):
        prepare(UCMercedPreparation(), source, tmp_path / 'out')
    for image in (source / 'river').iterdir():
        image.unlink()
    with pytest.raises(PreparationError, match='1 of the 21 classes: river'):
        prepare(UCMercedPreparation(), source, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_two_copies_of_the_download(tmp_path):
    write(tmp_path / 'src' / 'a', CLASSES, 1)
    write(tmp_path / 'src' / 'b', CLASSES, 1)
    with pytest.raises(PreparationError, match='are both image agricultural00'):
        prepare(UCMercedPreparation(), tmp_path / 'src', tmp_path / 'out')


def test_damaged_images_are_named_and_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(EuroSATPreparation, 'num_images', 50)
    names = EuroSATPreparation.dataset.METAINFO['classes']
    source = write(tmp_path / 'EuroSAT_RGB', names, 5)
    bad = source / 'River' / 'River03.png'
    content = bad.read_bytes()
    bad.write_bytes(content[:40])
    destination = tmp_path / 'out'
    with pytest.raises(PreparationError, match=r'1 damaged images: .*River03\.png'):
        prepare(EuroSATPreparation(), source, destination)
    bad.write_bytes(content)
    summary = prepare(EuroSATPreparation(), source, destination)
    assert '40 training and 10 test images' in summary


@pytest.mark.parametrize(
    ('kind', 'train', 'classes', 'images'),
    [
        (AIDPreparation, 0.2, 30, 10000),
        (RESISC45Preparation, 0.1, 45, 31500),
        (EuroSATPreparation, 0.8, 10, 27000),
    ],
)
def test_usual_ratios(kind, train, classes, images, tmp_path, monkeypatch):
    assert kind.num_images == images
    monkeypatch.setattr(kind, 'num_images', 10 * classes)
    source = write(tmp_path / 'src', kind.dataset.METAINFO['classes'], 10)
    prepare(kind(), source, tmp_path / 'out')
    assert len(find_scenes(tmp_path / 'out', 'train.txt')) == 10 * classes * train
    assert kind.folder == f'data/{kind.name}'
    prepare(kind(train_ratio=0.5), source, tmp_path / 'half')
    counts = Counter(name for _, name in find_scenes(tmp_path / 'half', 'train.txt'))
    assert set(counts.values()) == {5}
