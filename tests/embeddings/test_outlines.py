# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Polygons of windows, where longitudes end and meet."""

import numpy as np
import pytest
from rasterio.crs import CRS
from rasterio.transform import from_origin
from rasterio.warp import transform

from cmid_mm.embeddings.outlines import outlines
from cmid_mm.images import Place

shapely = pytest.importorskip('shapely')

WINDOWS = np.array(
    [(top, left, 128, 128) for top in range(0, 512, 128) for left in range(0, 512, 128)]
)
#: Of 512 x 512 pixels.
PLACES = {
    'UTM': ('EPSG:32632', from_origin(500000, 5300000, 10, 10)),
    'UTM at the 180th meridian': ('EPSG:32760', from_origin(816000, 8120000, 10, 10)),
    'degrees beyond 180': ('EPSG:4326', from_origin(179.99, -17, 4e-5, 4e-5)),
    'degrees from 0 to 360': ('EPSG:4326', from_origin(200, 50, 4e-5, 4e-5)),
    'corner on the pole': ('EPSG:3413', from_origin(-2560, 2560, 10, 10)),
    'pole in a window': ('EPSG:3031', from_origin(-3300, 2100, 10, 10)),
    'polar, coarse': ('EPSG:3031', from_origin(-1e6, 2e6, 5000, 5000)),
}


@pytest.mark.parametrize('name', PLACES)
def test_each_point_lies_in_its_window_alone(name):
    """Points of the image are found in the polygon of their window and in no other."""
    crs, affine = PLACES[name]
    place = Place(CRS.from_string(crs), affine)
    polygons = outlines(WINDOWS, place)
    shares = np.linspace(0.02, 0.98, 7)
    for number, (top, left, height, width) in enumerate(WINDOWS):
        rows, columns = np.meshgrid(top + shares * height, left + shares * width)
        x, y = affine * (columns.ravel(), rows.ravel())
        longitude, latitude = map(np.array, transform(crs, 'EPSG:4326', x, y))
        longitude = (longitude + 180) % 360 - 180
        for other, polygon in enumerate(polygons):
            inside = shapely.intersects_xy(polygon, longitude, latitude)
            assert (inside == (other == number)).all(), (number, other)
    bounds = shapely.bounds(polygons)
    assert np.abs(bounds[:, ::2]).max() <= 180 and np.abs(bounds).max() <= 180
    assert shapely.is_valid(polygons).all()


def test_usual_windows_have_four_corners():
    crs, affine = PLACES['UTM']
    polygons = outlines(WINDOWS, Place(CRS.from_string(crs), affine))
    assert set(shapely.get_num_coordinates(polygons)) == {5}
    corner = shapely.get_coordinates(polygons[5])[0]
    expected = transform(crs, 'EPSG:4326', [501280], [5298720])
    assert corner == pytest.approx(np.ravel(expected), abs=1e-9)
