# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Miniature masks of every kind, through every user."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
from PIL import Image

from cmid_mm.datasets.transforms import LoadIndexMask
from cmid_mm.datasets.transforms.bitemporal import LoadChangeMask
from cmid_mm.images import notices
from cmid_mm.labels.errors import LabelError
from cmid_mm.labels.masks import read_change_mask, read_index_mask
from cmid_mm.preparation.change import _read as read_for_preparation
from cmid_mm.preparation.errors import PreparationError
from cmid_mm.preparation.sources import SourceFile

SIDE = 8


def grid(*values: float, dtype: Any = np.uint8) -> np.ndarray:
    """All values in turn."""
    return np.resize(np.array(values, dtype), (SIDE, SIDE))


def write_tiff(path: Path, *bands: np.ndarray, **options: Any) -> Path:
    mask = options.pop('mask', None)
    colormap = options.pop('colormap', None)
    profile = dict(width=SIDE, height=SIDE, count=len(bands), dtype=bands[0].dtype)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=options.pop('internal', True)),
        rasterio.open(path, 'w', driver='GTiff', **profile, **options) as file,
    ):
        file.write(np.stack(bands))
        if mask is not None:
            file.write_mask(mask)
        if colormap is not None:
            file.write_colormap(1, colormap)
    return path


def write_palette(path: Path, values: np.ndarray, **options: Any) -> Path:
    image = Image.fromarray(values, 'P')
    image.putpalette([0, 0, 0, 230, 10, 10, 10, 200, 10] + [9] * 759)
    image.save(path, **options)
    return path


def write_png(path: Path, values: np.ndarray) -> Path:
    cv2.imwrite(str(path), values)
    return path


def write_one_bit(path: Path, values: np.ndarray) -> Path:
    Image.fromarray(values > 0).save(path)
    return path


def write_rgba(path: Path, values: np.ndarray, alpha: np.ndarray) -> Path:
    Image.fromarray(np.dstack([values] * 3 + [alpha])).save(path)
    return path


HALF = np.repeat([[True] * 4 + [False] * 4], SIDE, axis=0)
NAN = float('nan')

#: Kind -> how it is written, and what it holds.
CHANGE_MASKS = {
    '0/255': (lambda p: write_png(p / 'm.png', grid(0, 255)), [0, 1]),
    '0/1': (lambda p: write_png(p / 'm.png', grid(0, 1)), [0, 1]),
    'smooth': (lambda p: write_png(p / 'm.png', grid(0, 127, 128, 255)), [0, 0, 1, 1]),
    '0/128': (lambda p: write_png(p / 'm.png', grid(0, 128)), [0, 1]),
    'none': (lambda p: write_png(p / 'm.png', grid(0)), [0]),
    'all': (lambda p: write_png(p / 'm.png', grid(255)), [1]),
    'palette': (lambda p: write_palette(p / 'm.png', grid(0, 1, 1)), [0, 1, 1]),
    'transparent palette': (
        lambda p: write_palette(p / 'm.png', grid(0, 1, 1), transparency=0),
        [0, 1, 1],
    ),
    '1 bit': (lambda p: write_one_bit(p / 'm.png', grid(0, 1, 1)), [0, 1, 1]),
    '1 bit TIFF': (
        lambda p: write_tiff(p / 'm.tif', grid(0, 1, 1), nbits=1),
        [0, 1, 1],
    ),
    'RGBA': (lambda p: write_rgba(p / 'm.png', grid(0, 255), grid(255)), [0, 1]),
    'transparent': (
        lambda p: write_rgba(p / 'm.png', grid(0, 255), grid(0, 255)),
        [0, 1],
    ),
    'tag 0': (lambda p: write_tiff(p / 'm.tif', grid(0, 1), nodata=0), [0, 1]),
    'tag 0, 0/255': (lambda p: write_tiff(p / 'm.tif', grid(0, 255), nodata=0), [0, 1]),
    'tag 0, none': (lambda p: write_tiff(p / 'm.tif', grid(0), nodata=0), [0]),
    'tag 255': (
        lambda p: write_tiff(p / 'm.tif', grid(0, 1, 255), nodata=255),
        [0, 1, 255],
    ),
    'tag 255, none': (
        lambda p: write_tiff(p / 'm.tif', grid(0, 255), nodata=255),
        [0, 255],
    ),
    'tag 255, all': (lambda p: write_tiff(p / 'm.tif', grid(255), nodata=255), [255]),
    'tag -9': (
        lambda p: write_tiff(
            p / 'm.tif', grid(0, 1, -9999, dtype='int16'), nodata=-9999
        ),
        [0, 1, 255],
    ),
    'tag 65535': (
        lambda p: write_tiff(
            p / 'm.tif', grid(0, 255, 65535, dtype='uint16'), nodata=65535
        ),
        [0, 1, 255],
    ),
    'NaN': (
        lambda p: write_tiff(p / 'm.tif', grid(0, 1, NAN, dtype='float32')),
        [0, 1, 255],
    ),
    'palette TIFF': (
        lambda p: write_tiff(
            p / 'm.tif', grid(0, 1, 1), colormap={0: (9, 9, 9), 1: (255, 0, 0)}
        ),
        [0, 1, 1],
    ),
}
#: As CHANGE_MASKS; the values are the classes.
INDEX_MASKS = {
    'grey': (lambda p: write_png(p / 'm.png', grid(0, 1, 2, 255)), [0, 1, 2, 255]),
    'palette': (lambda p: write_palette(p / 'm.png', grid(0, 1, 2)), [0, 1, 2]),
    '16 bit': (lambda p: write_png(p / 'm.png', grid(2, 1, dtype='uint16')), [2, 1]),
    'grey as RGB': (
        lambda p: write_png(p / 'm.png', np.dstack([grid(0, 1, 2)] * 3)),
        [0, 1, 2],
    ),
    'float': (
        lambda p: write_tiff(p / 'm.tif', grid(0, 2, NAN, dtype='float32')),
        [0, 2, 255],
    ),
    'tag 255': (
        lambda p: write_tiff(p / 'm.tif', grid(1, 2, 255), nodata=255),
        [1, 2, 255],
    ),
    'tag -1': (
        lambda p: write_tiff(p / 'm.tif', grid(0, 1, -1, dtype='int16'), nodata=-1),
        [0, 1, 255],
    ),
    'tag 0': (lambda p: write_tiff(p / 'm.tif', grid(0, 1, 2), nodata=0), [255, 1, 2]),
    'palette TIFF': (
        lambda p: write_tiff(
            p / 'm.tif', grid(2, 1), colormap={1: (9, 9, 9), 2: (255, 0, 0)}
        ),
        [2, 1],
    ),
}
REFUSED = {
    'colours': (
        lambda p: write_png(p / 'm.png', np.dstack([grid(0, 1), grid(1), grid(2)])),
        r'is a colour image of 3 bands',
    ),
    'fractions': (
        lambda p: write_tiff(p / 'm.tif', grid(0, 0.5, 1, dtype='float32')),
        r'has the value 0\.5; expected whole numbers',
    ),
}


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch):
    monkeypatch.setattr('cmid_mm.images.notices._said', set())


