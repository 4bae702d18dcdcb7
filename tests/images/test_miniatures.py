# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Every kind of file gives every user of the reader the same pixels."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from mmengine.config import Config

from cmid_mm.datasets import ImageryDataset
from cmid_mm.datasets.statistics import dataset_statistics
from cmid_mm.datasets.transforms import LoadImagery
from cmid_mm.datasets.transforms.bitemporal import LoadImagePair
from cmid_mm.images import ImageFile, find_images, load_image_and_mask, read_values
from cmid_mm.inference.images import InputImage, InputPair
from cmid_mm.preparation.dota_tiles import TileSettings, _read_image
from cmid_mm.preparation.errors import PreparationError
from cmid_mm.preparation.sources import SourceFile
from cmid_mm.visualization.samples import SampleBrowser

from .miniatures import MAKERS


@pytest.fixture(params=MAKERS, ids=lambda maker: maker.__name__)
def miniature(request, tmp_path):
    return request.param(tmp_path)


def options(reading):
    return dict(
        bands=reading.bands,
        value_range=reading.value_range,
        num_bands=reading.num_bands,
        nodata=reading.nodata,
    )


def check(found, missing, miniature):
    """Values to half a step where there are some; the rest is missing, and finite."""
    valid = ~miniature.missing
    assert found.shape == miniature.values.shape
    np.testing.assert_allclose(
        found[valid].astype(float), miniature.scaled[valid].astype(float), atol=0.5
    )
    assert np.isfinite(found).all()
    if missing is None:
        missing = np.zeros_like(miniature.missing)
    np.testing.assert_array_equal(missing, miniature.missing)


def test_values_and_mask(miniature):
    pixels = read_values(miniature.path, miniature.reading)
    valid = ~miniature.missing
    np.testing.assert_allclose(pixels.values[valid], miniature.values[valid], rtol=1e-6)
    missing = pixels.missing
    assert (missing is None) == valid.all()
    if missing is not None:
        np.testing.assert_array_equal(missing, miniature.missing)
    if miniature.gdal_mask:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            with rasterio.open(miniature.path) as source:
                np.testing.assert_array_equal(
                    source.dataset_mask() == 0, miniature.missing
                )


def test_loaded_image(miniature):
    image, valid = load_image_and_mask(miniature.path, miniature.reading)
    check(image, None if valid is None else ~valid.any(axis=2), miniature)
    loader = LoadImagery(**options(miniature.reading))
    loaded = loader({'img_path': str(miniature.path)})['img']
    np.testing.assert_array_equal(loaded, image)


def test_window(miniature):
    top, left, height, width = 16, 24, 20, 30
    part = slice(top, top + height), slice(left, left + width)
    missing = miniature.missing[part]
    whole, _ = load_image_and_mask(miniature.path, miniature.reading)
    if missing.all():
        return
    image, valid = load_image_and_mask(
        miniature.path, miniature.reading, (top, left, height, width)
    )
    np.testing.assert_array_equal(image[~missing], whole[part][~missing])
    assert (valid is None) == (not missing.any())
    if valid is not None:
        np.testing.assert_array_equal(~valid.any(axis=2), missing)


