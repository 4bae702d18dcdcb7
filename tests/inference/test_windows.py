# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from cmid_mm.inference.windows import WindowGrid, blend, chunks


def cut(scores, grid):
    for window in grid.windows:
        top, left, rows, columns = window
        part = scores[:, top : top + rows, left : left + columns]
        yield window, torch.from_numpy(part), None


def decide(scores):
    return scores.argmax(0)


def blend_windows(scored, grid, decide):
    mask = np.zeros((grid.height, grid.width), np.uint8)
    for cell in blend(scored, grid, grid.strips):
        top, left, rows, columns = cell.window
        mask[top : top + rows, left : left + columns] = cell.decided(decide)
    return mask


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
    grid = WindowGrid(height, width, size, overlap)
    mask = blend_windows(cut(scores, grid), grid, decide)
    assert (mask == decide(scores)).all()


def test_the_window_whose_middle_is_nearer_prevails():
    # Two windows of 8 columns that share 4 and disagree: the border is in the middle.
    grid = WindowGrid(8, 12, 8, 4)
    scores = [torch.zeros(2, 8, 8) for _ in grid.windows]
    scores[0][0], scores[1][1] = 1, 1
    windows = zip(grid.windows, scores, (None, None), strict=True)
    mask = blend_windows(windows, grid, decide)
    assert (mask[:, :6] == 0).all() and (mask[:, 6:] == 1).all()


def test_blend_is_the_weighted_mean():
    grid = WindowGrid(8, 12, 8, 4)
    scores = [torch.full((1, 8, 8), float(value)) for value in (0, 80)]

    def value(scores):
        return scores[0].round()

    windows = zip(grid.windows, scores, (None, None), strict=True)
    mask = blend_windows(windows, grid, value)
    # Column 4 lies 4.5 of 8 pixels into the first window, half a pixel into the second.
    assert mask[0, 4] == round(80 * 0.5 / (3.5 + 0.5))
    assert (mask[:, :4] == 0).all() and (mask[:, 8:] == 80).all()


def test_rows_are_decided_as_soon_as_no_window_reaches_them():
    decided = []

    def decide_rows(scores):
        decided.append(scores.shape[1])
        return decide(scores)

    scores = np.random.rand(2, 100, 20).astype(np.float32)
    grid = WindowGrid(100, 20, 20, 4)
    blend_windows(cut(scores, grid), grid, decide_rows)
    assert decided == [16, 16, 16, 16, 16, 20]


@pytest.mark.parametrize(
    ('height', 'width', 'size', 'overlap'),
    [(50, 37, 16, 5), (50, 37, 16, 0), (16, 60, 16, 4), (33, 36, 32, 31)],
)
def test_strips_by_themselves_are_parts_of_the_whole(height, width, size, overlap):
    rng = np.random.default_rng(0)
    grid = WindowGrid(height, width, size, overlap)
    # Noise of its own in each window; some are missing, some have missing pixels.
    scored = [
        (window, torch.from_numpy(rng.random((2, *window[2:]), np.float32)), absent)
        for window in grid.windows
        for absent in (None, rng.random(window[2:]) < 0.5)
        if rng.random() < 0.45
    ]
    scored = list({window: (window, *rest) for window, *rest in scored}.values())
    whole = list(blend(scored, grid, grid.strips))
    total = np.zeros((3, height, width))
    for (top, left, rows, columns), values, absent in scored:
        tent = [np.minimum(x, 1 - x) for x in map(positions, (rows, columns))]
        weight = np.outer(*tent) * (1 if absent is None else ~absent)
        place = total[:, top : top + rows, left : left + columns]
        place += [*(values.numpy() * weight), weight]
    settled = np.zeros((height, width), int)
    for (top, left, rows, columns), scores, covered in whole:
        place = np.s_[top : top + rows, left : left + columns]
        settled[place] += 1
        assert (covered == (total[2][place] > 0)).all()
        if covered.any():
            *sums, weight = (plane[place][covered] for plane in total)
            expected = np.stack(sums) / weight
            np.testing.assert_allclose(scores[:, covered], expected, rtol=1e-4)
    assert (settled == 1).all()
    for start in grid.strips:
        strips = range(start, min(start + 2, len(grid.strips)))
        reaching = [grid.tops[row] for row in grid.reaching(strips)]
        part = [item for item in scored if item[0][0] in reaching]
        tops = [grid.tops[strip] for strip in strips]
        expected = [cell for cell in whole if cell.window[0] in tops]
        cells = list(blend(part, grid, strips))
        assert [c.window for c in cells] == [c.window for c in expected]
        for cell, other in zip(cells, expected, strict=True):
            assert (cell.covered == other.covered).all()
            assert (
                cell.decided(quantised).tobytes() == other.decided(quantised).tobytes()
            )
            if other.covered.any():
                assert (
                    cell.scores[:, cell.covered].tobytes()
                    == other.scores[:, cell.covered].tobytes()
                )


def positions(length):
    return (np.arange(length) + 0.5) / length


def quantised(scores):
    return scores[0] * 254


def test_chunks():
    assert list(chunks([1, 2, 3, 4, 5], 2)) == [[1, 2], [3, 4], [5]]
