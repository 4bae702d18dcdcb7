# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from cmid_mm.visualization.reconstruction import (
    GAP,
    TITLE_HEIGHT,
    reconstruction_panel,
)

SIDE = 160  # large enough not to be enlarged
MEAN, STD = (100.0, 50.0, 20.0), (10.0, 20.0, 5.0)


def normalised(rgb, images=1, side=SIDE):
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    value = (torch.tensor(rgb, dtype=torch.float32) - mean) / std
    return value.view(1, 3, 1, 1).repeat(images, 1, side, side)


def cell(panel, row, column, side=SIDE):
    top = TITLE_HEIGHT + row * (side + GAP)
    left = column * (side + GAP)
    return panel[top : top + side, left : left + side]


@pytest.fixture
def panels():
    return dict(
        input=normalised((200, 100, 50)),
        masked=normalised((90, 91, 92)),
        reconstruction=normalised((160, 116, 60)),
        target=normalised((200, 100, 50)),
    )


@pytest.fixture
def masks():
    return torch.tensor([[[True, False], [False, False]]])


def test_columns_on_the_0_255_scale(panels, masks):
    picture = reconstruction_panel(panels, masks, MEAN, STD)
    assert picture.dtype == np.uint8
    assert picture.shape == (TITLE_HEIGHT + SIDE + GAP, 5 * (SIDE + GAP), 3)
    for column, rgb in enumerate([(200, 100, 50), (90, 91, 92), (160, 116, 60)]):
        assert (cell(picture, 0, column) == rgb).all()
    filled = cell(picture, 0, 3)
    assert (filled[: SIDE // 2, : SIDE // 2] == (160, 116, 60)).all()
    assert (filled[SIDE // 2 :] == (200, 100, 50)).all()
    assert (filled[:, SIDE // 2 :] == (200, 100, 50)).all()


def test_error_is_coloured_where_masked(panels, masks):
    error = cell(reconstruction_panel(panels, masks, MEAN, STD), 0, 4)
    assert (error[: SIDE // 2, SIDE // 2 :] == 128).all()
    middling = error[:80, :80].reshape(-1, 3)
    assert (middling == middling[0]).all() and middling[0].tolist() != [128] * 3
    # The colours of no error and of a full one bracket it in brightness.
    panels['reconstruction'] = panels['target']
    black = cell(reconstruction_panel(panels, masks, MEAN, STD), 0, 4)[0, 0]
    panels['reconstruction'] = normalised((0, 255, 255))
    bright = cell(reconstruction_panel(panels, masks, MEAN, STD), 0, 4)[0, 0]
    assert black.sum() < 20 < middling[0].sum() < bright.sum()


def test_values_beyond_the_scale_are_clipped(panels, masks):
    panels['reconstruction'] = normalised((-80, 300, 60))
    picture = reconstruction_panel(panels, masks, MEAN, STD)
    assert (cell(picture, 0, 2) == (0, 255, 60)).all()


def test_rows_and_their_limit():
    panels = {
        name: torch.cat([normalised((v, v, v)) for v in (10, 20, 30)])
        for name in ('input', 'masked', 'reconstruction', 'target')
    }
    masks = torch.zeros(3, 2, 2, dtype=torch.bool)
    picture = reconstruction_panel(panels, masks, MEAN, STD, max_images=2)
    assert picture.shape[0] == TITLE_HEIGHT + 2 * (SIDE + GAP)
    assert (cell(picture, 0, 0) == 10).all()
    assert (cell(picture, 1, 0) == 20).all()


def test_titles_are_written(panels, masks):
    title = reconstruction_panel(panels, masks, MEAN, STD)[:TITLE_HEIGHT]
    for column in range(5):
        written = title[:, column * (SIDE + GAP) : (column + 1) * (SIDE + GAP)]
        assert (written < 64).any()


def test_small_images_are_enlarged(masks):
    panels = {
        name: normalised((10, 20, 30), side=32)
        for name in ('input', 'masked', 'reconstruction', 'target')
    }
    picture = reconstruction_panel(panels, masks, MEAN, STD)
    assert picture.shape == (TITLE_HEIGHT + 160 + GAP, 5 * (160 + GAP), 3)


def test_order_of_bands(panels, masks):
    picture = reconstruction_panel(panels, masks, MEAN, STD, bands=(2, 1, 0))
    assert (cell(picture, 0, 0) == (50, 100, 200)).all()
    picture = reconstruction_panel(panels, masks, MEAN, STD, bands=(1,))
    assert (cell(picture, 0, 0) == 100).all()


def test_other_imagery_is_stretched_by_its_input():
    # Five bands of low values: 2nd percentile 2, 98th 98 of a ramp 0 to 100.
    ramp = torch.linspace(0, 100, 160).view(1, 1, 1, 160).expand(1, 5, 160, 160)
    panels = dict.fromkeys(('input', 'masked', 'target'), ramp)
    panels['reconstruction'] = torch.full_like(ramp, 50.0)
    masks = torch.ones(1, 2, 2, dtype=torch.bool)
    picture = reconstruction_panel(panels, masks, [0.0] * 5, [1.0] * 5, (4, 2, 0))
    shown = cell(picture, 0, 0)[0, :, 0].astype(int)
    assert shown[0] == 0 and shown[-1] == 255
    assert (np.diff(shown) >= 0).all()
    assert abs(shown[40] - (ramp[0, 0, 0, 40].item() - 2) / 96 * 255) <= 1
    assert (cell(picture, 0, 2) == 128).all()  # (50 - 2) / 96 of 255


def test_one_band_is_grey(masks):
    ramp = torch.linspace(0, 100, 160).view(1, 1, 1, 160).expand(1, 1, 160, 160)
    panels = dict.fromkeys(('input', 'masked', 'reconstruction', 'target'), ramp)
    shown = cell(reconstruction_panel(panels, masks, [0.0], [1.0]), 0, 0)
    assert (shown == shown[..., :1]).all() and shown.max() == 255


@pytest.mark.parametrize('bands', [(0, 1), (0, 1, 3), (-1,)])
def test_bad_bands(panels, masks, bands):
    with pytest.raises(ValueError, match='one or three of 0 to 2'):
        reconstruction_panel(panels, masks, MEAN, STD, bands=bands)


def test_statistics_that_do_not_fit(panels, masks):
    with pytest.raises(ValueError, match='std has 2 values, but the images have 3'):
        reconstruction_panel(panels, masks, MEAN, STD[:2])