def load_change_mask(path: Path) -> np.ndarray:
    results = dict(seg_map_path=str(path), img_path='image.png', ori_shape=(SIDE, SIDE))
    return LoadChangeMask().transform(results)['gt_seg_map']


@pytest.mark.parametrize('read', [read_change_mask, load_change_mask])
@pytest.mark.parametrize('kind', CHANGE_MASKS)
def test_change_masks_are_read(tmp_path, kind, read):
    write, expected = CHANGE_MASKS[kind]
    mask = read(write(tmp_path))
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, grid(*expected))


@pytest.mark.parametrize('kind', CHANGE_MASKS)
def test_preparation_reads_the_same_change_masks(tmp_path, kind):
    write, expected = CHANGE_MASKS[kind]
    path = write(tmp_path)
    file = SourceFile(path.name, path)
    if 255 in expected:  # would be changed in a tile of 0 and 255
        with pytest.raises(PreparationError, match='neither changed nor unchanged'):
            file.save(tmp_path / 'out', lambda p: read_for_preparation(p, SIDE, True))
        return
    with file.opened() as opened:
        tile = read_for_preparation(opened, SIDE, True)
    np.testing.assert_array_equal(tile, grid(*expected) * 255)


@pytest.mark.parametrize('internal', [True, False])
@pytest.mark.parametrize('read', [read_change_mask, read_index_mask])
def test_pixels_that_a_mask_of_the_file_hides_are_ignored(tmp_path, internal, read):
    path = write_tiff(tmp_path / 'm.tif', grid(0, 1), mask=HALF, internal=internal)
    assert (tmp_path / 'm.tif.msk').exists() != internal
    np.testing.assert_array_equal(read(path), np.where(HALF, grid(0, 1), 255))


@pytest.mark.parametrize('values', [(0, 2), (0, 1, 255), (0, 90), (3, 1000)])
def test_change_masks_that_could_mean_several_things_are_refused(tmp_path, values):
    path = write_png(tmp_path / 'm.png', grid(*values, dtype='uint16'))
    for read in (read_change_mask, load_change_mask):
        with pytest.raises(LabelError, match=rf'm\.png has the values {values[0]}, '):
            read(path)
    np.testing.assert_array_equal(
        read_change_mask(path, changed_from=2), grid(*values, dtype=int) > 1
    )


def load_index_mask(path: Path, **keys: Any) -> np.ndarray:
    results = dict(seg_map_path=str(path), ori_shape=(SIDE, SIDE), num_classes=3)
    results = LoadIndexMask().transform({**results, **keys})
    assert results['seg_fields'] == ['gt_seg_map']
    return results['gt_seg_map']


