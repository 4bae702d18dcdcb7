# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import warnings

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.transform import from_origin
from rasterio.warp import transform as transform_points

from cmid_mm.images import (
    ImageFile,
    NoValidPixelError,
    Place,
    PlaceMismatchError,
    Reading,
    load_image,
    write_geotiff,
)
from cmid_mm.images.pairs import ImagePair

from .miniatures import texture, write_raster

TRANSFORM = from_origin(100, 200, 2, 3)
WORLD = '2\n0\n0\n-3\n101\n198.5\n'  # of the centre of the first pixel
UTM = CRS.from_epsg(32650)


@pytest.mark.parametrize(
    ('name', 'world'),
    [('a.jpg', 'a.jgw'), ('a.JPG', 'a.wld'), ('a.png', 'a.pgw'), ('a.tif', 'a.tfw')],
)
def test_world_file(tmp_path, name, world):
    Image.fromarray(texture(3)).save(tmp_path / name)
    assert ImageFile(tmp_path / name).place is None
    (tmp_path / world).write_text(WORLD)
    assert ImageFile(tmp_path / name).place == Place(None, TRANSFORM)


def test_transform_without_a_reference_system(tmp_path):
    path = write_raster(tmp_path / 'a.tif', texture(1), crs=None, transform=TRANSFORM)
    place = ImageFile(path).place
    assert place == Place(None, TRANSFORM)
    write_geotiff(tmp_path / 'mask.tif', texture(1)[..., 0], place)
    with rasterio.open(tmp_path / 'mask.tif') as source:
        assert (source.crs, source.transform) == (None, TRANSFORM)


def test_ground_control_points(tmp_path):
    points = [
        GroundControlPoint(row, column, 500 + 2 * column, 900 - 3 * row)
        for row in (0, 48)
        for column in (0, 64)
    ]
    path = write_raster(
        tmp_path / 'a.tif', texture(1), crs=UTM, gcps=points, transform=None
    )
    place = ImageFile(path).place
    assert place.transform is None and place.crs == UTM and len(place.gcps) == 4
    corners = place.coordinates(np.array([[0, 0], [64, 48], [10, 0]], float))
    np.testing.assert_allclose(corners, [[500, 900], [628, 756], [520, 900]], atol=1e-6)
    back = place.pixels(np.array([[628, 756], [521, 900]], float))
    np.testing.assert_allclose(back, [[64, 48], [10.5, 0]], atol=1e-6)
    write_geotiff(tmp_path / 'mask.tif', texture(1)[..., 0], place)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        with rasterio.open(tmp_path / 'mask.tif') as source:
            written, crs = source.gcps
    assert crs == UTM
    assert [(p.row, p.col, p.x, p.y) for p in written] == [
        (p.row, p.col, p.x, p.y) for p in points
    ]


def test_rotated_and_south_up_transforms(tmp_path):
    transform = rasterio.Affine(1, 0.5, 10, 0.5, 1, 20)
    path = write_raster(tmp_path / 'a.tif', texture(1), transform=transform)
    place = ImageFile(path).place
    assert place.transform == transform
    found = place.coordinates(np.array([[4.0, 2.0]]))
    np.testing.assert_allclose(found, [[10 + 4 + 1, 20 + 2 + 2]])
    np.testing.assert_allclose(place.pixels(found), [[4, 2]])


# -- Two dates ---------------------------------------------------------------------


def dates(folder, **second):
    """Two dates; the second as the options say."""
    values = texture(3)
    first = write_raster(folder / 'first.tif', values, crs=UTM, transform=TRANSFORM)
    options = {'crs': UTM, 'transform': TRANSFORM, **second}
    return first, write_raster(folder / 'second.tif', values, **options)


@pytest.mark.parametrize(
    'second',
    [
        dict(crs='EPSG:32651'),
        dict(transform=from_origin(120, 200, 2, 3)),
        dict(transform=from_origin(100, 200, 2.05, 3)),
        dict(transform=from_origin(101.2, 200, 2, 3)),
    ],
    ids=['other zone', 'ten pixels aside', 'other pixels', 'more than half a pixel'],
)
def test_dates_of_other_places_are_refused_by_name(tmp_path, second):
    with pytest.raises(PlaceMismatchError) as caught:
        ImagePair(dates(tmp_path, **second))
    message = str(caught.value)
    for part in ('first.tif', 'second.tif', 'EPSG:32650', 'origin (', '--align'):
        assert part in message


@pytest.mark.parametrize(
    'second',
    [
        {},
        dict(crs=None, transform=None),
        dict(transform=from_origin(100.8, 200, 2, 3)),
        dict(crs=None),
    ],
    ids=['same', 'no place', 'less than half a pixel', 'no reference system'],
)
def test_dates_that_may_be_of_one_place(tmp_path, second):
    with ImagePair(dates(tmp_path, **second)) as pair:
        stacked, valid = pair.load(Reading())
    assert stacked.shape == (48, 64, 6) and valid is None
    np.testing.assert_array_equal(stacked[..., :3], stacked[..., 3:])


