# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""CDD and LEVIR-CD from miniature downloads."""

import zipfile

import cv2
import numpy as np
import pytest

from cmid_mm.datasets.change_detection import ChangeDetectionDataset
from cmid_mm.images import load_image
from cmid_mm.images.writing import write_image
from cmid_mm.labels.masks import read_change_mask
from cmid_mm.preparation import PreparationError, prepare
from cmid_mm.preparation.change import CDDPreparation, LEVIRPreparation

COUNTS = dict(train=3, val=1, test=2)


@pytest.fixture(autouse=True)
def _miniature(monkeypatch):
    for kind, side in ((CDDPreparation, 32), (LEVIRPreparation, 64)):
        monkeypatch.setattr(kind, 'counts', COUNTS)
        monkeypatch.setattr(kind, 'side', side)


def images(side):
    """Both dates and the mask; every pixel of them says where it is."""
    rows, columns = np.mgrid[:side, :side].astype(np.uint8)
    before = np.stack([rows, columns, rows * 0], -1)
    return before, before + 100, (rows > columns).astype(np.uint8) * 255


def write_download(root, side, label_dir, extension):
    for part, count in COUNTS.items():
        for i in range(count):
            for folder, image in zip(('A', 'B', label_dir), images(side), strict=True):
                name = f'{part}_{i}{extension}'
                write_image(root / part / folder / name, image)
    return root


@pytest.fixture
def cdd(tmp_path):
    root = tmp_path / 'download' / 'ChangeDetectionDataset'
    write_download(root / 'Real' / 'subset', 32, 'OUT', '.jpg')
    # Synthetic pairs of the same structure.
    write_download(root / 'Model' / 'with_shift', 32, 'OUT', '.jpg')
    return root


@pytest.fixture
def levir(tmp_path):
    return write_download(tmp_path / 'download', 64, 'label', '.png')


def zip_folder(folder, archive, prefix=''):
    with zipfile.ZipFile(archive, 'w') as file:
        for path in sorted(folder.rglob('*')):
            file.write(path, prefix + str(path.relative_to(folder)))


def test_cdd_keeps_the_real_pairs(cdd, tmp_path):
    out = tmp_path / 'cdd'
    assert 'train 3 pairs, val 1 pairs, test 2 pairs' in prepare(
        CDDPreparation(), cdd.parent, out
    )
    assert (out / 'test' / 'OUT' / 'test_1.jpg').read_bytes() == (
        cdd / 'Real/subset/test/OUT/test_1.jpg'
    ).read_bytes()
    dataset = ChangeDetectionDataset(str(out), split='val', label_dir='OUT')
    assert len(dataset) == 1
    assert 'is complete' in prepare(CDDPreparation(), cdd.parent, out)


@pytest.mark.parametrize('prefix', ['ChangeDetectionDataset/Real/subset/', 'subset/'])
def test_cdd_from_its_archive(cdd, tmp_path, prefix):
    archive = tmp_path / 'ChangeDetectionDataset.zip'
    zip_folder(cdd / 'Real' / 'subset', archive, prefix)
    summary = prepare(CDDPreparation(), archive, tmp_path / 'cdd')
    assert 'train 3 pairs' in summary


def test_cdd_from_the_folder_itself(cdd, tmp_path):
    summary = prepare(CDDPreparation(), cdd / 'Real' / 'subset', tmp_path / 'cdd')
    assert 'train 3 pairs' in summary


@pytest.mark.parametrize('nested', [True, False])
def test_levir_in_tiles_from_archives(levir, tmp_path, nested):
    archives = tmp_path / 'archives'
    archives.mkdir()
    for part in COUNTS:
        prefix = f'{part}/' if nested else ''
        zip_folder(levir / part, archives / f'{part}.zip', prefix)
    out = tmp_path / 'levir'
    summary = prepare(LEVIRPreparation(tile_size=32), archives, out)
    assert 'train 12 pairs, val 1 pairs, test 2 pairs' in summary
    for folder, whole in zip(('A', 'B'), images(64), strict=False):
        tile = load_image(out / 'train' / folder / 'train_2_0032_0000.png')
        assert (tile == whole[32:, :32]).all()
    mask = read_change_mask(str(out / 'train' / 'label' / 'train_2_0032_0000.png'))
    assert (mask == images(64)[2][32:, :32] // 255).all()
    assert load_image(out / 'test' / 'A' / 'test_0.png').shape == (64, 64, 3)


def test_levir_whole(levir, tmp_path):
    summary = prepare(LEVIRPreparation(tile_size=64), levir, tmp_path / 'levir')
    assert 'train 3 pairs' in summary


def test_an_interrupted_run_continues(levir, tmp_path):
    out = tmp_path / 'levir'
    damaged = levir / 'val' / 'B' / 'val_0.png'
    content = damaged.read_bytes()
    damaged.write_bytes(content[: len(content) // 2])
    with pytest.raises(PreparationError, match=r'val_0\.png: damaged'):
        prepare(LEVIRPreparation(tile_size=32), levir, out)
    assert not (out / 'val' / 'B' / 'val_0.png').exists()
    first = out / 'train' / 'A' / 'train_0_0000_0000.png'
    written = first.stat().st_mtime_ns
    damaged.unlink()  # the damaged file is linked nowhere
    damaged.write_bytes(content)
    prepare(LEVIRPreparation(tile_size=32), levir, out)
    assert first.stat().st_mtime_ns == written


def test_incomplete_downloads_are_refused(levir, tmp_path):
    (levir / 'test' / 'label' / 'test_1.png').unlink()
    with pytest.raises(PreparationError, match='test/label lacks 1 files, .* test_1'):
        prepare(LEVIRPreparation(tile_size=32), levir, tmp_path / 'levir')
    for folder in ('A', 'B'):
        (levir / 'test' / folder / 'test_1.png').unlink()
    with pytest.raises(PreparationError, match='1 pairs in test, not 2'):
        prepare(LEVIRPreparation(tile_size=32), levir, tmp_path / 'levir')
    with pytest.raises(PreparationError, match='0 pairs in train, not 3'):
        prepare(CDDPreparation(), tmp_path, tmp_path / 'cdd')


def test_files_of_another_size_are_refused(levir, tmp_path):
    write_image(levir / 'train' / 'B' / 'train_0.png', np.zeros((64, 60, 3), np.uint8))
    with pytest.raises(PreparationError, match=r'train_0\.png: 60 x 64 pixels, not 64'):
        prepare(LEVIRPreparation(tile_size=32), levir, tmp_path / 'levir')


def test_a_mask_that_is_none_is_refused(cdd, tmp_path):
    mask = np.full((64, 64), 90, np.uint8)
    levir = write_download(tmp_path / 'levir_download', 64, 'label', '.png')
    cv2.imwrite(str(levir / 'test' / 'label' / 'test_0.png'), mask)
    with pytest.raises(PreparationError, match=r'test_0\.png .*values 90'):
        prepare(LEVIRPreparation(tile_size=32), levir, tmp_path / 'levir')


@pytest.mark.parametrize('size', [0, 65])
def test_tile_size_out_of_range(levir, tmp_path, size):
    with pytest.raises(PreparationError, match='tile_size must be 1 to 64'):
        prepare(LEVIRPreparation(tile_size=size), levir, tmp_path / 'levir')
