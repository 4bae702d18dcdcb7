# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS
from torch import nn

from cmid_mm.evaluation.dense import DenseEncoder
from cmid_mm.evaluation.dense.encoder import (
    band_statistics,
    cell_labels,
    pixel_scores,
)

from .made import toy_network, windows_of, write_tiles


def test_a_cell_has_the_class_of_most_of_its_pixels():
    mask = torch.zeros(40, 32, dtype=torch.uint8)
    mask[:16, :9] = 1  # 9 of 16 columns of the first cell
    mask[16:32, 16:25] = 255
    labels = cell_labels(mask, (4, 2), 2, 32)  # padded to 64 x 32
    assert labels.tolist() == [[1, 0], [0, 255], [0, 0], [255, 255]]


def test_stages_are_those_of_a_network_that_gives_them():
    image = torch.rand(3, 70, 90) * 255
    model = toy_network().eval()
    chosen = DenseEncoder(model, (1, 3))(image)
    assert chosen.shape == (16 + 64, 12, 12)  # 96 x 96 at stride 8
    built = toy_network((1, 3)).eval()
    built.load_state_dict(model.state_dict())
    torch.testing.assert_close(chosen, DenseEncoder(built)(image), rtol=0, atol=0)
    # And the network is what it was.
    assert DenseEncoder(model)(image).shape == (64, 3, 3)


def test_a_reduced_image_is_means_of_squares():
    image = torch.rand(3, 128, 192) * 255
    model = toy_network().eval()
    encoder = DenseEncoder(model, (1, 3), reduction=2)
    smaller = image.unflatten(2, (96, 2)).unflatten(1, (64, 2)).mean((2, 4))
    torch.testing.assert_close(encoder(image), DenseEncoder(model, (1, 3))(smaller))
    # A position at stride 8 stands for 16 pixels, and those at the edge are padded.
    assert encoder(image[:, :100]).shape[1:] == (8, 12)
    mask = torch.zeros(100, 192, dtype=torch.uint8)
    mask[80:] = 1
    labels = cell_labels(mask, (8, 12), 2, encoder.cell)
    assert labels[:, 0].tolist() == [0, 0, 0, 0, 0, 1, 255, 255]


@pytest.mark.parametrize(
    'backbone',
    [
        dict(type='SwinTransformer', arch='tiny', pad_small_map=True),
        dict(type='ConvNeXt', arch='atto', gap_before_final_norm=False),
    ],
    ids=lambda backbone: backbone['type'],
)
def test_stages_without_a_normalisation_of_their_own(backbone):
    model = nn.Module()
    model.backbone = MODELS.build(backbone)
    model.eval()
    model.data_preprocessor = toy_network().data_preprocessor
    names = [name for name, _ in model.named_modules()]
    image = torch.rand(3, 64, 64) * 255
    features = DenseEncoder(model, (1, 3))(image)
    last = DenseEncoder(model)(image)
    assert features.shape[1:] == (8, 8)
    enlarged = F.interpolate(last[None], (8, 8), mode='bilinear')[0]
    torch.testing.assert_close(features[-len(last) :], enlarged)
    assert [name for name, _ in model.named_modules()] == names


@pytest.mark.parametrize('height', [70, 112])
def test_cells_that_do_not_divide_32_lie_where_they_are(height):
    model = nn.Module()
    model.backbone = MODELS.build(
        dict(
            type='VisionTransformer',
            arch='deit-tiny',
            img_size=224,
            patch_size=14,
            out_type='featmap',
        )
    )
    model.eval()
    model.data_preprocessor = toy_network().data_preprocessor
    encoder = DenseEncoder(model)
    mask = torch.zeros(height, 90, dtype=torch.uint8)
    mask[28:56] = 1
    features = encoder(torch.rand(3, height, 90) * 255)
    labels = cell_labels(mask, features.shape[1:], 2, encoder.cell)
    rows = -(-height // 14)
    assert features.shape[1:] == labels.shape == (rows, 7)
    assert labels[:, 0].tolist() == [int(row in (2, 3)) for row in range(rows)]
    scores = F.one_hot(labels.clamp(max=1), 2).permute(2, 0, 1).float()
    found = pixel_scores(scores, *mask.shape, encoder.cell).argmax(0)
    assert found.shape == mask.shape
    assert (found == mask)[:, :70].all()  # the last column is not known


def test_a_stage_that_is_not_there():
    with pytest.raises(ValueError, match=r'ResNet gives .* of the stages \(3, 4\)'):
        DenseEncoder(toy_network().eval(), (3, 4))(torch.rand(3, 32, 32))


def test_normalising_by_the_target(tmp_path):
    windows = windows_of(write_tiles(tmp_path))
    mean, std = band_statistics(windows)
    pixels = torch.cat([image.flatten(1) for _, image, _ in windows], 1).double()
    torch.testing.assert_close(mean.double(), pixels.mean(1), rtol=1e-5, atol=0)
    torch.testing.assert_close(
        std.double(), pixels.std(1, unbiased=False), rtol=1e-4, atol=0
    )
    _, image, _ = next(iter(windows))
    model = toy_network().eval()
    by_target = DenseEncoder(model, band_mean=mean, band_std=std)
    # The same network on an image that has the pre-training's statistics already.
    standard = (image - mean.view(-1, 1, 1)) / std.view(-1, 1, 1) * 50 + 100
    torch.testing.assert_close(
        by_target(image), DenseEncoder(model)(standard), rtol=1e-3, atol=1e-4
    )
