# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Scenes of several files are one image, for every user."""

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp

from cmid_mm.datasets import ImageryDataset
from cmid_mm.images import (
    BandMismatchError,
    ImageFile,
    PlaceMismatchError,
    Reading,
    UnreadableImageError,
    find_images,
    find_pairs,
    load_image,
    named_images,
    notices,
    read_header,
    read_values,
)

from .scenes import (
    ORDER,
    SENTINEL2,
    SIDE,
    landsat,
    sentinel2,
    sentinel2_values,
    write_band,
)

BANDS = {'L1C': ORDER, 'L2A': [band for band in ORDER if band != 'B10']}


def on_finest_grid(level):
    """Bands of a Sentinel-2 scene, (H, W, C), each pixel repeated to 10 m."""
    return np.stack(
        [
            np.kron(values, np.ones((SENTINEL2[band] // 10,) * 2, np.uint16))
            for band, values in sentinel2_values(level).items()
        ],
        axis=2,
    )


# -- Sentinel-2 --------------------------------------------------------------------


@pytest.mark.parametrize('level', BANDS)
def test_a_sentinel2_scene_is_one_image(tmp_path, level):
    safe = sentinel2(tmp_path, level)
    expected = on_finest_grid(level)
    with ImageFile(safe) as image:
        header, place = image.header, image.place
    assert header.shape == (SIDE // 10, SIDE // 10)
    assert header.band_names == tuple(BANDS[level])
    assert header.dtype == np.uint16 and header.alpha is None
    assert place.crs == 'EPSG:32632'
    assert place.transform.to_gdal() == (5e5, 10, 0, 5e6, 0, -10)
    assert read_header(safe) == header
    reading = Reading(len(BANDS[level]))
    np.testing.assert_array_equal(read_values(safe, reading).values, expected)
    # Windows that begin and end inside the larger pixels.
    part = read_values(safe, reading, (7, 11, 22, 17)).values
    np.testing.assert_array_equal(part, expected[7:29, 11:28])


@pytest.mark.parametrize('maker', ['sentinel2', 'landsat'])
def test_zeros_of_a_scene_are_no_data_though_its_files_do_not_say_so(tmp_path, maker):
    if maker == 'sentinel2':
        folder = sentinel2(tmp_path)
    else:
        folder = landsat(tmp_path, 'LE71930272000225EDC00', ['B1', 'B2', 'B3'], [])
    for path in [*folder.rglob('*.jp2'), *folder.rglob('*.TIF')]:
        with rasterio.open(path, 'r+') as band:
            values = band.read()
            values[:, : band.height // 2] = 0
            band.write(values)
            band.nodata = None
    with ImageFile(folder) as image:
        valid = image.read(Reading(len(image.header.band_names))).valid
    assert valid is not None
    assert not valid[: len(valid) // 2].any() and valid[len(valid) // 2 :].all()


@pytest.mark.parametrize(
    'baselines, told',
    [(('0214', '0301'), 0), (('0400', '0510'), 0), (('0301', '0400'), 1)],
)
def test_values_of_two_meanings_are_said(tmp_path, monkeypatch, baselines, told):
    warned = []
    monkeypatch.setattr(notices, '_said', set())
    monkeypatch.setattr(notices, 'say', warned.append)
    for tile, baseline in zip(('32TQM', '33TUL'), baselines, strict=True):
        name = f'S2A_MSIL2A_20200101T101010_N{baseline}_R022_T{tile}_20230101T000000'
        sentinel2(tmp_path, 'L2A').rename(tmp_path / f'{name}.SAFE')
    ImageryDataset(str(tmp_path)).full_init()
    assert len(warned) == told and all('N0400_R022' in text for text in warned)


def test_bands_by_name_and_by_number(tmp_path):
    safe = sentinel2(tmp_path)
    by_name = read_values(safe, Reading(bands=['B04', 'B03', 'B02'])).values
    np.testing.assert_array_equal(
        by_name, read_values(safe, Reading(bands=[4, 3, 2])).values
    )
    np.testing.assert_array_equal(by_name, on_finest_grid('L1C')[..., [3, 2, 1]])
    with pytest.raises(BandMismatchError, match=r'has 13 bands \(1 B01, .*9 B8A, '):
        read_values(safe, Reading(bands=['B13']))
    with pytest.raises(BandMismatchError, match=r'found 13 bands \(1 B01, .* 13 B12\)'):
        load_image(safe)


def test_a_missing_band_is_named(tmp_path):
    safe = sentinel2(tmp_path)
    for path in safe.rglob('*_B09.jp2'):
        path.unlink()
    with pytest.raises(UnreadableImageError, match=r'no file of band B09.*\.bands'):
        ImageFile(safe)


def test_granules_of_one_scene_are_side_by_side(tmp_path):
    safe = sentinel2(tmp_path)
    east = sentinel2(tmp_path / 'other', corner=(5e5 + SIDE, 5e6))
    (granule,) = (east / 'GRANULE').iterdir()
    granule.rename(safe / 'GRANULE' / 'second')
    values = read_values(safe, Reading(13)).values
    np.testing.assert_array_equal(values, np.tile(on_finest_grid('L1C'), (1, 2, 1)))


# -- Landsat -----------------------------------------------------------------------

LANDSAT = {
    'LC08_L1TP_017030_20200101_20200113_01_T1': (
        ['B1', 'B2', 'B3', 'B4', 'B5', 'B6', 'B7', 'B9', 'B10', 'B11'],
        ['B8', 'BQA'],
    ),
    'LC09_L2SP_017030_20220101_20220113_02_T1': (
        ['SR_B1', 'SR_B2', 'SR_B3', 'SR_B4', 'SR_B5', 'SR_B6', 'SR_B7', 'ST_B10'],
        ['QA_PIXEL', 'SR_QA_AEROSOL', 'ST_QA', 'ST_EMIS'],
    ),
    'LE07_L1TP_022049_20020722_20200916_02_T1': (
        ['B1', 'B2', 'B3', 'B4', 'B5', 'B6_VCID_1', 'B6_VCID_2', 'B7'],
        ['B8', 'QA_PIXEL'],
    ),
    'LE70220492002106EDC00': (
        ['B10', 'B20', 'B30', 'B40', 'B50', 'B61', 'B62', 'B70'],
        ['B80'],
    ),
    'LT05_L1TP_022049_19990101_20200916_02_T1': (
        ['B1', 'B2', 'B3', 'B4', 'B5', 'B6', 'B7'],
        ['QA_PIXEL'],
    ),
    'LT05_L1TP_022049_19990101_20160916_01_T1': (
        ['sr_band1', 'sr_band2', 'sr_band3', 'sr_band4', 'sr_band5', 'sr_band7'],
        ['pixel_qa'],
    ),
}


@pytest.mark.parametrize('product', LANDSAT)
def test_a_landsat_scene_is_one_image(tmp_path, product):
    bands, others = LANDSAT[product]
    scene = landsat(tmp_path, product, bands, others)
    header = read_header(scene)
    assert header.band_names == tuple(bands)
    assert header.shape == (6, 8) and header.nodata == 0
    values = read_values(scene, Reading(len(bands))).values
    np.testing.assert_array_equal(values[3, 5], np.arange(1, len(bands) + 1))
    assert find_images(tmp_path) == [scene]


def test_bands_of_several_scenes_in_one_folder_are_images_of_their_own(tmp_path):
    for product in list(LANDSAT)[:2]:
        landsat(tmp_path, product, ['B1', 'B2'], [])
    folder = tmp_path / 'all'
    folder.mkdir()
    for path in list(tmp_path.rglob('*.TIF')):
        path.rename(folder / path.name)
    assert len(find_images(folder)) == 4
    with pytest.raises(UnreadableImageError, match='all: a folder, but of no single'):
        ImageFile(folder)


# -- Finding -----------------------------------------------------------------------


def test_a_scene_stands_for_its_files(tmp_path):
    safe = sentinel2(tmp_path)
    product = 'LC08_L1TP_017030_20200101_20200113_01_T1'
    scene = landsat(tmp_path, product, ['B1', 'B2'], ['B8'])
    alone = write_band(tmp_path / 'alone.tif', np.ones((4, 4), np.uint16))
    beside = write_band(scene / 'dem.tif', np.ones((4, 4), np.uint16))
    expected = sorted([safe, scene, alone, beside])
    assert find_images(tmp_path) == expected
    assert find_images(tmp_path, recursive=False) == expected
    assert named_images([safe, tmp_path / 'LC08*']) == [safe, scene]
    assert find_images(safe) == [safe]
    assert find_pairs([safe, scene]) == [(safe, scene)]


def test_pre_training_on_scenes(tmp_path):
    safe = sentinel2(tmp_path)
    load = dict(type='LoadImagery', bands=['B08', 'B04'], value_range=(0, 3000))
    found = ImageryDataset(str(tmp_path), pipeline=[load], tile_size=16)
    assert len(found) == 9
    expected = on_finest_grid('L1C')[16:32, 32:48, [7, 3]] * (255 / 3000)
    np.testing.assert_allclose(found[5]['img'], expected, atol=0.5)
    (tmp_path / 'list.txt').write_text(safe.name)
    listed = ImageryDataset(str(tmp_path), 'list.txt', pipeline=[load], tile_size=16)
    np.testing.assert_array_equal(listed[5]['img'], found[5]['img'])


# -- Lists of bands ----------------------------------------------------------------


def texture(height, width, seed=0, high=200):
    return np.random.default_rng(seed).integers(1, high, (height, width), np.uint8)


def test_listed_bands(tmp_path):
    fine, coarse = texture(12, 18), texture(4, 6, 1)
    pair = np.stack([texture(12, 18, 2), texture(12, 18, 3)])
    write_band(tmp_path / 'parts' / 'coarse.tif', coarse, 30)
    write_band(tmp_path / 'parts' / 'fine.tif', fine, 10)
    write_band(tmp_path / 'parts' / 'pair.tif', pair.astype(np.int16), 10)
    scene = tmp_path / 'scene.bands'
    scene.write_text('# radar\nparts/coarse.tif\nparts/fine.tif\n\nparts/pair.tif\n')
    header = read_header(scene)
    assert header.band_names == ('coarse', 'fine', 'pair_1', 'pair_2')
    assert header.dtype == np.int16  # holds the values of all
    expected = np.stack([np.kron(coarse, np.ones((3, 3))), fine, *pair], axis=2)
    np.testing.assert_array_equal(read_values(scene, Reading(4)).values, expected)
    assert find_images(tmp_path) == [scene]


def test_missing_pixels_of_one_band(tmp_path):
    """A marker of one file counts as that of one file of all bands would."""
    values = np.stack([texture(6, 6, seed) for seed in range(3)])
    values[:, :2] = 0
    values[1, 4:] = 0
    for i in range(3):
        marker = dict(nodata=0) if i == 1 else {}
        write_band(tmp_path / f'{i}.tif', values[i], **marker)
    scene = tmp_path / 'scene.bands'
    scene.write_text('0.tif\n1.tif\n2.tif')
    valid = read_values(scene).valid
    assert not valid[:2].any() and valid[2:].all()
    whole = write_band(tmp_path / 'whole.tif', values, nodata=0)
    np.testing.assert_array_equal(valid, read_values(whole).valid)


def test_bands_with_masks_and_markers_of_their_own(tmp_path):
    values = np.stack([texture(6, 6, seed) for seed in range(3)]).astype(np.float32)
    values[0, 0] = -9999
    values[1, 1] = -1
    write_band(tmp_path / '0.tif', values[0], nodata=-9999)
    write_band(tmp_path / '1.tif', values[1], nodata=-1)
    masked = write_band(tmp_path / '2.tif', values[2])
    with rasterio.open(masked, 'r+') as target:
        mask = np.full((6, 6), 255, np.uint8)
        mask[2] = 0
        target.write_mask(mask)
    scene = tmp_path / 'scene.bands'
    scene.write_text('0.tif\n1.tif\n2.tif')
    expected = np.ones((6, 6, 3), bool)
    expected[[0, 1, 2], :, [0, 1, 2]] = False
    np.testing.assert_array_equal(read_values(scene).valid, expected)
    # Whatever the order in which they are asked for.
    turned = read_values(scene, Reading(bands=[3, 1])).valid
    np.testing.assert_array_equal(turned, expected[..., [2, 0]])


def test_bands_that_end_earlier_are_missing_there(tmp_path):
    write_band(tmp_path / 'a.tif', texture(6, 6), 10)
    write_band(tmp_path / 'b.tif', texture(2, 2), 20, corner=(5e5, 5e6))
    scene = tmp_path / 'scene.bands'
    scene.write_text('a.tif\nb.tif')
    valid = read_values(scene, Reading(2)).valid
    assert valid[..., 0].all()
    assert valid[:4, :4, 1].all() and not valid[4:, :, 1].any()


def test_bands_of_another_ground_are_refused(tmp_path):
    write_band(tmp_path / 'a.tif', texture(6, 6))
    scene = tmp_path / 'scene.bands'
    for message, options in (
        (r'b\.tif does not cover the same ground', dict(corner=(5e5 + 30, 5e6))),
        (r'b\.tif and .*a\.tif are in different ref', dict(crs='EPSG:32633')),
        ('not both say where they lie', dict(transform=None)),
    ):
        write_band(tmp_path / 'b.tif', texture(6, 5), **options)
        scene.write_text('a.tif\nb.tif')
        with pytest.raises(PlaceMismatchError, match=rf'scene\.bands: .*{message}'):
            ImageFile(scene)


def test_control_points_are_kept(tmp_path):
    points = [
        GroundControlPoint(row, column, x, y, 0)
        for row, column, x, y in ((0, 0, 7.0, 45.0), (0, 6, 7.1, 45.1), (6, 0, 7, 44))
    ]
    for name in ('vv.tif', 'vh.tif'):
        write_band(
            tmp_path / name, texture(6, 6), transform=None, crs='EPSG:4326', gcps=points
        )
    (tmp_path / 'scene.bands').write_text('vv.tif\nvh.tif')
    place = ImageFile(tmp_path / 'scene.bands').place
    assert place.transform is None and place.crs == 'EPSG:4326'
    assert [(p.row, p.col, p.x, p.y) for p in place.gcps] == [
        (p.row, p.col, p.x, p.y) for p in points
    ]


def test_broken_lists(tmp_path):
    scene = tmp_path / 'scene.bands'
    for text, message in (
        ('', 'lists nothing'),
        ('absent.tif', r'absent\.tif: No such file'),
        ('scene.bands', r'scene\.bands: a list that names itself'),
    ):
        scene.write_text(text)
        with pytest.raises(UnreadableImageError, match=message):
            ImageFile(scene)
    with pytest.raises(UnreadableImageError, match=r'none\.bands: No such file'):
        ImageFile(tmp_path / 'none.bands')


# -- Mosaics -----------------------------------------------------------------------


def tiles(folder, values, **profile):
    """Four tiles of a raster (C, 12, 12) that touch, and their list."""
    for i, (top, left) in enumerate(((0, 0), (0, 7), (5, 0), (5, 7))):
        part = values[:, top : 5 if top == 0 else 12, left : 7 if left == 0 else 12]
        corner = (5e5 + 10 * left, 5e6 - 10 * top)
        write_band(folder / f'{i}.tif', part, corner=corner, **profile)
    path = folder / 'all.mosaic'
    path.write_text('3.tif\n0.tif\n1.tif\n2.tif\n')
    return path


@pytest.fixture
def values():
    return np.stack([texture(12, 12, seed) for seed in range(3)])


def test_windows_cross_the_seams_of_a_mosaic(tmp_path, values):
    path = tiles(tmp_path, values)
    with ImageFile(path) as image:
        assert image.header.shape == (12, 12)
        assert image.place.transform.to_gdal() == (5e5, 10, 0, 5e6, 0, -10)
        pixels = image.read(Reading(), (3, 4, 6, 7))
    np.testing.assert_array_equal(
        pixels.values, values[:, 3:9, 4:11].transpose(1, 2, 0)
    )
    assert pixels.valid is None
    assert find_images(tmp_path) == [path]


@pytest.mark.parametrize('marker', [None, 0, 255])
def test_where_no_tile_lies_is_nothing(tmp_path, values, marker):
    path = tiles(tmp_path, values, **({} if marker is None else dict(nodata=marker)))
    path.write_text('0.tif\n3.tif')
    pixels = read_values(path)
    expected = np.zeros((12, 12), bool)
    expected[:5, :7] = expected[5:, 7:] = True
    np.testing.assert_array_equal(~pixels.missing, expected)
    np.testing.assert_array_equal(
        pixels.values[expected], values.transpose(1, 2, 0)[expected]
    )


def test_transparent_tiles(tmp_path, values):
    opaque = np.full((1, 12, 12), 255, np.uint8)
    opaque[:, 6:8, 5:9] = 0
    roles = [ColorInterp[name] for name in ('red', 'green', 'blue', 'alpha')]
    path = tiles(tmp_path, np.concatenate([values, opaque]))
    for part in tmp_path.glob('*.tif'):
        with rasterio.open(part, 'r+') as target:
            target.colorinterp = roles
    path.write_text('0.tif\n3.tif\n2.tif')
    assert read_header(path).alpha == 4
    expected = opaque[0] == 0
    expected[:5, 7:] = True
    np.testing.assert_array_equal(read_values(path).missing, expected)


@pytest.mark.parametrize('how', ['nodata', 'mask'])
def test_overlapping_tiles(tmp_path, how):
    """The last one lies above, but not where it holds nothing."""
    below, above = texture(6, 6), texture(6, 6, 1)
    above[:, :2] = 0
    write_band(tmp_path / 'a.tif', below)
    path = write_band(
        tmp_path / 'b.tif',
        above,
        corner=(5e5 + 20, 5e6),
        **(dict(nodata=0) if how == 'nodata' else {}),
    )
    if how == 'mask':
        with rasterio.open(path, 'r+') as target:
            target.write_mask(np.where(above > 0, 255, 0).astype(np.uint8))
    (tmp_path / 'x.mosaic').write_text('a.tif\nb.tif')
    pixels = read_values(tmp_path / 'x.mosaic', Reading(1))
    expected = np.concatenate([below[:, :4], above[:, 2:]], axis=1)
    np.testing.assert_array_equal(pixels.values[..., 0], expected)
    assert pixels.valid is None


def test_a_mosaic_of_label_tiles_keeps_its_colours(tmp_path):
    colours = {0: (1, 2, 3, 255), 1: (40, 50, 60, 255)}
    path = tiles(tmp_path, np.tile(np.eye(2, dtype=np.uint8), (1, 6, 6)))
    for part in tmp_path.glob('*.tif'):
        with rasterio.open(part, 'r+') as target:
            target.write_colormap(1, colours)
    assert read_header(path).palette
    assert load_image(path)[0, 1].tolist() == [1, 2, 3]


def test_a_palette_beside_other_bands_is_its_indices(tmp_path):
    classes = texture(6, 6, high=3)
    write_band(tmp_path / 'classes.tif', classes)
    with rasterio.open(tmp_path / 'classes.tif', 'r+') as target:
        target.write_colormap(1, {0: (9, 9, 9, 255), 1: (1, 2, 3, 255)})
    write_band(tmp_path / 'grey.tif', texture(6, 6))
    scene = tmp_path / 'scene.bands'
    scene.write_text('classes.tif\ngrey.tif')
    values = read_values(scene, Reading(2)).values
    np.testing.assert_array_equal(values[..., 0], classes)


def test_tiles_that_are_no_neighbours_are_refused(tmp_path):
    write_band(tmp_path / 'a.tif', texture(6, 6))
    path = tmp_path / 'x.mosaic'
    path.write_text('a.tif\nb.tif')
    for error, message, kind, options in (
        (PlaceMismatchError, 'different reference', 'u1', dict(crs='EPSG:32633')),
        (PlaceMismatchError, 'different sizes', 'u1', dict(metres=20)),
        (PlaceMismatchError, 'where it lies', 'u1', dict(transform=None)),
        (BandMismatchError, r'\(uint16 and uint8\)', 'u2', {}),
    ):
        write_band(tmp_path / 'b.tif', texture(6, 6).astype(kind), **options)
        with pytest.raises(error, match=rf'x\.mosaic: .*b\.tif.*{message}'):
            ImageFile(path)


def test_a_mosaic_of_scenes(tmp_path):
    west = sentinel2(tmp_path / 'a')
    east = sentinel2(tmp_path / 'b', corner=(5e5 + SIDE, 5e6))
    path = tmp_path / 'both.mosaic'
    path.write_text('\n'.join(str(p.relative_to(tmp_path)) for p in (west, east)))
    with ImageFile(path) as image:
        assert image.header.band_names == tuple(ORDER)
        values = image.read(Reading(13), (0, 40, 48, 20)).values
    expected = np.tile(on_finest_grid('L1C'), (1, 2, 1))[:, 40:60]
    np.testing.assert_array_equal(values, expected)
    assert find_images(tmp_path) == [path]


def test_a_changed_list_is_opened_anew(tmp_path, values):
    path = tiles(tmp_path, values)
    assert read_values(path).values.shape == (12, 12, 3)
    path.write_text('1.tif')
    assert read_values(path).values.shape == (5, 5, 3)