def test_second_date_is_aligned(tmp_path):
    # The second scene begins ten pixels further east and five further south.
    ground = np.random.default_rng(0).integers(1, 255, (100, 100, 3), np.uint8)
    first = write_raster(
        tmp_path / 'a.tif', ground[:48, :64], crs=UTM, transform=TRANSFORM
    )
    second = write_raster(
        tmp_path / 'b.tif',
        ground[5:75, 10:90],
        crs=UTM,
        transform=from_origin(100 + 10 * 2, 200 - 5 * 3, 2, 3),
    )
    with pytest.raises(PlaceMismatchError, match='b.tif is 80 x 70 pixels'):
        ImagePair((first, second))
    with ImagePair((first, second), align=True) as pair:
        stacked, valid = pair.load(Reading())
    covered = np.zeros((48, 64), bool)
    covered[5:, 10:] = True
    np.testing.assert_array_equal(stacked[covered, 3:], ground[:48, :64][covered])
    np.testing.assert_array_equal(valid[..., 3:].all(axis=2), covered)
    assert valid[..., :3].all()


def test_second_date_of_another_zone_is_aligned(tmp_path):
    """A smooth surface, known by its coordinates, lies where it did."""
    longitude, latitude = np.meshgrid(
        120 + np.arange(300) * 1e-5, 30 - np.arange(300) * 1e-5
    )
    surface = np.stack([(longitude - 120) * 8e4, (30 - latitude) * 8e4], -1)
    second = write_raster(
        tmp_path / 'b.tif',
        surface.astype(np.float32),
        crs='EPSG:4326',
        transform=from_origin(120 - 5e-6, 30 + 5e-6, 1e-5, 1e-5),
    )
    x, y = transform_points('EPSG:4326', UTM, [120.001], [29.999])
    place = from_origin(x[0], y[0], 2, 2)
    first = write_raster(
        tmp_path / 'a.tif', np.ones((40, 40, 2), np.float32), crs=UTM, transform=place
    )
    with ImagePair((first, second), align=True) as pair:
        found = pair.dates[1].read(Reading(num_bands=2))
    assert found.valid is None
    rows, columns = np.indices((40, 40))
    there = transform_points(
        UTM,
        'EPSG:4326',
        (x[0] + 2 * (columns + 0.5)).ravel(),
        (y[0] - 2 * (rows + 0.5)).ravel(),
    )
    expected = np.stack([np.subtract(there[0], 120), np.subtract(30, there[1])], -1)
    np.testing.assert_allclose(
        found.values.reshape(-1, 2), expected * 8e4, atol=0.1, rtol=0
    )


def test_palette_is_aligned_by_its_nearest_colour(tmp_path):
    indices = np.random.default_rng(0).integers(0, 2, (48, 64, 1), np.uint8) * 3
    second = write_raster(tmp_path / 'b.tif', indices)
    colours = {0: (1, 2, 3), 1: (9, 9, 9), 2: (8, 8, 8), 3: (40, 50, 60)}
    with rasterio.open(second, 'r+') as target:
        target.write_colormap(1, colours)
    # Half a pixel aside: means of the indices 0 and 3 would be 1 and 2.
    aside = from_origin(5e5 + 1, 3e6, 2, 2)
    first = write_raster(tmp_path / 'a.tif', texture(3), transform=aside)
    with ImagePair((first, second), align=True) as pair:
        found = pair.dates[1].read(Reading())
    valid = found.valid.all(axis=2)
    assert valid[:, :-1].all()
    assert {tuple(c) for c in found.values[valid].tolist()} == {colours[0], colours[3]}


def test_what_has_no_place_cannot_be_aligned(tmp_path):
    paths = dates(tmp_path, crs=None, transform=None)
    with pytest.raises(PlaceMismatchError, match=r'second\.tif is not georeferenced'):
        ImagePair(paths, align=True)


def test_pixels_without_data_at_either_date(tmp_path):
    values = [texture(3), texture(3)]
    values[0][:5] = 0
    values[1][:, :7] = 0
    paths = [
        write_raster(tmp_path / f'{i}.tif', value, nodata=0)
        for i, value in enumerate(values)
    ]
    with ImagePair(paths) as pair:
        _, valid = pair.load(Reading())
    assert not valid[:5, :, :3].any() and valid[5:, :, :3].all()
    assert not valid[:, :7, 3:].any() and valid[:, 7:, 3:].all()
    np.testing.assert_array_equal(load_image(paths[0])[5:], values[0][5:])


def test_dates_of_which_one_would_be_black(tmp_path):
    paths = [
        write_raster(tmp_path / 'a.tif', texture(3)),
        write_raster(tmp_path / 'b.tif', texture(3).astype(np.uint16)),
    ]
    with ImagePair(paths) as pair:
        with pytest.raises(ValueError, match=r'b\.tif holds uint16 values.*a\.tif'):
            pair.load(Reading())
        stacked, _ = pair.load(Reading(value_range=(0, 255)))
    np.testing.assert_allclose(stacked[..., 3:], stacked[..., :3], atol=1e-4)


def test_dates_that_do_not_overlap(tmp_path):
    first, second = dates(tmp_path, transform=from_origin(9000, 200, 2, 3))
    with ImagePair((first, second), align=True) as pair:
        with pytest.raises(NoValidPixelError, match='on the ground of the first date'):
            pair.load(Reading())
