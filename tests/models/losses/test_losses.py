# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from cmid_mm.models.losses import FocalFrequencyLoss, FocalL1Loss, focal_l1


def test_focal_l1_elementwise_matches_vectors(vectors):
    data = vectors('reconstruction')
    expected = vectors('focal_l1')['focal_l1_elementwise']
    loss = focal_l1(data['pred'], data['target'], beta=0.2, gamma=1.0)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-8)


def test_frequency_loss_matches_vectors(vectors):
    data = vectors('reconstruction')
    loss = FocalFrequencyLoss()(data['pred'], data['target'])
    torch.testing.assert_close(
        loss.double(), data['focal_frequency_plain'], rtol=1e-5, atol=0
    )


def test_focal_l1_averages_over_masked_pixels_only():
    pred, target = torch.zeros(1, 2, 4, 4), torch.full((1, 2, 4, 4), 3.0)
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    loss = FocalL1Loss()(pred, target, mask)
    expected = 3 * torch.tanh(torch.tensor(0.3))
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    target[..., 2:] = 100.0  # outside the mask
    torch.testing.assert_close(FocalL1Loss()(pred, target, mask), loss)


def test_gamma_zero_is_plain_l1():
    pred, target = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    mask = torch.ones(2, 1, 4, 4)
    loss = FocalL1Loss(gamma=0)(pred, target, mask)
    torch.testing.assert_close(loss, (pred - target).abs().mean(), rtol=1e-5, atol=0)


def test_frequency_loss_of_one_wave_has_its_closed_form():
    # cos with amplitude a has two Fourier coefficients of modulus a / 2 * sqrt(HW),
    # both the maximum: weight 1, D^2 = a^2 HW / 4, twice, averaged over HW.
    wave = torch.cos(2 * torch.pi * 3 * torch.arange(16) / 16).expand(1, 1, 16, 16)
    loss = FocalFrequencyLoss()(2.0 * wave, torch.zeros(1, 1, 16, 16))
    torch.testing.assert_close(loss, torch.tensor(2.0), rtol=1e-5, atol=0)


def test_equal_images_give_zero_not_nan():
    image = torch.randn(2, 3, 8, 8, requires_grad=True)
    loss = FocalFrequencyLoss()(image, image.detach())
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(image.grad).all()


def test_batch_mean_compares_mean_spectra_and_per_image_does_not():
    pred = torch.randn(1, 3, 8, 8)
    opposite = torch.cat((pred, -pred))
    target = torch.zeros(2, 3, 8, 8)
    assert FocalFrequencyLoss('batch_mean')(opposite, target).item() < 1e-10
    single = FocalFrequencyLoss('batch_mean')(pred, target[:1])
    per_image = FocalFrequencyLoss('per_image')(opposite, target)
    torch.testing.assert_close(per_image, single)


def test_unknown_spectrum_is_refused():
    with pytest.raises(ValueError, match="'batch_mean' or 'per_image'"):
        FocalFrequencyLoss('mean')
