# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import warnings

import cv2
import numpy as np
import pytest
import rasterio
from PIL import Image

from cmid_mm.datasets.transforms.loading import LoadImagery
from cmid_mm.images import (
    BandMismatchError,
    NoValidPixelError,
    Reading,
    UnreadableImageError,
    load_image,
    load_image_and_mask,
    read_header,
    read_values,
)
from cmid_mm.images.values import resize_bicubic

from . import miniatures


def texture(height, width, channels=3, seed=0):
    """Smooth random uint8 texture, (height, width, channels)."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (8, 8, channels), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).reshape(
        height, width, channels
    )


def write_raster(path, pixels, **profile):
    """Write (H, W, C) pixels by rasterio."""
    profile = {'driver': 'GTiff', **profile}
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        with rasterio.open(
            path,
            'w',
            height=pixels.shape[0],
            width=pixels.shape[1],
            count=pixels.shape[2],
            dtype=pixels.dtype,
            **profile,
        ) as target:
            target.write(pixels.transpose(2, 0, 1))
    return path


def write_image(path, pixels, **options):
    image = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    Image.fromarray(image).save(path, **options)
    return path


# -- JPEG and PNG ------------------------------------------------------------------


@pytest.mark.parametrize('name', ['a.png', 'a.tif', 'a.PNG', 'a.TIFF'])
def test_lossless_formats_keep_rgb_values(tmp_path, name):
    pixels = texture(40, 50)
    write_image(tmp_path / name, pixels)
    loaded = load_image(tmp_path / name)
    assert loaded.dtype == np.uint8
    np.testing.assert_array_equal(loaded, pixels)


def test_jpeg_matches_pillow(tmp_path):
    path = write_image(tmp_path / 'a.jpg', texture(224, 224), quality=95)
    expected = np.asarray(Image.open(path)).astype(int)
    assert np.abs(load_image(path, Reading(size=224)).astype(int) - expected).max() <= 2


@pytest.mark.parametrize('name', ['a.jpg', 'a.png', 'a.tif'])
@pytest.mark.parametrize(
    'shape', [(224, 300), (447, 448), (600, 600), (900, 1300), (100, 80)]
)
def test_resized_load_is_close_to_full_decode_and_bicubic(tmp_path, name, shape):
    path = tmp_path / name
    write_image(path, texture(*shape), **({'quality': 95} if 'jpg' in name else {}))
    with Image.open(path) as image:
        resized = image.resize((224, 224), Image.Resampling.BICUBIC)
        expected = np.asarray(resized).astype(int)
    difference = np.abs(load_image(path, Reading(size=224)).astype(int) - expected)
    assert difference.mean() < 1.0
    assert difference.max() <= 8


@pytest.mark.parametrize(
    'side, decoded',
    [(447, 224), (446, 446), (448, 224), (895, 224), (892, 446), (2048, 256)],
)
def test_jpeg_is_decoded_at_the_smallest_sufficient_scale(tmp_path, side, decoded):
    path = write_image(tmp_path / 'a.jpg', texture(side, side))
    assert read_values(path, min_size=224).values.shape == (decoded, decoded, 3)


@pytest.mark.parametrize('name', ['a.png', 'a.tif'])
def test_fine_pattern_does_not_alias(tmp_path, name):
    checkerboard = np.indices((896, 896)).sum(axis=0) % 2 * 255
    pixels = np.repeat(checkerboard[..., None], 3, axis=2).astype(np.uint8)
    write_image(tmp_path / name, pixels)
    assert (
        np.abs(
            load_image(tmp_path / name, Reading(size=224)).astype(float) - 127.5
        ).max()
        <= 2
    )


def test_exif_orientation_is_ignored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    path = write_image(tmp_path / 'a.jpg', texture(40, 60), exif=exif)
    assert load_image(path).shape == (40, 60, 3)


@pytest.mark.parametrize('name', ['a.png', 'a.jpg'])
def test_grey_is_replicated_when_three_bands_are_expected(tmp_path, name):
    path = write_image(tmp_path / name, texture(30, 30, 1))
    loaded = load_image(path)
    assert loaded.shape == (30, 30, 3)
    assert (loaded == loaded[..., :1]).all()
    assert load_image(path, Reading(num_bands=1)).shape == (30, 30, 1)


def test_alpha_of_png_is_dropped_unless_four_bands_are_expected(tmp_path):
    pixels = texture(30, 30, 4)
    pixels[..., 3] |= 1
    path = write_image(tmp_path / 'a.png', pixels)
    np.testing.assert_array_equal(load_image(path), pixels[..., :3])
    np.testing.assert_array_equal(load_image(path, Reading(num_bands=4)), pixels)


def test_palette_png_is_expanded(tmp_path):
    pixels = texture(30, 30)
    indexed = Image.fromarray(pixels).quantize(16)
    indexed.save(tmp_path / 'a.png')
    expected = np.asarray(indexed.convert('RGB'))
    np.testing.assert_array_equal(load_image(tmp_path / 'a.png'), expected)


def test_16_bit_png_is_mapped_like_any_16_bit_file(tmp_path):
    pixels = (np.arange(64 * 64).reshape(64, 64) * 16).astype(np.uint16)
    cv2.imwrite(str(tmp_path / 'a.png'), pixels)
    loaded = load_image(tmp_path / 'a.png', Reading(num_bands=1))
    assert loaded.dtype == np.float32
    np.testing.assert_allclose(loaded[..., 0], pixels * (255 / 65535), atol=1e-3)


@pytest.mark.parametrize('name', ['a.jpg', 'a.png', 'a.tif', 'a.jp2'])
def test_image_size_from_header(tmp_path, name):
    pixels = texture(48, 80)
    if name == 'a.jp2':
        write_raster(tmp_path / name, pixels, driver='JP2OpenJPEG')
    else:
        write_image(tmp_path / name, pixels)
    assert read_header(tmp_path / name).shape == (48, 80)


def test_image_size_behind_long_metadata(tmp_path):
    profile = bytes(300_000)
    path = write_image(tmp_path / 'a.jpg', texture(48, 80), icc_profile=profile)
    assert read_header(path).shape == (48, 80)
    assert load_image(path, Reading(size=32)).shape == (32, 32, 3)


# -- Unreadable files --------------------------------------------------------------


COMPRESSED = {
    'a.jpg': {},
    'progressive.jpg': {'progressive': True},
    'a.png': {},
    'lzw.tif': {'compression': 'tiff_lzw'},
}


@pytest.mark.parametrize('share', [0.0, 0.01, 0.3, 0.6, 0.95, 0.995])
@pytest.mark.parametrize('name', [*COMPRESSED, 'raw.tif'])
def test_truncated_file_is_refused(tmp_path, name, share):
    path = write_image(tmp_path / name, texture(300, 300), **COMPRESSED.get(name, {}))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UnreadableImageError, match=name):
        load_image(path, Reading(size=64))


@pytest.mark.parametrize('share', [0.3, 0.6, 0.95])
def test_truncated_jpeg_2000_is_refused(tmp_path, share):
    path = write_raster(tmp_path / 'a.jp2', texture(300, 300), driver='JP2OpenJPEG')
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UnreadableImageError, match=r'a\.jp2'):
        load_image(path, Reading(size=64))


@pytest.mark.parametrize('share', [0.3, 0.95])
@pytest.mark.parametrize('name', COMPRESSED)
def test_half_downloaded_file_padded_with_zeros_is_refused(tmp_path, name, share):
    path = write_image(tmp_path / name, texture(300, 300), **COMPRESSED[name])
    content = path.read_bytes()
    kept = int(share * len(content))
    path.write_bytes(content[:kept] + bytes(len(content) - kept))
    with pytest.raises(UnreadableImageError, match=name):
        load_image(path, Reading(size=64))


def test_truncated_jpeg_with_thumbnail_is_refused(tmp_path):
    thumbnail = tmp_path / 'small.jpg'
    write_image(thumbnail, texture(32, 32))
    exif = Image.Exif()
    exif[0x927C] = thumbnail.read_bytes()  # has an end-of-image marker of its own
    path = write_image(tmp_path / 'a.jpg', texture(300, 300), exif=exif)
    content = path.read_bytes()
    assert content.count(b'\xff\xd9') >= 2
    path.write_bytes(content[: int(0.9 * len(content))])
    with pytest.raises(UnreadableImageError, match='truncated'):
        load_image(path)


def test_jpeg_with_trailing_bytes_is_accepted(tmp_path):
    path = write_image(tmp_path / 'a.jpg', texture(64, 64))
    expected = load_image(path)
    path.write_bytes(path.read_bytes() + bytes(100))
    np.testing.assert_array_equal(load_image(path), expected)


def test_corrupt_png_is_refused(tmp_path):
    path = write_image(tmp_path / 'a.png', texture(64, 64))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UnreadableImageError, match=r'a\.png'):
        load_image(path)


@pytest.mark.parametrize('name', ['a.jpg', 'a.png', 'a.tif'])
def test_missing_and_foreign_files_are_unreadable(tmp_path, name):
    with pytest.raises(UnreadableImageError, match=name):
        load_image(tmp_path / name)
    (tmp_path / name).write_text('this is a text file, not an image')
    with pytest.raises(UnreadableImageError, match=name):
        load_image(tmp_path / name)
    with pytest.raises(UnreadableImageError, match=name):
        read_header(tmp_path / name)


def test_content_decides_not_the_name(tmp_path):
    pixels = texture(30, 40)
    path = write_image(tmp_path / 'a.png', pixels).rename(tmp_path / 'a.jpg')
    np.testing.assert_array_equal(load_image(path), pixels)
    path = write_image(tmp_path / 'b.tif', pixels).rename(tmp_path / 'b.png')
    np.testing.assert_array_equal(load_image(path), pixels)


# -- Bands -------------------------------------------------------------------------


def test_bands_are_chosen_in_order(tmp_path):
    pixels = texture(30, 30, 8)
    path = write_raster(tmp_path / 'a.tif', pixels)
    np.testing.assert_array_equal(load_image(path, Reading(num_bands=8)), pixels)
    np.testing.assert_array_equal(
        load_image(path, Reading(bands=(4, 3, 2))), pixels[..., [3, 2, 1]]
    )


def test_eight_band_resize_treats_bands_alike(tmp_path):
    pixels = texture(100, 90, 8)
    together = resize_bicubic(pixels, 64)
    for band in range(8):
        alone = resize_bicubic(np.ascontiguousarray(pixels[..., band : band + 1]), 64)
        np.testing.assert_array_equal(together[..., band], alone[..., 0])


@pytest.mark.parametrize('name, found', [('a.tif', 8), ('b.tif', 2)])
def test_band_mismatch_names_file_counts_and_both_fixes(tmp_path, name, found):
    path = write_raster(tmp_path / name, texture(30, 30, found))
    with pytest.raises(BandMismatchError) as caught:
        load_image(path)
    message = str(caught.value)
    for part in (name, f'found {found}', 'expected 3', 'bands=', 'data_preprocessor'):
        assert part in message
    # A wrong configuration must stop the run, not be skipped as unreadable.
    assert not isinstance(caught.value, UnreadableImageError)


def test_band_outside_of_file(tmp_path):
    path = write_raster(tmp_path / 'a.tif', texture(30, 30, 4))
    with pytest.raises(BandMismatchError, match=r'a\.tif.*has 4 bands'):
        load_image(path, Reading(bands=(3, 4, 5)))
    with pytest.raises(BandMismatchError, match='selects 2 bands but num_bands=3'):
        Reading(num_bands=3, bands=(1, 2))


def test_count_bands(tmp_path):
    eight = write_raster(tmp_path / 'a.tif', texture(9, 9, 8))
    assert read_header(eight).num_bands == 8
    transparent = write_image(tmp_path / 'a.png', texture(9, 9, 4))
    assert read_header(transparent).num_bands == 3


# -- Values ------------------------------------------------------------------------


@pytest.mark.parametrize(
    'dtype, low, high', [(np.uint16, 0, 65535), (np.int16, -32768, 32767)]
)
def test_16_bit_default_is_the_range_of_the_type(tmp_path, dtype, low, high):
    pixels = np.linspace(low, high, 900).astype(dtype).reshape(30, 30, 1)
    path = write_raster(tmp_path / 'a.tif', pixels)
    loaded = load_image(path, Reading(num_bands=1))
    assert loaded.dtype == np.float32
    expected = (pixels.astype(float) - low) * 255 / (high - low)
    np.testing.assert_allclose(loaded, expected, atol=1e-3)


def test_value_range_is_linear_and_clipped(tmp_path):
    pixels = np.array([[0, 100], [600, 5000]], np.uint16)[..., None]
    path = write_raster(tmp_path / 'a.tif', pixels)
    loaded = load_image(path, Reading(num_bands=1, value_range=(100, 1100)))
    np.testing.assert_allclose(loaded[..., 0], [[0, 0], [127.5, 255]], atol=1e-4)


def test_value_range_leaves_8_bit_alone(tmp_path):
    pixels = texture(30, 30)
    path = write_image(tmp_path / 'a.png', pixels)
    np.testing.assert_array_equal(
        load_image(path, Reading(value_range=(0, 100))), pixels
    )


def test_float_file_needs_value_range(tmp_path):
    pixels = np.linspace(-1, 1, 100, dtype=np.float32).reshape(10, 10, 1)
    path = write_raster(tmp_path / 'a.tif', pixels)
    with pytest.raises(ValueError, match=r'a\.tif.*float32.*value_range'):
        load_image(path, Reading(num_bands=1))
    loaded = load_image(path, Reading(num_bands=1, value_range=(-1, 1)))
    np.testing.assert_allclose(loaded, (pixels + 1) * 127.5, atol=1e-4)


# -- No data -----------------------------------------------------------------------


def test_nodata_is_filled_with_the_mean_of_valid_pixels(tmp_path):
    generator = np.random.default_rng(0)
    pixels = generator.integers(1000, 2000, (40, 40, 2)).astype(np.int16)
    pixels[:10, :, 0] = -9999
    pixels[:, :20, 1] = -9999
    path = write_raster(tmp_path / 'a.tif', pixels, nodata=-9999)
    image, valid = load_image_and_mask(
        path, Reading(num_bands=2, value_range=(0, 2550))
    )
    np.testing.assert_array_equal(valid, pixels != -9999)
    for band in range(2):
        keep = pixels[..., band] != -9999
        mean = pixels[..., band][keep].mean() / 10
        np.testing.assert_allclose(image[..., band][~keep], mean, rtol=1e-5)
        np.testing.assert_allclose(
            image[..., band][keep], pixels[..., band][keep] / 10, rtol=1e-5
        )


def test_nodata_does_not_bleed_into_reduced_image(tmp_path):
    pixels = np.full((512, 512, 1), 200, np.uint8)
    pixels[:, :250] = 0
    path = write_raster(tmp_path / 'a.tif', pixels, nodata=0)
    assert (load_image(path, Reading(size=64, num_bands=1)) == 200).all()


def test_undeclared_nodata_can_be_named(tmp_path):
    pixels = np.full((512, 512, 1), 100, np.uint8)
    pixels[:250] = 255
    path = write_raster(tmp_path / 'a.tif', pixels)
    assert (load_image(path, Reading(size=64, num_bands=1, nodata=255)) == 100).all()
    assert load_image(path, Reading(size=64, num_bands=1)).max() == 255


def test_8_bit_marker_in_one_band_only_is_a_bright_pixel(tmp_path):
    pixels = np.full((20, 20, 3), 100, np.uint8)
    pixels[5, 5] = (255, 90, 80)  # a red roof
    pixels[6, 6] = 255  # missing
    path = write_raster(tmp_path / 'a.tif', pixels, nodata=255)
    image, valid = load_image_and_mask(path)
    assert image[5, 5].tolist() == [255, 90, 80]
    assert image[6, 6].tolist() == [100, 100, 100]
    assert valid.sum() == 3 * (400 - 1)


def test_transparent_pixels_of_a_raster_are_missing(tmp_path):
    pixels = np.full((30, 30, 4), 100, np.uint8)
    pixels[:10, :, :3] = 7
    pixels[..., 3] = 255
    pixels[:10, :, 3] = 0
    path = write_raster(tmp_path / 'a.tif', pixels, photometric='RGB', alpha='YES')
    assert read_header(path).num_bands == 3
    assert (load_image(path) == 100).all()


@pytest.mark.parametrize('side', [30, 300])
def test_near_infrared_as_fourth_band_is_data(tmp_path, side):
    pixels = np.full((side, side, 4), 100, np.uint8)
    pixels[: side // 2, :, 0] = 40
    pixels[: side // 2, :, 3] = 0  # dark water
    path = write_raster(tmp_path / 'a.tif', pixels)
    expected = pixels[:: side // 30, :: side // 30]
    np.testing.assert_array_equal(
        load_image(path, Reading(size=30, num_bands=4)), expected
    )
    infrared_first = load_image(path, Reading(size=30, bands=(4, 1, 2)))
    np.testing.assert_array_equal(infrared_first, expected[..., [3, 0, 1]])


def test_nan_is_missing(tmp_path):
    pixels = np.full((30, 30, 1), 0.5, np.float32)
    pixels[:3] = np.nan
    path = write_raster(tmp_path / 'a.tif', pixels)
    loaded = load_image(path, Reading(num_bands=1, value_range=(0, 1)))
    np.testing.assert_allclose(loaded, 127.5)


def test_image_without_valid_pixel_is_unreadable(tmp_path):
    path = write_raster(tmp_path / 'a.tif', np.zeros((9, 9, 3), np.uint8), nodata=0)
    with pytest.raises(NoValidPixelError, match=r'a\.tif.*no valid pixel'):
        load_image(path)


# -- Windows -----------------------------------------------------------------------


@pytest.mark.parametrize('name', ['a.tif', 'a.png', 'a.jpg'])
def test_window_is_that_part_of_the_image(tmp_path, name):
    path = write_image(tmp_path / name, texture(100, 120))
    whole = load_image(path)
    part = load_image(path, window=(10, 30, 40, 50))
    np.testing.assert_array_equal(part, whole[10:50, 30:80])


@pytest.mark.parametrize('name', ['a.tif', 'a.png'])
@pytest.mark.parametrize('reading', [Reading(), Reading(size=6)])
def test_what_of_a_window_lies_beyond_the_edges_is_missing(tmp_path, name, reading):
    pixels = texture(20, 24) // 2 + 1
    write = write_image if name == 'a.png' else write_raster
    file = write(tmp_path / name, pixels)
    image, valid = load_image_and_mask(file, reading, (14, -6, 12, 12))
    side = reading.size or 12
    assert image.shape == (side, side, 3)
    assert valid.mean() == 0.25 and valid[: side // 2, side // 2 :].all()
    if reading.size is None:
        here = pixels[14:, :6]
        assert np.array_equal(image[:6, 6:], here)
        mean = np.rint(here.mean((0, 1))).astype(np.uint8)
        assert (image[~valid].reshape(-1, 3) == mean).all()
    for outside in ((20, 0, 9, 9), (-9, 0, 9, 9), (0, 24, 9, 9), (0, 0, 0, 9)):
        with pytest.raises(ValueError, match=r'outside of .* is 24 x 20 pixels'):
            load_image_and_mask(file, reading, outside)


def test_large_window_is_read_at_reduced_resolution(tmp_path):
    path = write_image(tmp_path / 'a.tif', texture(400, 400))
    raw = read_values(path, window=(0, 0, 300, 390), min_size=64)
    assert raw.values.shape == (75, 98, 3)


# -- Transform ---------------------------------------------------------------------


def test_load_imagery_adds_a_square_image(tmp_path):
    path = write_raster(tmp_path / 'a.tif', texture(60, 90, 5))
    results = LoadImagery(size=32, num_bands=5)({'img_path': str(path)})
    assert results['img'].shape == (32, 32, 5)
    chosen = LoadImagery(size=32, bands=(5, 1))({'img_path': str(path)})
    np.testing.assert_array_equal(chosen['img'], results['img'][..., [4, 0]])


def test_load_imagery_refuses_an_empty_value_range():
    with pytest.raises(ValueError, match='value_range must be'):
        LoadImagery(size=32, value_range=(5, 5))


def test_mosaic_with_a_missing_part_stays_unreadable(tmp_path):
    """GDAL complains once, and reads zeros afterwards."""
    miniature = miniatures.mosaic(tmp_path)
    (tmp_path / 'right.tif').unlink()
    for _ in range(3):
        with pytest.raises(UnreadableImageError, match=r'right\.tif'):
            load_image(miniature.path, miniature.reading)
