# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from cmid_mm.models.data_preprocessor import (
    SelfSupViewPreprocessor,
    ViewPairPreprocessor,
    upsample_mask,
)
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


# -- For mmpretrain's algorithms ---------------------------------------------------

PIXELS = dict(mean=[10.0, 20.0], std=[2.0, 4.0])


def test_selfsup_views_are_the_teachers():
    batch = toy_batch(bands=2)
    data = SelfSupViewPreprocessor(**PIXELS)(batch)
    assert data['data_samples'] is None
    expected = ViewPairPreprocessor(**PIXELS)(batch)['images']
    assert isinstance(data['inputs'], list)
    for view, image in zip(data['inputs'], expected, strict=True):
        assert torch.equal(view, image)


def test_selfsup_views_one_after_the_other():
    batch = toy_batch(bands=2)
    preprocessor = SelfSupViewPreprocessor(
        **PIXELS, stack_views=True, mask_stride=4, channels_last=True
    )
    data = preprocessor(batch)
    expected = torch.cat(ViewPairPreprocessor(**PIXELS)(batch)['images'])
    torch.testing.assert_close(data['inputs'], expected)
    assert data['inputs'].is_contiguous(memory_format=torch.channels_last)
    # Samples 0-3 are the first views, 4-7 the second ones, each with its own mask.
    assert len(data['data_samples']) == 8
    for index, sample in enumerate(data['data_samples']):
        cells = batch['masks'][index % 4, index // 4]
        expected = torch.kron(cells.float(), torch.ones(4, 4))
        assert torch.equal(sample.mask, expected)


def test_selfsup_without_masks_and_of_plain_images():
    batch = toy_batch(bands=2)
    preprocessor = SelfSupViewPreprocessor(**PIXELS, stack_views=True)
    assert preprocessor(batch)['data_samples'] is None
    images = batch['inputs'][:, 0]
    data = preprocessor(dict(inputs=images))
    assert torch.equal(data['inputs'], preprocessor.normalize(images))


def test_selfsup_masks_need_stacked_views():
    with pytest.raises(ValueError, match='mask_stride needs stack_views=True'):
        SelfSupViewPreprocessor(**PIXELS, mask_stride=4)
