# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from cmid_mm.models.data_preprocessor import ViewPairPreprocessor, upsample_mask
from tests.toy import toy_batch


def test_views_are_normalised_and_masked_with_their_own_mean():
    preprocessor = ViewPairPreprocessor(mean=[10.0, 20.0], std=[2.0, 4.0])
    batch = toy_batch(bands=2)
    views = preprocessor(batch)
    raw = batch['inputs'][:, 1].float()
    expected = torch.stack(((raw[:, 0] - 10) / 2, (raw[:, 1] - 20) / 4), 1)
    torch.testing.assert_close(views['images'][1], expected)
    masked, pixels = (
        views['masked_images'][1],
        upsample_mask(batch['masks'][:, 1], (64, 64)),
    )
    pixels = pixels.expand_as(expected)
    torch.testing.assert_close(masked[~pixels], expected[~pixels])
    mean = expected.mean((2, 3), keepdim=True).expand_as(expected)
    torch.testing.assert_close(masked[pixels], mean[pixels])


def test_zero_fill():
    preprocessor = ViewPairPreprocessor([0.0] * 3, [1.0] * 3, mask_fill='zero')
    masks = torch.ones(1, 2, 2, dtype=torch.bool)
    assert preprocessor.fill_masked(torch.randn(1, 3, 8, 8), masks).abs().max() == 0


def test_channels_last_changes_the_layout_not_the_values():
    batch = toy_batch()
    args = dict(mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0])
    plain = ViewPairPreprocessor(**args)(batch)
    last = ViewPairPreprocessor(**args, channels_last=True)(batch)
    for name in ('images', 'masked_images'):
        assert last[name][0].is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(last[name][0], plain[name][0], rtol=1e-6, atol=1e-6)


def test_upsampling_keeps_whole_cells():
    mask = torch.tensor([[[True, False], [False, True]]])
    expected = torch.kron(mask[0].float(), torch.ones(3, 3)).bool()
    assert torch.equal(upsample_mask(mask, (6, 6))[0, 0], expected)


def test_wrong_band_count_names_both_counts():
    preprocessor = ViewPairPreprocessor([0.0] * 4, [1.0] * 4)
    with pytest.raises(ValueError, match='3 bands.*mean for 4'):
        preprocessor(toy_batch(bands=3))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(std=[1.0]), 'mean has 3 bands, std 1'),
        (dict(std=[1.0, 0.0, 1.0]), 'std must be positive'),
        (dict(mask_fill='median'), "'mean' or 'zero'"),
    ],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        ViewPairPreprocessor(**{'mean': [0.0] * 3, 'std': [1.0] * 3, **changes})
