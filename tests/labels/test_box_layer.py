# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Oriented boxes from the polygons of a vector layer."""

import pickle

import numpy as np
import pytest
import shapely

from cmid_mm.labels.dota import parse_boxes
from cmid_mm.labels.layers import BoxLayer
from cmid_mm.preparation.dota_tiles import tile_text

from .generated import ROTATED, STRAIGHT, WHOLE, block, ground, scene, write_vectors


def corners_of(boxes):
    """Corners in a fixed order, rounded."""
    return [sorted(map(tuple, box.reshape(4, 2).round(3).tolist())) for box in boxes]


def test_smallest_rectangle_in_pixels(tmp_path):
    # A diamond with a notch, and a house along the axes of the image.
    diamond = ground((100, 80), (120, 100), (102, 98), (100, 120), (80, 100))
    path = write_vectors(
        tmp_path / 'a.gpkg',
        [diamond, block(10, 20, 40, 30)],
        into='EPSG:4326',
        kind=['ship', 'house'],
    )
    layer = BoxLayer(path, field='kind')
    assert layer.classes == ('house', 'ship')
    corners, classes, shares = layer.boxes(scene(tmp_path), WHOLE)
    assert classes.tolist() == [1, 0] and shares.tolist() == [1, 1]
    ship, house = corners_of(corners)
    assert house == [(10, 20), (10, 30), (40, 20), (40, 30)]
    assert ship == [(80, 100), (100, 80), (100, 120), (120, 100)]


def test_pixels_of_a_rotated_image(tmp_path):
    path = write_vectors(tmp_path / 'a.gpkg', [block(10, 20, 40, 30, ROTATED)])
    corners, _, _ = BoxLayer(path).boxes(scene(tmp_path, ROTATED), (5, 3, 100, 100))
    assert corners_of(corners) == [[(7, 15), (7, 25), (37, 15), (37, 25)]]


@pytest.mark.parametrize('left', [0, 10, 25, 28, 29, 30, 31, 50, 60])
def test_windows_cut_as_tiles_of_dota(tmp_path, left):
    """The same boxes are kept, and the same are called cut."""
    shapes = [block(20, 10, 50, 20), ground((60, 20), (80, 40), (70, 50), (50, 30))]
    path = write_vectors(tmp_path / 'a.gpkg', shapes, kind=['a', 'b'])
    layer = BoxLayer(path, field='kind')
    corners, classes, shares = layer.boxes(scene(tmp_path), (5, left, 64, 64))
    lines = [
        ' '.join(
            map(
                str,
                np.array([~STRAIGHT @ p for p in shape.exterior.coords[:4]]).ravel(),
            )
        )
        for shape in shapes
    ]
    whole = parse_boxes(f'{lines[0]} a 0\n{lines[1]} b 0'.encode(), 'x', ('a', 'b'))
    tile = parse_boxes(tile_text(whole, 64, left, 5), 'x', ('a', 'b'))
    assert [layer.classes[i] for i in classes] == list(tile.classes)
    assert [0 if share == 1 else 2 for share in shares] == list(tile.difficulties)
    assert corners_of(corners) == corners_of(tile.corners)
    assert layer.counts(scene(tmp_path), (5, left, 64, 64)).tolist() == [
        tile.classes.count(name) for name in 'ab'
    ]


def test_share_that_must_lie_inside(tmp_path):
    path = write_vectors(tmp_path / 'a.gpkg', [block(20, 10, 40, 20)])
    image, window = scene(tmp_path), (0, 30, 50, 50)
    assert len(BoxLayer(path).boxes(image, window)[0]) == 0
    corners, _, shares = BoxLayer(path, min_share=0.5).boxes(image, window)
    assert shares.tolist() == [pytest.approx(0.5)]
    assert corners_of(corners) == [[(-10, 10), (-10, 20), (10, 10), (10, 20)]]


def test_parts_are_objects_and_slivers_none(tmp_path):
    shapes = [
        shapely.MultiPolygon([block(0, 0, 10, 5), block(20, 0, 30, 5)]),
        block(40, 0, 50, 0.05),
        block(60, 0, 70, 5),
    ]
    path = write_vectors(tmp_path / 'a.gpkg', shapes, kind=['a', 'a', 'b'])
    layer = BoxLayer(path, field='kind', ignore=['b'])
    corners, classes, _ = layer.boxes(scene(tmp_path), WHOLE)
    assert layer.classes == ('a',) and classes.tolist() == [0, 0]
    assert sorted(corners.min(axis=1)) == pytest.approx([0, 0])


def test_nothing_there_and_other_processes(tmp_path):
    image = scene(tmp_path)
    layer = BoxLayer(write_vectors(tmp_path / 'a.gpkg', [block(20, 10, 40, 20)]))
    corners, classes, shares = layer.boxes(image, (100, 100, 50, 50))
    assert (corners.shape, classes.shape, shares.shape) == ((0, 8), (0,), (0,))
    assert layer.overlaps(image)
    other = pickle.loads(pickle.dumps(layer))
    assert (other.boxes(image, WHOLE)[0] == layer.boxes(image, WHOLE)[0]).all()
    away = BoxLayer(write_vectors(tmp_path / 'b.gpkg', [block(420, 10, 440, 20)]))
    assert not away.overlaps(image)
    assert away.boxes(image, WHOLE)[0].shape == (0, 8)
