# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from cmid_mm.images.tiles import tile_windows
from cmid_mm.inference.windows import blend_windows, chunks


def cut(scores, height, width, size, overlap):
    for window in tile_windows(height, width, size, overlap):
        top, left, rows, columns = window
        yield window, scores[:, top : top + rows, left : left + columns]


def decide(scores):
    return scores.argmax(0).astype(np.uint8)


@pytest.mark.parametrize(
    ('height', 'width', 'size', 'overlap'),
    [
        (50, 37, 16, 5),
        (50, 37, 16, 0),
        (16, 60, 16, 4),
        (9, 7, 16, 4),
        (33, 33, 32, 31),
    ],
)
def test_agreeing_windows_give_what_they_agree_on(height, width, size, overlap):
    scores = np.random.rand(3, height, width).astype(np.float32)
    windows = cut(scores, height, width, size, overlap)
    assert (blend_windows(windows, height, width, decide) == decide(scores)).all()


def test_the_window_whose_middle_is_nearer_prevails():
    # Two windows of 8 columns that share 4 and disagree: the border is in the middle.
    windows = list(tile_windows(8, 12, 8, 4))
    scores = [np.zeros((2, 8, 8), np.float32) for _ in windows]
    scores[0][0], scores[1][1] = 1, 1
    mask = blend_windows(zip(windows, scores, strict=True), 8, 12, decide)
    assert (mask[:, :6] == 0).all() and (mask[:, 6:] == 1).all()


def test_blend_is_the_weighted_mean():
    windows = list(tile_windows(8, 12, 8, 4))
    scores = [np.full((1, 8, 8), value, np.float32) for value in (0, 80)]

    def value(scores):
        return np.rint(scores[0]).astype(np.uint8)

    mask = blend_windows(zip(windows, scores, strict=True), 8, 12, value)
    # Column 4 lies 4.5 of 8 pixels into the first window, half a pixel into the second.
    assert mask[0, 4] == round(80 * 0.5 / (3.5 + 0.5))
    assert (mask[:, :4] == 0).all() and (mask[:, 8:] == 80).all()


def test_rows_are_decided_as_soon_as_no_window_reaches_them():
    decided = []

    def decide_rows(scores):
        decided.append(scores.shape[1])
        return decide(scores)

    scores = np.random.rand(2, 100, 20).astype(np.float32)
    blend_windows(cut(scores, 100, 20, 20, 4), 100, 20, decide_rows)
    assert decided == [16, 16, 16, 16, 16, 20]


def test_chunks():
    assert list(chunks([1, 2, 3, 4, 5], 2)) == [[1, 2], [3, 4], [5]]
