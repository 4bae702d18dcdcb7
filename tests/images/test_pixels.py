# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import numpy as np
import pytest

from cmid_mm.images import BandMismatchError, Header, Reading
from cmid_mm.images.pixels import valid_values


def header(count, alpha=None):
    return Header(Path('a.tif'), 4, 5, count, np.dtype(np.uint8), alpha=alpha)


@pytest.mark.parametrize(
    ('count', 'alpha', 'options', 'expected'),
    [
        (3, None, {}, [1, 2, 3]),
        (1, None, {}, [1, 1, 1]),
        (1, None, dict(num_bands=1), [1]),
        (2, 2, {}, [1, 1, 1]),
        (4, 4, {}, [1, 2, 3]),
        (4, 4, dict(num_bands=4), [1, 2, 3, 4]),
        (4, 1, {}, [2, 3, 4]),
        (8, None, dict(bands=[5, 3, 3]), [5, 3, 3]),
        (4, 4, dict(bands=(4,)), [4]),
    ],
)
def test_bands_of_a_reading(count, alpha, options, expected):
    assert header(count, alpha).select(Reading(**options)) == expected


@pytest.mark.parametrize(
    ('count', 'options', 'message'),
    [
        (4, {}, 'a.tif: found 4 bands, expected 3'),
        (2, {}, 'a.tif: found 2 bands, expected 3'),
        (3, dict(num_bands=8), 'a.tif: found 3 bands, expected 8'),
        (3, dict(bands=[4]), r'a.tif: has 3 bands, but bands=\[4\]'),
        (3, dict(bands=[0]), r'a.tif: has 3 bands, but bands=\[0\]'),
    ],
)
def test_bands_that_are_not_there(count, options, message):
    with pytest.raises(BandMismatchError, match=message):
        header(count).select(Reading(**options))


@pytest.mark.parametrize(
    'value_range', [(5, 5), (6, 5), (1, 2, 3), [(0, 1)], [(0, 1)] * 4]
)
def test_value_ranges_that_make_no_sense(value_range):
    with pytest.raises(ValueError, match='value_range must be'):
        Reading(num_bands=3, value_range=value_range)


def test_numbers_of_bands_that_disagree():
    assert Reading().num_bands == 3
    assert Reading(bands=[4, 2]).num_bands == 2
    for bands in ((), (1, 2)):
        with pytest.raises(BandMismatchError, match='make both agree'):
            Reading(num_bands=3, bands=bands)


@pytest.mark.parametrize(
    ('marker', 'dtype', 'whole_pixels'),
    [
        (0, np.uint8, True),
        (255, np.uint8, True),
        (7, np.uint8, False),
        (0, np.uint16, True),
        (65535, np.uint16, True),
        (255, np.uint16, False),
        (0, np.int16, False),
        (-9999, np.float32, False),
    ],
)
def test_marker_in_single_bands(marker, dtype, whole_pixels):
    present = np.array([[[True, False], [False, False], [True, True]]])
    valid = valid_values(present, marker, np.dtype(dtype))
    expected = present.any(axis=2, keepdims=True) | present if whole_pixels else present
    np.testing.assert_array_equal(valid, expected)


@pytest.mark.parametrize(
    ('first', 'second', 'alike'),
    [
        ({}, dict(bands=[1, 2, 3], size=96), True),
        (dict(value_range=(0, 9)), dict(value_range=((0, 9.0),) * 3), True),
        (dict(value_range=(0, 9)), dict(value_range=((0, 9), (0, 9), (0, 8))), False),
        (dict(value_range=(0, 255)), {}, False),
        (dict(nodata=float('nan')), dict(nodata=float('nan')), True),
        (dict(nodata=0), {}, False),
        (dict(bands=[3, 2, 1]), {}, False),
        (dict(num_bands=4), {}, False),
        (dict(gsd=10), dict(gsd=10.0), True),
        (dict(gsd=10), {}, False),
        (dict(quality=dict(file='a', values=[1])), {}, True),
    ],
)
def test_readings_alike(first, second, alike):
    assert Reading(**first).is_like(Reading(**second)) == alike
