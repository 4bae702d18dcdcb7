# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import zipfile

import cv2
import numpy as np
import pytest

from cmid_mm.preparation import PreparationError, prepare
from cmid_mm.preparation.loveda import LoveDAPreparation


@pytest.fixture
def download(tmp_path, monkeypatch):
    """A training archive and a validation folder, two images each."""
    monkeypatch.setattr(LoveDAPreparation, 'counts', {'Train': 2, 'Val': 2, 'Test': 2})
    root = tmp_path / 'download'
    images = {'Train': ('Rural/{}/0.png', 'Urban/{}/1.png')}
    images['Val'] = ('Rural/{}/2.png', 'Urban/{}/3.png')
    for part, names in images.items():
        for value, name in enumerate(names):
            for kind, shape in (('images_png', (6, 6, 3)), ('masks_png', (6, 6))):
                path = root / part / name.format(kind)
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), np.full(shape, 6 + value, np.uint8))
    with zipfile.ZipFile(root / 'Train.zip', 'w') as archive:
        for path in sorted((root / 'Train').rglob('*.png')):
            archive.write(path, path.relative_to(root))
            path.unlink()
    return root


def test_urban_and_rural_scenes_lie_together(download, tmp_path):
    destination = tmp_path / 'loveDA'
    assert '8 images' in prepare(LoveDAPreparation(), download, destination)
    files = {p.relative_to(destination).as_posix() for p in destination.rglob('*.png')}
    assert files == {
        f'{kind}_dir/{split}/{number}.png'
        for kind in ('img', 'ann')
        for split, numbers in (('train', (0, 1)), ('val', (2, 3)))
        for number in numbers
    }
    mask = cv2.imread(str(destination / 'ann_dir/train/1.png'), cv2.IMREAD_UNCHANGED)
    assert mask.tolist() == np.full((6, 6), 7).tolist()


def test_incomplete_downloads_are_refused(download, tmp_path):
    (download / 'Val/Urban/masks_png/3.png').unlink()
    with pytest.raises(PreparationError, match='Val has no image or no mask 3.png'):
        prepare(LoveDAPreparation(), download, tmp_path / 'x')
    (download / 'Val/Urban/images_png/3.png').unlink()
    with pytest.raises(PreparationError, match='1 images in Val, not 2'):
        prepare(LoveDAPreparation(), download, tmp_path / 'x')


def test_a_mask_with_other_values_or_damaged_is_refused(download, tmp_path):
    mask = download / 'Val/Urban/masks_png/3.png'
    cv2.imwrite(str(mask), np.full((6, 6), 8, np.uint8))
    with pytest.raises(PreparationError, match=r'3\.png has the values 8, .*the 8 cl'):
        prepare(LoveDAPreparation(), download, tmp_path / 'x')
    mask.write_bytes(mask.read_bytes()[:40])
    with pytest.raises(PreparationError, match=r'3\.png: damaged'):
        prepare(LoveDAPreparation(), download, tmp_path / 'x')
