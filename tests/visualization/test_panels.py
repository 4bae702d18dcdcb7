# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Pictures that are readable at any size."""

import numpy as np
import pytest

from cmid_mm.inference.images import picture_side
from cmid_mm.visualization.drawing import LEGEND_ROW, TITLE_HEIGHT, draw_boxes, titled
from cmid_mm.visualization.panels import DrawnBoxes, box_panel, change_panel, mask_panel

META = dict(classes=['field', 'lake with a name that is longer than the picture'])


def panels(height, width):
    """Pictures of the three tasks on black, and the number of images in each."""
    image = np.zeros((height, width, 3), np.uint8)
    mask = np.indices((height, width)).sum(0) % 2
    boxes = DrawnBoxes(np.array([[1, 1, 9, 1, 9, 9, 1, 9]]), [1], [0.5])
    yield mask_panel(image, {'prediction': mask}, META), 2
    yield change_panel(np.concatenate((image, image), 2), {'prediction': mask}), 3
    yield box_panel(image, {'score 0.3 and above': boxes}, META), 1


@pytest.mark.parametrize('side', [48, 320, 1200])
def test_letters_grow_with_the_picture(side):
    for picture, _ in panels(side, side):
        # The first rows are the title's: dark letters on white, then the image.
        white = (picture[:, 0] > 200).all(1)
        height = int(np.argmin(white))
        assert height == round(TITLE_HEIGHT * max(1, side / 800))
        letters = (picture[:height] < 128).all(2).any(1)
        assert letters.sum() >= height * 0.3


@pytest.mark.parametrize(('height', 'width'), [(30, 900), (900, 10)])
def test_strips_have_whole_titles_and_names(height, width):
    plain = titled(np.zeros((50, 2000, 3), np.uint8), 'prediction: 50.0 % changed')
    title = np.argwhere((plain[:TITLE_HEIGHT] < 128).all(2))[:, 1].max()
    for picture, count in panels(height, width):
        assert picture.shape[1] >= width
        if count == 3:
            dark = (picture[:TITLE_HEIGHT] < 128).all(2).any(0)
            if width > height:  # one below the other
                assert picture.shape[0] > 3 * height
            else:
                assert dark.nonzero()[0].max() >= title
                assert picture.shape[1] > title
        else:  # the legend, whose names do not go to the edge
            assert (picture[-LEGEND_ROW:, -3:] == 255).all()


def test_lines_are_thin_around_small_boxes():
    image = np.zeros((1600, 1600, 3), np.uint8)
    edges = []
    for side in (12, 800):
        corners = np.array([[9, 9, 9 + side, 9, 9 + side, 9 + side, 9, 9 + side]])
        drawn = draw_boxes(
            image, corners, [0], ['ship'], [(0, 255, 0)], size=4, most_texts=0
        )
        edges.append((drawn[:, 9 + side // 2, 1] > 128).sum() / 2)
    assert edges[0] <= 3 and edges[1] >= 7


@pytest.mark.parametrize(
    ('shape', 'side'),
    [((4000, 4000), 2048), ((1000, 4000), 4096), ((10, 40000), 8192)],
)
def test_pictures_of_strips_are_longer(shape, side):
    assert picture_side(*shape, 2048) == side
