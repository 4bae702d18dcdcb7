# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from cmid_mm.models.data_preprocessor import upsample_mask
from cmid_mm.models.heads import ReconstructionHead


def test_loss_and_gradient_match_vectors(vectors):
    data = vectors('reconstruction')
    head = ReconstructionHead(in_channels=4)
    pred = data['pred'].requires_grad_()
    pixels = upsample_mask(data['mask'].bool(), (64, 64)).float()
    spatial = head.spatial_loss(pred, data['target'], pixels)
    mixed = head.mix_visible(pred, data['target'], pixels)
    total = spatial + head.frequency_loss(mixed, data['target'])
    total.backward()
    torch.testing.assert_close(
        spatial.double(), data['spatial_loss'], rtol=1e-5, atol=0
    )
    torch.testing.assert_close(total.double(), data['total_loss'], rtol=1e-5, atol=0)
    scale = data['grad_pred'].abs().max()
    torch.testing.assert_close(
        pred.grad / scale, data['grad_pred'] / scale, rtol=1e-5, atol=1e-6
    )


def test_decoder_restores_the_image_grid():
    head = ReconstructionHead(in_channels=8, stride=16, num_bands=5)
    assert head(torch.randn(2, 8, 3, 4)).shape == (2, 5, 48, 64)
    # One position of the feature map decides one block of the image.
    features = torch.zeros(1, 8, 3, 4)
    base = head(features)
    features[0, :, 1, 2] = 1.0
    changed = (head(features) != base).any(1)[0]
    rows, columns = changed.nonzero().T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (16, 31, 32, 47)


@pytest.mark.parametrize(('visible_weight', 'mixed'), [(0.5, 2.5), (0.0, 3.0)])
def test_weight_of_visible_pixels(visible_weight, mixed):
    """Midway to the target of 4, which needs no gradient, plus a part of the rest."""
    head = ReconstructionHead(8, visible_weight=visible_weight)
    pred = torch.full((1, 3, 1, 2), 2.0, requires_grad=True)
    masked = torch.tensor([[[[1.0, 0.0]]]])
    found = head.mix_visible(pred, torch.full_like(pred, 4.0), masked)
    assert found[0, 0, 0].tolist() == [2.0, mixed]
    found.sum().backward()
    assert pred.grad[0, 0, 0].tolist() == [1.0, visible_weight]
