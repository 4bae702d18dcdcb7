# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement

from cmid_mm.inference.views import VIEWS, View
from cmid_mm.visualization.drawing import box_corners

ALL = VIEWS['all']


def test_the_views_differ_and_are_undone():
    image = torch.arange(12).reshape(1, 3, 4)
    seen = [view.of(image) for view in ALL]
    assert len({str(each) for each in seen}) == 8
    assert all((v.undo(each) == image).all() for v, each in zip(ALL, seen, strict=True))


def test_mirrored_views_are_those_of_the_configs():
    image = torch.arange(12).reshape(1, 3, 4)
    _, horizontal, vertical = (view.of(image) for view in VIEWS['mirrored'])
    assert (horizontal == image.flip(2)).all() and (vertical == image.flip(1)).all()


@pytest.mark.parametrize('view', ALL, ids=str)
@pytest.mark.parametrize('kind', ['rotated', 'upright', 'corners'])
def test_boxes_go_where_their_pixels_go(view, kind):
    # A bar that is alone in the image: its box is found in each view.
    height, width = 40, 30
    image = torch.zeros(1, height, width)
    image[0, 6:9, 10:24] = 1
    rows, columns = np.nonzero(view.of(image)[0].numpy())
    top, left, bottom, right = (
        *(rows.min(), columns.min()),
        *(rows.max() + 1, columns.max() + 1),
    )
    seen = {
        'upright': [left, top, right, bottom],
        'corners': [left, top, right, top, right, bottom, left, bottom],
        'rotated': [
            *((left + right) / 2, (top + bottom) / 2),
            *(right - left, bottom - top, 0.0),
        ],
    }[kind]
    boxes = view.undo_boxes(torch.tensor([seen], dtype=torch.float32), (height, width))
    corners = box_corners(boxes.numpy()).reshape(4, 2)
    np.testing.assert_allclose(corners.min(0), [10, 6], atol=1e-4)
    np.testing.assert_allclose(corners.max(0), [24, 9], atol=1e-4)
    if kind == 'upright':
        assert boxes.tolist() == [[10, 6, 24, 9]]


@pytest.mark.parametrize('view', ALL, ids=str)
def test_angles_turn_with_the_view(view):
    box = torch.tensor([[12.0, 9.0, 10.0, 4.0, 0.3]])
    size = 30, 40

    def corners(boxes):
        return torch.tensor(box_corners(boxes.numpy()).reshape(4, 2))

    # Undoing the four-cornered box and the angled box must agree.
    four = view.undo_boxes(corners(box).reshape(1, 8).float(), size).reshape(4, 2)
    angled = corners(view.undo_boxes(box, size)).float()
    four, angled = (sorted(points.tolist()) for points in (four, angled))
    np.testing.assert_allclose(four, angled, atol=1e-3)


def test_sizes_are_exchanged_in_views_on_their_side():
    data = BaseDataElement(
        metainfo=dict(ori_shape=(3, 4), img_shape=(6, 8), scale_factor=(2.0, 1.5))
    )
    sample = dict(inputs=torch.zeros(2, 6, 8), data_samples=data)
    turned = View(False, 1).of_sample(sample)
    assert turned['inputs'].shape == (2, 8, 6)
    assert turned['data_samples'].ori_shape == (4, 3)
    assert turned['data_samples'].scale_factor == (1.5, 2.0)
    assert data.ori_shape == (3, 4)
    assert View(True, 2).of_sample(sample)['data_samples'].img_shape == (6, 8)