def test_reduced_read(miniature):
    """The mean of what is valid under each pixel, in every band."""
    pixels = read_values(miniature.path, miniature.reading, min_size=12)
    height, width = miniature.missing.shape
    assert pixels.values.shape[:2] == (12, 16)
    blocks = np.ma.masked_array(
        miniature.values.astype(np.float64),
        np.broadcast_to(miniature.missing[..., None], miniature.values.shape),
    ).reshape(12, height // 12, 16, width // 16, -1)
    expected = blocks.mean(axis=(1, 3))
    if miniature.path.suffix == '.jpg':  # the decoder reduces before colours
        tolerance = 20.0
    else:
        # Rounding, and at the edge of transparency whole pixels only.
        tolerance = 0.51 if pixels.values.dtype.kind in 'iu' else 1e-5 * 255
    present = ~np.ma.getmaskarray(expected)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(
        pixels.values[present].astype(np.float64),
        expected[present].astype(np.float64),
        atol=tolerance,
        rtol=1e-6 if scale > 1e6 else 0,
    )
    missing = pixels.missing
    np.testing.assert_array_equal(
        ~present.any(axis=2),
        np.zeros(present.shape[:2], bool) if missing is None else missing,
    )


def test_prediction_reads_what_training_reads(miniature):
    image = InputImage(miniature.path, LoadImagery(**options(miniature.reading)))
    pixels, missing = image.read()
    check(pixels, missing, miniature)
    preview = image.preview(10_000)
    valid = ~miniature.missing
    np.testing.assert_array_equal(preview[valid], pixels[valid])


def test_pairs(miniature):
    paths = [miniature.path] * 2
    loader = LoadImagePair(**options(miniature.reading))
    pixels, missing = InputPair(paths, loader).read()
    for date in np.split(pixels, 2, axis=2):
        check(date, missing, miniature)
    data = dict(zip(('img_path', 'img_path2'), map(str, paths), strict=True))
    np.testing.assert_array_equal(loader(data)['img'], pixels)


def test_statistics(miniature):
    # Listed, as a VRT stands beside the files that it is made of.
    (miniature.path.parent / 'list.txt').write_text(f'{miniature.path.name}\n')
    dataset = ImageryDataset(str(miniature.path.parent), 'list.txt')
    reading = miniature.reading
    if reading.value_range is None and miniature.values.dtype != np.uint8:
        reading = replace(reading, value_range=(0, 65535))
    found = dataset_statistics(dataset, reading)
    values = miniature.scaled[~miniature.missing].astype(np.float64)
    np.testing.assert_allclose(found.mean, values.mean(axis=0), atol=0.02)
    np.testing.assert_allclose(found.std, values.std(axis=0), atol=0.02)
    assert found.images == 1 and not found.unreadable


def test_pre_training(miniature):
    (miniature.path.parent / 'list.txt').write_text(f'{miniature.path.name}\n')
    dataset = ImageryDataset(
        str(miniature.path.parent),
        'list.txt',
        pipeline=[dict(type='LoadImagery', **options(miniature.reading))],
        max_unreadable=0,
    )
    check(dataset[0]['img'], miniature.missing, miniature)


def test_folder_holds_one_image(miniature):
    assert find_images(miniature.path.parent) == [miniature.path]


def test_place(miniature):
    place = ImageFile(miniature.path).place
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        with rasterio.open(miniature.path) as source:
            georeferenced = not source.transform.is_identity
            assert (place is not None) == georeferenced
            if place is not None:
                assert place.transform == source.transform
                assert place.crs == source.crs


def test_preparation(miniature):
    """Tiles of one's own images for oriented detection, in 8 bits."""
    source = SourceFile(miniature.path.name, miniature.path)
    settings = TileSettings((64,), (0,), reading=miniature.reading)
    if miniature.values.dtype != np.uint8 and miniature.reading.value_range is None:
        with pytest.raises(PreparationError, match='--value-range'):
            _read_image(source, settings)
        return
    found = _read_image(source, settings)
    valid = ~miniature.missing
    assert found.dtype == np.uint8
    np.testing.assert_allclose(
        found[valid].astype(float), miniature.scaled[valid].astype(float), atol=1
    )


def test_browsing(miniature):
    """What is drawn is what the network gets, the normalisation undone."""
    folder, bands = miniature.path.parent, miniature.reading.num_bands
    (folder / 'list.txt').write_text(f'{miniature.path.name} 0\n', encoding='utf-8')
    load = dict(type='LoadImagery', **options(miniature.reading))
    dataset = dict(
        type='SceneDataset',
        data_root=str(folder),
        ann_file='list.txt',
        pipeline=[load, dict(type='PackInputs')],
    )
    cfg = Config(
        dict(
            default_scope='mmpretrain',
            model=dict(
                type='ImageClassifier',
                backbone=dict(type='ResNet', depth=18),
                neck=dict(type='GlobalAveragePooling'),
                head=dict(type='LinearClsHead', num_classes=2, in_channels=512),
            ),
            data_preprocessor=dict(mean=[90.0] * bands, std=[30.0] * bands),
            train_dataloader=dict(dataset=dataset),
        )
    )
    browser = SampleBrowser(cfg)
    batch = browser.preprocessor(browser.collate([browser.dataset[0]]), True)
    (found,) = browser._pixels(batch['inputs'])
    check(found, miniature.missing, miniature)
    assert len(list(browser.draw(1))) == 1