@pytest.mark.parametrize('kind', INDEX_MASKS)
def test_index_masks_are_read(tmp_path, kind):
    write, expected = INDEX_MASKS[kind]
    mask = load_index_mask(write(tmp_path))
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, grid(*expected))


@pytest.mark.parametrize('read', [read_change_mask, load_change_mask, load_index_mask])
@pytest.mark.parametrize('kind', REFUSED)
def test_what_is_no_mask_is_refused(tmp_path, kind, read):
    write, message = REFUSED[kind]
    path = write(tmp_path)
    with pytest.raises(LabelError, match=rf'{path.name} {message}'):
        read(path)


@pytest.mark.parametrize(
    ('values', 'classes', 'message'),
    [
        ((0, 3), 3, r'has the values 0, 3, of which 3 are none of the 3 classes'),
        ((0, 255), 2, r'has the values 0, 255 for 2 classes.*label_map=\{255: 1\}'),
        ((255,), 2, r'has the values 255 for 2 classes'),
        ((0, 256), 2, r'has the values 0, 256, of which 256 are none of the 2'),
        ((1, 300), None, r'has the values 1, 300, of which 300 are beyond 254'),
        (range(7), 2, r'has the values 0, .*label_map=\{2: CLASS'),
    ],
)
def test_values_that_are_no_classes_are_refused(tmp_path, values, classes, message):
    path = write_png(tmp_path / 'm.png', grid(*values, dtype='uint16'))
    with pytest.raises(LabelError, match=rf'm\.png {message}'):
        load_index_mask(path, num_classes=classes)


@pytest.mark.parametrize(
    ('label_map', 'expected'),
    [({255: 1}, [0, 1]), ({'255': '1'}, [0, 1]), ({255: 255, 0: 1}, [1, 255])],
)
def test_black_and_white_masks_can_be_declared(tmp_path, label_map, expected):
    path = write_png(tmp_path / 'm.png', grid(0, 255))
    results = dict(seg_map_path=str(path), num_classes=2)
    mask = LoadIndexMask(label_map=label_map).transform(results)['gt_seg_map']
    np.testing.assert_array_equal(mask, grid(*expected))


def test_two_classes_with_unlabelled_pixels_need_no_declaration(tmp_path):
    path = write_png(tmp_path / 'm.png', grid(0, 1, 255))
    np.testing.assert_array_equal(load_index_mask(path, num_classes=2), grid(0, 1, 255))


def test_a_declared_value_is_a_class_whatever_the_tag(tmp_path):
    path = write_tiff(tmp_path / 'm.tif', grid(0, 1), nodata=0)
    assert read_index_mask(path, 2)[0].tolist() == [255, 1] * 4
    assert read_index_mask(path, 2, {0: 0})[0].tolist() == [0, 1] * 4


def test_nan_is_ignored_even_if_the_tag_is_not(tmp_path):
    values = grid(0, 1, np.nan, dtype='float32')
    path = write_tiff(tmp_path / 'm.tif', values, nodata=0)
    expected = grid(0, 1, 255)
    np.testing.assert_array_equal(read_change_mask(path), expected)
    np.testing.assert_array_equal(read_index_mask(path, 2, {0: 0}), expected)
    assert not notices._said  # what was declared is not asked for


def test_a_class_or_change_that_a_tag_hides_is_said_once(tmp_path, caplog):
    path = write_tiff(tmp_path / 'm.tif', grid(0, 1), nodata=0)
    for _ in range(2):
        read_index_mask(path, 2)
    tagged = write_tiff(tmp_path / 'c.tif', grid(0, 255), nodata=255)
    for _ in range(2):
        read_change_mask(tagged)
    assert notices._said == {
        'index masks with a class as no-data',
        'change masks with no-data 255',
    }


@pytest.mark.parametrize('reduce_zero_label', [False, True])
@pytest.mark.parametrize('label_map', [None, {0: 255, 1: 0, 2: 1, 3: 0}])
def test_classes_are_those_of_mmseg(tmp_path, reduce_zero_label, label_map):
    pytest.importorskip('mmseg')
    from mmseg.datasets.transforms import LoadAnnotations

    path = write_png(tmp_path / 'm.png', grid(0, 1, 2, 3, 255))
    results = dict(
        seg_map_path=str(path),
        reduce_zero_label=reduce_zero_label,
        label_map=label_map,
        num_classes=4,
    )
    theirs = LoadAnnotations().transform(dict(results, seg_fields=[]))
    ours = LoadIndexMask().transform(dict(results, seg_fields=[]))
    np.testing.assert_array_equal(ours['gt_seg_map'], theirs['gt_seg_map'])
    assert ours['seg_fields'] == theirs['seg_fields']


def test_a_mask_of_another_size_is_refused(tmp_path):
    path = write_png(tmp_path / 'm.png', grid(0, 1))
    with pytest.raises(LabelError, match=r'm\.png is 8 x 8 pixels, .*a\.jpg is 9 x 7'):
        load_index_mask(path, ori_shape=(7, 9), img_path='a.jpg')
