# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What holds of all divisions into windows and of what is put together of them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cmid_mm.images import tile_windows
from cmid_mm.inference.windows import WindowGrid, blend

pytestmark = pytest.mark.properties
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def grids(draw):
    height, width, size = (draw(st.integers(1, 40)) for _ in range(3))
    size = min(size, 24)
    return WindowGrid(height, width, size, draw(st.integers(0, size - 1)))


@given(grids())
def test_windows_cover_each_pixel_and_overlap_as_said(grid):
    seen = np.zeros((grid.height, grid.width), int)
    windows = list(tile_windows(grid.height, grid.width, grid.size, grid.overlap))
    assert windows == grid.windows and len(set(windows)) == len(windows)
    for top, left, rows, columns in windows:
        assert rows == min(grid.size, grid.height) and top + rows <= grid.height
        assert columns == min(grid.size, grid.width) and left + columns <= grid.width
        seen[top : top + rows, left : left + columns] += 1
    assert seen.min() == 1 or seen.min() >= 1
    for starts in (grid.tops, grid.lefts):
        steps = np.diff(starts)
        # Neighbours share at least the overlap, and none is there twice.
        assert ((steps > 0) & (steps <= grid.size - grid.overlap)).all()


@given(grids())
def test_strips_fill_the_image_one_below_the_other(grid):
    bounds = [grid.rows_of_strip(strip) for strip in grid.strips]
    assert bounds[0][0] == 0 and bounds[-1][1] == grid.height
    assert all(a[1] == b[0] for a, b in zip(bounds, bounds[1:], strict=False))
    height = min(grid.size, grid.height)
    for strip, (top, below) in zip(grid.strips, bounds, strict=True):
        reaching = [
            row
            for row in grid.strips
            if grid.tops[row] < below and grid.tops[row] + height > top
        ]
        needed = grid.reaching(range(strip, strip + 1))
        assert {*reaching} <= {*needed}


@given(grids(), SEEDS, st.booleans())
def test_blending_is_a_mean_of_what_holds_data(grid, seed, holes):
    """Weights sum to one: agreeing windows agree; else the mean is between them."""
    rng = np.random.default_rng(seed)
    truth = rng.random((2, grid.height, grid.width), np.float32)
    least = np.full_like(truth, np.inf)
    most = np.full_like(truth, -np.inf)
    scored, agreeing = [], []
    for window in grid.windows:
        top, left, rows, columns = window
        place = np.s_[top : top + rows, left : left + columns]
        absent = rng.random((rows, columns)) < 0.5 if holes else None
        values = rng.random((2, rows, columns), np.float32)
        scored.append((window, torch.from_numpy(values), absent))
        agreeing.append((window, torch.from_numpy(truth[(..., *place)]), absent))
        held = values if absent is None else np.where(absent, np.nan, values)
        for bound, better in ((least, np.fmin), (most, np.fmax)):
            bound[(..., *place)] = better(bound[(..., *place)], held)
    for windows, low, high in ((agreeing, truth, truth), (scored, least, most)):
        covered = np.zeros((grid.height, grid.width), int)
        for cell in blend(windows, grid, grid.strips):
            top, left, rows, columns = cell.window
            place = np.s_[top : top + rows, left : left + columns]
            covered[place] += 1
            data = np.isfinite(least[(0, *place)])
            assert (cell.covered == data).all()
            if cell.mean is not None:
                mean = cell.scores[:, data]
                assert (mean >= low[(..., *place)][:, data] - 1e-5).all()
                assert (mean <= high[(..., *place)][:, data] + 1e-5).all()
        assert (covered == 1).all()


@given(grids(), SEEDS, st.data())
def test_strips_by_themselves_are_those_of_the_whole(grid, seed, data):
    """What a resumed prediction computes is what the straight one does."""
    rng = np.random.default_rng(seed)
    scored = {
        window: torch.from_numpy(rng.random((1, *window[2:]), np.float32))
        for window in grid.windows
    }

    def cells(strips):
        rows = grid.reaching(strips)
        tops = {grid.tops[row] for row in rows}
        items = [(w, s, None) for w, s in scored.items() if w[0] in tops]
        return {cell.window: cell.mean for cell in blend(items, grid, strips)}

    whole = cells(grid.strips)
    cut = data.draw(st.integers(0, len(grid.strips) - 1))
    parts = cells(range(0, cut)) if cut else {}
    parts |= cells(range(cut, len(grid.strips)))
    assert parts.keys() == whole.keys()
    for window, mean in whole.items():
        assert torch.equal(parts[window], mean)
