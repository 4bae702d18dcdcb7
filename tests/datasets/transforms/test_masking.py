# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from cmid_mm.datasets.transforms import MaskPair


@pytest.mark.parametrize(
    'size, patch, ratio, masked',
    [(224, 32, 0.6, 30), (224, 16, 0.6, 118), (320, 32, 0.7, 70), (64, 32, 0, 0)],
)
def test_exact_number_of_masked_cells(size, patch, ratio, masked):
    transform = MaskPair(size, patch, ratio)
    for _ in range(5):
        masks = transform({})['masks']
        assert masks.shape == (2, size // patch, size // patch)
        assert masks.dtype == bool
        assert masks.sum(axis=(1, 2)).tolist() == [masked, masked]


def test_every_cell_is_equally_likely_and_views_differ():
    np.random.seed(0)
    transform = MaskPair(224)
    masks = np.stack([transform({})['masks'] for _ in range(2000)])
    frequency = masks.mean(axis=(0, 1))
    np.testing.assert_allclose(frequency, 30 / 49, atol=0.04)
    agreement = (masks[:, 0] == masks[:, 1]).mean()
    share = 30 / 49
    assert abs(agreement - (share**2 + (1 - share) ** 2)) < 0.01


@pytest.mark.parametrize(('ratio', 'patch_size'), [(1.0, 32), (0.9, 32), (0.3, 96)])
def test_a_mask_that_leaves_nothing_to_see_is_refused(ratio, patch_size):
    with pytest.raises(ValueError, match='nothing would be seen'):
        MaskPair(96, patch_size, ratio)
    assert MaskPair(96, 32, 8 / 9).num_masked == 8


def test_settings_out_of_range():
    with pytest.raises(ValueError, match='multiple of patch_size'):
        MaskPair(230)
    with pytest.raises(ValueError, match='ratio'):
        MaskPair(224, ratio=1.5)
