# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from shapely import Point, box

from cmid_mm.datasets import RandomWindows


def drawn(windows, number=2000, seed=0):
    rng = np.random.default_rng(seed)
    return [windows.draw(rng) for _ in range(number)]


def test_scenes_are_drawn_by_area_and_weight():
    # Chances 1 : 4 : 2; the standard deviation of a share of 1/2 is 0.5 / sqrt(2000).
    windows = RandomWindows([(50, 100), (200, 100), (100, 100)], 20, [1, 1, 1])
    shares = np.bincount([scene for scene, _ in drawn(windows)]) / 2000
    np.testing.assert_allclose(shares, [1 / 7, 4 / 7, 2 / 7], atol=4 * 0.5 / 2000**0.5)
    assert windows.area == 35000
    weighted = RandomWindows([(50, 100), (200, 100), (100, 100)], 20, [4, 1, 0])
    shares = np.bincount([s for s, _ in drawn(weighted)], minlength=3) / 2000
    np.testing.assert_allclose(shares, [0.5, 0.5, 0], atol=4 * 0.5 / 2000**0.5)


def test_every_position_has_the_same_chance():
    windows = RandomWindows([(13, 11)], 10)
    starts = np.zeros((4, 2), int)
    for _, (top, left, height, width) in drawn(windows, 4000):
        assert (height, width) == (10, 10)
        starts[top, left] += 1
    # 8 positions, 500 windows each, with a standard deviation of 21.
    assert np.abs(starts - 500).max() < 4 * 21


def test_of_a_small_scene_the_whole_side_is_taken():
    windows = RandomWindows([(8, 30)], 10)
    taken = {window for _, window in drawn(windows, 300)}
    assert {(top, height, width) for top, _, height, width in taken} == {(0, 8, 10)}
    assert {left for _, left, _, _ in taken} == set(range(21))


def test_points_of_polygons_are_the_middles_of_windows():
    circle = Point(60, 40).buffer(20)  # (column, row)
    corner = box(0, 0, 10, 10)
    polygons = [[], [circle, corner]]
    windows = RandomWindows([(100, 100), (100, 100)], 16, polygons=polygons)
    inside, corners = 0, 0
    for scene, (top, left, height, width) in drawn(windows):
        assert scene == 1 and (height, width) == (16, 16)
        middle = Point(left + 8, top + 8)
        # Half a pixel is lost by rounding; the corner's are shifted inwards.
        inside += circle.buffer(0.8).contains(middle)
        corners += top <= 2 and left <= 2
    assert inside + corners == 2000
    share = 100 / (100 + circle.area)
    assert abs(corners / 2000 - share) < 4 * (share / 2000) ** 0.5


def test_nothing_to_draw_from():
    for shapes, options in [
        ([(0, 0)], {}),
        ([(9, 9)], dict(weights=[0])),
        ([(9, 9)], dict(polygons=[[]])),
    ]:
        with pytest.raises(ValueError, match='nothing to draw windows from'):
            RandomWindows(shapes, 4, **options)
